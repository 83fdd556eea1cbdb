package models

import (
	"fmt"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `c1`, Examples: []string{"c1"}, Input: cifar, Build: c1,
		Doc: "two 5x5 convolutions and three linear layers (Yao et al. 2018, HessianFlow's c1)"})
	register(Family{Pattern: `c2`, Examples: []string{"c2"}, Input: cifar, Build: c2,
		Doc: "four 3x3 convolutions and three linear layers (Yao et al. 2018, HessianFlow's c2)"})
	register(Family{Pattern: `2conv3dense`, Examples: []string{"2conv3dense"}, Input: cifar, Build: twoConvThreeDense,
		Doc: "two 5x5 convolutions and three linear layers, not normalised (Balles et al. 2017, CABS)"})
}

func c1(n *graph.Network, _ []int) (graph.Value, error) {
	x := n.In()
	for i := 1; i <= 2; i++ {
		x = convReLUNorm(n, i, x, 64, graph.Square(5, 1, 2))
		x = n.MaxPool(x, graph.Square(3, 2, 1))
	}
	return classifier(n, x, 384, 192), nil
}

func c2(n *graph.Network, _ []int) (graph.Value, error) {
	x := n.In()
	for i, k := range []int{64, 64, 128, 128} {
		x = convReLUNorm(n, i+1, x, k, graph.Square(3, 1, 0))
		if i%2 == 1 {
			x = n.MaxPool(x, graph.Square(2, 2, 0))
		}
	}
	return classifier(n, x, 256, 256), nil
}

// twoConvThreeDense is c1 without normalisation. CABS cut its images to 24x24 and pooled with
// TensorFlow's padding at the end only; the padding on both sides, as in c1, and PyTorch's default
// start of weights and biases are ours.
func twoConvThreeDense(n *graph.Network, _ []int) (graph.Value, error) {
	x := n.In()
	for i := 1; i <= 2; i++ {
		x = n.Conv2D(fmt.Sprintf("conv%d", i), x, 64, graph.Square(5, 1, 2), graph.ConvOptions{Bias: true, Init: graph.UniformFanIn})
		x = n.MaxPool(n.ReLU(x), graph.Square(3, 2, 1))
	}
	return classifier(n, x, 384, 192), nil
}

// convReLUNorm normalises after ReLU, as HessianFlow's networks do. The weights start as PyTorch's
// do by default.
func convReLUNorm(n *graph.Network, i int, x graph.Value, k int, w graph.Window) graph.Value {
	o := graph.ConvOptions{Bias: true, Init: graph.UniformFanIn}
	return n.BatchNorm(fmt.Sprintf("bn%d", i), n.ReLU(n.Conv2D(fmt.Sprintf("conv%d", i), x, k, w, o)))
}

func classifier(n *graph.Network, x graph.Value, widths ...int) graph.Value {
	for i, k := range widths {
		x = n.ReLU(n.Linear(fmt.Sprintf("fc%d", i+1), x, k))
	}
	return n.Linear(fmt.Sprintf("fc%d", len(widths)+1), x, n.Classes)
}
