package models

import (
	"fmt"
	"math"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `nf-resnet(50|101)`, Examples: []string{"nf-resnet50", "nf-resnet101"},
		Doc:   "normaliser-free ResNet for 224x224 images (Brock, De and Smith 2021)",
		Input: graph.Dims{H: 224, W: 224, C: 3},
		Build: func(n *graph.Network, sizes []int) (graph.Value, error) { return imageNetNF(n, sizes[0]), nil }})
	register(Family{Pattern: `nf-resnet(\d+)`, Examples: []string{"nf-resnet8", "nf-resnet20", "nf-resnet56"},
		Doc:   "the same of depth 6n+2 with basic blocks, for 32x32 images",
		Input: cifar, Build: cifarNF})
}

// A normaliser-free ResNet keeps the variance of its activations by design. Its convolutions have standardised weights,
// times what makes a ReLU's output of unit variance again. A block adds nfAlpha of its branch to its input, so that the
// variance grows by nfAlpha^2 with each, and the branch starts from an activation divided by the square root of what it
// has grown to; a block that changes the shape resets it to 1. The last gain of a branch starts at 0, so that blocks
// start as the identity.
const (
	nfAlpha  = 0.2
	reluGain = 1.7139588594436646 // 1/std of max(0, z) for normal z, as the authors' code has it
)

// nfBranch adds the convolutions of a block's branch. a is an activation; scale times it has unit variance.
type nfBranch func(n *graph.Network, name string, a graph.Value, width, stride int, scale float64) graph.Value

func imageNetNF(n *graph.Network, depth int) graph.Value {
	x := nfConv(n, "conv1", n.In(), 64, graph.Square(7, 2, 3), 1)
	x = n.MaxPool(x, graph.Square(3, 2, 1))
	for stage, count := range map[int][]int{50: {3, 4, 6, 3}, 101: {3, 4, 23, 3}}[depth] {
		x = nfStage(n, fmt.Sprintf("layer%d", stage+1), x, nfBottleneck, 256<<stage, count, min(stage, 1)+1)
	}
	return n.Linear("fc", n.GlobalAvgPool(n.ReLU(x)), n.Classes)
}

func cifarNF(n *graph.Network, sizes []int) (graph.Value, error) {
	depth := sizes[0]
	if depth < 8 || depth > 1202 || (depth-2)%6 != 0 {
		return 0, fmt.Errorf("depth %d is not 6n+2 (8, 14, 20, 32, 44, 56, 110, ...), nor one of 50, 101", depth)
	}
	x := nfConv(n, "conv1", n.In(), 16, graph.Square(3, 1, 1), 1)
	for stage, width := range []int{16, 32, 64} {
		x = nfStage(n, fmt.Sprintf("layer%d", stage+1), x, nfBasic, width, (depth-2)/6, min(stage, 1)+1)
	}
	return n.Linear("fc", n.GlobalAvgPool(n.ReLU(x)), n.Classes), nil
}

func nfStage(n *graph.Network, name string, x graph.Value, branch nfBranch, width, count, stride int) graph.Value {
	variance := 1.0 // of x, as blocks leave it
	for i := range count {
		x = nfBlock(n, fmt.Sprintf("%s.%d", name, i), x, branch, width, stride, reluGain/math.Sqrt(variance))
		if i == 0 {
			variance = 1
		}
		variance += nfAlpha * nfAlpha
		stride = 1
	}
	return x
}

// nfBlock is a pre-activation block; where the shape changes, the shortcut starts from the activation too.
func nfBlock(n *graph.Network, name string, x graph.Value, branch nfBranch, width, stride int, scale float64) graph.Value {
	a, shortcut := n.ReLU(x), x
	if stride != 1 || n.Dims(x).C != width {
		shortcut = nfConv(n, name+".downsample", a, width, graph.Square(1, stride, 0), scale)
	}
	return n.AddScaled(nfAlpha, branch(n, name, a, width, stride, scale), shortcut)
}

func nfBasic(n *graph.Network, name string, a graph.Value, width, stride int, scale float64) graph.Value {
	y := n.ReLU(nfConv(n, name+".conv1", a, width, graph.Square(3, stride, 1), scale))
	return nfLast(n, name+".conv2", y, width, graph.Square(3, 1, 1))
}

func nfBottleneck(n *graph.Network, name string, a graph.Value, width, stride int, scale float64) graph.Value {
	y := n.ReLU(nfConv(n, name+".conv1", a, width/4, graph.Square(1, 1, 0), scale))
	y = n.ReLU(nfConv(n, name+".conv2", y, width/4, graph.Square(3, stride, 1), reluGain))
	return nfLast(n, name+".conv3", y, width, graph.Square(1, 1, 0))
}

func nfConv(n *graph.Network, name string, x graph.Value, k int, w graph.Window, scale float64) graph.Value {
	return n.Conv2D(name, x, k, w, graph.ConvOptions{Bias: true, Standardize: scale})
}

// nfLast is the last convolution of a branch, whose gain starts at 0.
func nfLast(n *graph.Network, name string, x graph.Value, k int, w graph.Window) graph.Value {
	return n.Conv2D(name, x, k, w, graph.ConvOptions{Bias: true, Standardize: reluGain, ZeroGain: true})
}
