package models

import (
	"fmt"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `resnet9`, Examples: []string{"resnet9"}, Input: cifar, Build: resNet9,
		Doc: "DAWNBench's fast ResNet for 32x32 images (Page 2018, cifar10-fast; used by Gupta et al. 2020, SWAP)"})
}

// resNet9 is the network of Page's cifar10-fast: four convolutions, two residual pairs, logits divided
// by eight. The names are its own with dots between the levels. Ours is that the last pooling covers
// whatever is left of the image (4x4 for 32x32), and He's initialisation of the convolutions.
func resNet9(n *graph.Network, _ []int) (graph.Value, error) {
	x := convNormReLU(n, "prep", n.In(), 64)
	for i, width := range []int{128, 256, 512} {
		name := fmt.Sprintf("layer%d", i+1)
		x = n.MaxPool(convNormReLU(n, name, x, width), graph.Square(2, 2, 0))
		if i != 1 {
			y := convNormReLU(n, name+".residual.res1", x, width)
			x = n.Add(x, convNormReLU(n, name+".residual.res2", y, width))
		}
	}
	return n.Scale(n.LinearWithoutBias("linear", n.GlobalMaxPool(x), n.Classes), 0.125), nil
}

func convNormReLU(n *graph.Network, name string, x graph.Value, k int) graph.Value {
	return n.ReLU(n.BatchNorm(name+".bn", conv3x3(n, name+".conv", x, k, 1)))
}
