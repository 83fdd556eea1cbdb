package models

import (
	"fmt"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `vgg(11|13|16|19)`, Examples: []string{"vgg11", "vgg13", "vgg16", "vgg19"},
		Doc:   "VGG with batch normalisation for 224x224 images, three linear layers with dropout (Simonyan and Zisserman 2015)",
		Input: graph.Dims{H: 224, W: 224, C: 3},
		Build: func(n *graph.Network, sizes []int) (graph.Value, error) {
			x := vggFeatures(n, sizes[0])
			x = n.Dropout(n.ReLU(n.Linear("classifier.0", x, 4096)), 0.5)
			x = n.Dropout(n.ReLU(n.Linear("classifier.3", x, 4096)), 0.5)
			return n.Linear("classifier.6", x, n.Classes), nil
		}})
	register(Family{Pattern: `vgg(11|13|16|19)-cifar`, Examples: []string{"vgg11-cifar", "vgg13-cifar", "vgg16-cifar", "vgg19-cifar"},
		Doc:   "the same with a single linear layer, for 32x32 images",
		Input: cifar,
		Build: func(n *graph.Network, sizes []int) (graph.Value, error) {
			return n.Linear("classifier", vggFeatures(n, sizes[0]), n.Classes), nil
		}})
}

// vggFeatures are five groups of 3x3 convolutions, each group followed by a pooling. Names and the
// biases in front of the normalisations are those of torchvision's vggN_bn, as is the weights' start;
// there the biases start at 0, here as PyTorch's do by default, which the normalisation undoes.
func vggFeatures(n *graph.Network, depth int) graph.Value {
	counts := map[int][]int{11: {1, 1, 2, 2, 2}, 13: {2, 2, 2, 2, 2}, 16: {2, 2, 3, 3, 3}, 19: {2, 2, 4, 4, 4}}[depth]
	x, layer := n.In(), 0
	for group, width := range []int{64, 128, 256, 512, 512} {
		for range counts[group] {
			x = n.Conv2D(fmt.Sprintf("features.%d", layer), x, width, graph.Square(3, 1, 1), graph.ConvOptions{Bias: true})
			x = n.ReLU(n.BatchNorm(fmt.Sprintf("features.%d", layer+1), x))
			layer += 3
		}
		x = n.MaxPool(x, graph.Square(2, 2, 0))
		layer++
	}
	return x
}
