package models

import (
	"fmt"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `resnet(18|34|50|101)`, Examples: []string{"resnet18", "resnet34", "resnet50", "resnet101"},
		Doc:   "ResNet for 224x224 images: 7x7/2 stem, max pooling (He et al. 2015)",
		Input: graph.Dims{H: 224, W: 224, C: 3},
		Build: func(n *graph.Network, sizes []int) (graph.Value, error) {
			return imageNetResNet(n, sizes[0], false), nil
		}})
	register(Family{Pattern: `resnet(18|34|50|101)-cifar`, Examples: []string{"resnet18-cifar", "resnet34-cifar", "resnet50-cifar", "resnet101-cifar"},
		Doc:   "the same with a 3x3 stem and no pooling, for 32x32 images",
		Input: cifar,
		Build: func(n *graph.Network, sizes []int) (graph.Value, error) {
			return imageNetResNet(n, sizes[0], true), nil
		}})
	register(Family{Pattern: `resnet(\d+)`, Examples: []string{"resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"},
		Doc:   "ResNet-(6n+2) for 32x32 images, projection shortcuts (He et al. 2015, section 4.2)",
		Input: cifar,
		Build: cifarResNet})
}

// cifarResNet is ResNet-(6n+2): three stages of n basic blocks with 16, 32 and 64 channels.
func cifarResNet(n *graph.Network, sizes []int) (graph.Value, error) {
	depth := sizes[0]
	if depth < 8 || depth > 1202 || (depth-2)%6 != 0 {
		return 0, fmt.Errorf("depth %d is not 6n+2 (8, 14, 20, 32, 44, 56, 110, ...), nor one of 9, 18, 34, 50, 101", depth)
	}
	x := n.ReLU(n.BatchNorm("bn1", conv3x3(n, "conv1", n.In(), 16, 1)))
	for stage, width := range []int{16, 32, 64} {
		x = residualStage(n, fmt.Sprintf("layer%d", stage+1), x, basicBlock, width, (depth-2)/6, min(stage, 1)+1)
	}
	return n.Linear("fc", n.GlobalAvgPool(x), n.Classes), nil
}

// imageNetResNet is the four-stage ResNet of 18, 34, 50 or 101 layers, with torchvision's names.
func imageNetResNet(n *graph.Network, depth int, smallStem bool) graph.Value {
	blocks := map[int][]int{18: {2, 2, 2, 2}, 34: {3, 4, 6, 3}, 50: {3, 4, 6, 3}, 101: {3, 4, 23, 3}}[depth]
	block := basicBlock
	if depth >= 50 {
		block = bottleneck
	}
	var x graph.Value
	if smallStem {
		x = n.ReLU(n.BatchNorm("bn1", conv3x3(n, "conv1", n.In(), 64, 1)))
	} else {
		x = n.ReLU(n.BatchNorm("bn1", n.Conv2D("conv1", n.In(), 64, graph.Square(7, 2, 3), graph.ConvOptions{})))
		x = n.MaxPool(x, graph.Square(3, 2, 1))
	}
	for stage, count := range blocks {
		x = residualStage(n, fmt.Sprintf("layer%d", stage+1), x, block, 64<<stage, count, min(stage, 1)+1)
	}
	return n.Linear("fc", n.GlobalAvgPool(x), n.Classes)
}

type residualBlock func(n *graph.Network, name string, x graph.Value, width, stride int) graph.Value

func residualStage(n *graph.Network, name string, x graph.Value, block residualBlock, width, count, stride int) graph.Value {
	for i := range count {
		x = block(n, fmt.Sprintf("%s.%d", name, i), x, width, stride)
		stride = 1
	}
	return x
}

func basicBlock(n *graph.Network, name string, x graph.Value, width, stride int) graph.Value {
	y := n.ReLU(n.BatchNorm(name+".bn1", conv3x3(n, name+".conv1", x, width, stride)))
	y = n.BatchNorm(name+".bn2", conv3x3(n, name+".conv2", y, width, 1))
	return n.ReLU(n.Add(y, projection(n, name, x, width, stride)))
}

// bottleneck strides in its 3x3 convolution, as torchvision does (ResNet v1.5).
func bottleneck(n *graph.Network, name string, x graph.Value, width, stride int) graph.Value {
	y := n.ReLU(n.BatchNorm(name+".bn1", conv1x1(n, name+".conv1", x, width, 1)))
	y = n.ReLU(n.BatchNorm(name+".bn2", conv3x3(n, name+".conv2", y, width, stride)))
	y = n.BatchNorm(name+".bn3", conv1x1(n, name+".conv3", y, 4*width, 1))
	return n.ReLU(n.Add(y, projection(n, name, x, 4*width, stride)))
}

// projection is the shortcut: the identity, or a 1x1 convolution where the shape changes.
func projection(n *graph.Network, name string, x graph.Value, k, stride int) graph.Value {
	if stride == 1 && n.Dims(x).C == k {
		return x
	}
	return n.BatchNorm(name+".downsample.1", conv1x1(n, name+".downsample.0", x, k, stride))
}
