package models

import (
	"fmt"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `wrn-(\d+)-(\d+)`, Examples: []string{"wrn-16-2", "wrn-16-4", "wrn-28-10"},
		Doc:   "WideResNet-depth-width, pre-activation (Zagoruyko and Komodakis 2016)",
		Input: cifar, Build: wideResNet})
}

func wideResNet(n *graph.Network, sizes []int) (graph.Value, error) {
	depth, width := sizes[0], sizes[1]
	if depth < 10 || depth > 1000 || (depth-4)%6 != 0 || width < 1 || width > 64 {
		return 0, fmt.Errorf("depth %d must be 6n+4 (10, 16, 22, 28, ...) and width %d between 1 and 64", depth, width)
	}
	x := conv3x3(n, "conv1", n.In(), 16, 1)
	for stage := range 3 {
		stride := min(stage, 1) + 1
		for i := range (depth - 4) / 6 {
			x = preactivationBlock(n, fmt.Sprintf("layer%d.%d", stage+1, i), x, 16*width<<stage, stride)
			stride = 1
		}
	}
	x = n.ReLU(n.BatchNorm("bn", x))
	return n.Linear("fc", n.GlobalAvgPool(x), n.Classes), nil
}

// preactivationBlock normalises before it convolves; where the shape changes, the shortcut starts
// from the activated input.
func preactivationBlock(n *graph.Network, name string, x graph.Value, k, stride int) graph.Value {
	a := n.ReLU(n.BatchNorm(name+".bn1", x))
	shortcut := x
	if stride != 1 || n.Dims(x).C != k {
		shortcut = conv1x1(n, name+".shortcut", a, k, stride)
	}
	y := conv3x3(n, name+".conv1", a, k, stride)
	y = conv3x3(n, name+".conv2", n.ReLU(n.BatchNorm(name+".bn2", y)), k, 1)
	return n.Add(y, shortcut)
}
