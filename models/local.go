package models

import (
	"fmt"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `cafo3`, Examples: []string{"cafo3"}, Input: cifar, Build: cafo,
		Doc: "three random, frozen convolutional blocks, each with a linear head that learns alone (Zhao et al. 2023, CaFo)"})
	register(Family{Pattern: `local-mlp`, Examples: []string{"local-mlp"}, Input: graph.Dims{H: 28, W: 28, C: 1}, Build: localMLP,
		Doc: "three hidden layers of 512, each trained by a head of its own: no gradient passes between them"})
	register(Family{Pattern: `local-cnn`, Examples: []string{"local-cnn"}, Input: cifar, Build: localCNN,
		Doc: "three convolutions of 32, 64 and 128 channels, each trained by a head of its own: no gradient passes between them"})
}

// cafo is the cascade of CaFo: blocks of convolution, ReLU, pooling and normalisation that keep their random weights,
// and a linear head without bias on each. The authors normalise with an epsilon of 1e-4 and by the whole training set
// at once; here it is 1e-5 and by ghosts.
func cafo(n *graph.Network, _ []int) (graph.Value, error) {
	x := n.In()
	var features []graph.Value
	for i, k := range []int{32, 128, 512} {
		name := fmt.Sprintf("block%d.", i+1)
		x = n.ReLU(n.Conv2D(name+"conv", x, k, graph.Square(3, 1, 1), graph.ConvOptions{Bias: true, Init: graph.UniformFanIn}))
		x = n.BatchNorm(name+"bn", n.MaxPool(x, graph.Square(2, 2, 0)))
		features = append(features, n.Detach(x))
	}
	n.Freeze()
	return heads(n, features, n.LinearWithoutBias), nil
}

// heads adds a linear classifier to each of the values; all but the last have losses of their own.
func heads(n *graph.Network, features []graph.Value, linear func(string, graph.Value, int) graph.Value) (last graph.Value) {
	for i, x := range features {
		last = linear(fmt.Sprintf("head%d", i+1), x, n.Classes)
		if i < len(features)-1 {
			n.Local(last)
		}
	}
	return last
}

func localMLP(n *graph.Network, _ []int) (graph.Value, error) {
	x := n.In()
	var features []graph.Value
	for i := range 3 {
		if i > 0 {
			x = n.Detach(x)
		}
		x = n.ReLU(n.Estimated(n.Linear(fmt.Sprintf("fc%d", i+1), x, 512)))
		features = append(features, x)
	}
	return heads(n, features, n.Linear), nil
}

func localCNN(n *graph.Network, _ []int) (graph.Value, error) {
	x := n.In()
	var features []graph.Value
	for i, k := range []int{32, 64, 128} {
		if i > 0 {
			x = n.Detach(x)
		}
		y := n.Conv2D(fmt.Sprintf("conv%d", i+1), x, k, graph.Square(3, 1, 1), graph.ConvOptions{Bias: true, Init: graph.UniformFanIn})
		x = n.MaxPool(n.ReLU(n.Estimated(y)), graph.Square(2, 2, 0))
		features = append(features, x)
	}
	return heads(n, features, n.Linear), nil
}
