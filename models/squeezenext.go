package models

import (
	"fmt"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `squeezenext(\d+)`, Examples: []string{"squeezenext23"}, Input: cifar,
		Doc: "1.0-SqNxt-23 with a 3x3 stem for 32x32 images (Gholami et al. 2018)",
		Build: func(n *graph.Network, sizes []int) (graph.Value, error) {
			return squeezeNext(n, sizes[0], 1)
		}})
	register(Family{Pattern: `squeezenext(\d+)-(\d+)x`, Examples: []string{"squeezenext23-2x"}, Input: cifar,
		Doc: "the same with that many times the channels, as 2.0-SqNxt-23",
		Build: func(n *graph.Network, sizes []int) (graph.Value, error) {
			return squeezeNext(n, sizes[0], sizes[1])
		}})
}

// squeezeNext names its layers as luuuyi's SqueezeNext.PyTorch does, the code that later CIFAR work
// uses. Depth 7 is ours: a network for tests that has every kind of block.
func squeezeNext(n *graph.Network, depth, width int) (graph.Value, error) {
	blocks, known := map[int][]int{7: {1, 2, 1, 1}, 23: {6, 6, 8, 1}}[depth]
	if !known || width < 1 || width > 64 {
		return 0, fmt.Errorf("depth %d must be 23 (or 7, for trials) and width %d between 1 and 64", depth, width)
	}
	x := squeezeConv(n, "conv1", "bn1", n.In(), 64*width, graph.Square(3, 1, 1))
	for stage, count := range blocks {
		stride := min(stage, 1) + 1
		for i := range count {
			x = squeezeBlock(n, fmt.Sprintf("stage%d.%d", stage+1, i), x, 32*width<<stage, stride)
			stride = 1
		}
	}
	x = squeezeConv(n, "conv2", "bn2", x, 128*width, graph.Square(1, 1, 0))
	return n.Linear("linear", n.GlobalAvgPool(x), n.Classes), nil
}

// squeezeBlock narrows twice, convolves along the width and along the height, and widens. The
// reference applies ReLU to the sum too, which changes nothing: both terms come from a ReLU.
func squeezeBlock(n *graph.Network, name string, x graph.Value, k, stride int) graph.Value {
	in := n.Dims(x).C
	narrow := in / 2
	switch {
	case stride == 2:
		narrow = in
	case in > k:
		narrow = in / 4
	}
	y := x
	for i, layer := range []struct {
		k int
		w graph.Window
	}{
		{narrow, graph.Square(1, stride, 0)},
		{narrow / 2, graph.Square(1, 1, 0)},
		{narrow, graph.Window{R: 1, S: 3, StrideH: 1, StrideW: 1, PadW: 1}},
		{narrow, graph.Window{R: 3, S: 1, StrideH: 1, StrideW: 1, PadH: 1}},
		{k, graph.Square(1, 1, 0)},
	} {
		y = squeezeConv(n, fmt.Sprintf("%s.conv%d", name, i+1), fmt.Sprintf("%s.bn%d", name, i+1), y, layer.k, layer.w)
	}
	if stride != 1 || in != k {
		x = squeezeConv(n, name+".shortcut.0", name+".shortcut.1", x, k, graph.Square(1, stride, 0))
	}
	return n.Add(y, x)
}

// squeezeConv has a bias in front of its normalisation, as the reference has. Weights start as He et
// al.'s, which is ours.
func squeezeConv(n *graph.Network, conv, norm string, x graph.Value, k int, w graph.Window) graph.Value {
	return n.ReLU(n.BatchNorm(norm, n.Conv2D(conv, x, k, w, graph.ConvOptions{Bias: true})))
}
