package models

import (
	"fmt"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `f1`, Examples: []string{"f1"}, Input: graph.Dims{H: 28, W: 28, C: 1}, Build: f1,
		Doc: "five hidden layers of 512 with batch normalisation (Keskar et al. 2017, F1)"})
	register(Family{Pattern: `mlp-(\d+)`, Examples: []string{"mlp-500"}, Input: graph.Dims{H: 28, W: 28, C: 1}, Build: mlp,
		Doc: "two hidden layers of so many units with ReLU and nothing else"})
}

func mlp(n *graph.Network, sizes []int) (graph.Value, error) {
	units := sizes[0]
	if units < 1 || units > 16384 {
		return 0, fmt.Errorf("%d units: want 1 to 16384", units)
	}
	x := n.ReLU(n.Linear("fc1", n.In(), units))
	return n.Linear("fc3", n.ReLU(n.Linear("fc2", x, units)), n.Classes), nil
}

func f1(n *graph.Network, _ []int) (graph.Value, error) {
	x := n.In()
	for i := 1; i <= 5; i++ {
		x = n.ReLU(n.BatchNorm(fmt.Sprintf("bn%d", i), n.Linear(fmt.Sprintf("fc%d", i), x, 512)))
	}
	return n.Linear("fc6", x, n.Classes), nil
}
