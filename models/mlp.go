package models

import (
	"fmt"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `f1`, Examples: []string{"f1"}, Input: graph.Dims{H: 28, W: 28, C: 1}, Build: f1,
		Doc: "five hidden layers of 512 with batch normalisation (Keskar et al. 2017, F1)"})
}

func f1(n *graph.Network, _ []int) (graph.Value, error) {
	x := n.In()
	for i := 1; i <= 5; i++ {
		x = n.ReLU(n.BatchNorm(fmt.Sprintf("bn%d", i), n.Linear(fmt.Sprintf("fc%d", i), x, 512)))
	}
	return n.Linear("fc6", x, n.Classes), nil
}
