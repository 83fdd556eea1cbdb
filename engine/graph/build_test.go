package graph

import (
	"strings"
	"testing"
)

func TestUnreadLayersAreRefused(t *testing.T) {
	n := New("net", Dims{1, 1, 4}, 3)
	y := n.Linear("fc", n.In(), 3)
	n.ReLU(y)
	if _, err := n.Build(y); err == nil || !strings.Contains(err.Error(), "must be read") {
		t.Errorf("error %v; want one about a layer that nobody reads", err)
	}
}

func TestFirstMistakeIsReported(t *testing.T) {
	n := New("net", Dims{4, 4, 3}, 2)
	x := n.Conv2D("a", n.In(), 8, Square(7, 1, 0), ConvOptions{})
	x = n.Conv2D("b", x, 8, Square(3, 1, 1), ConvOptions{Groups: 5})
	if _, err := n.Build(x); err == nil || !strings.Contains(err.Error(), "a: a convolution of 7x7") {
		t.Errorf("error %v; want one about convolution a", err)
	}
}

// x + BN(x) must keep its add: fused, one kernel would write two gradients to one place.
func TestShortcutAroundItsOwnNormIsNotFused(t *testing.T) {
	n := New("net", Dims{2, 2, 3}, 3)
	x := n.Conv2D("conv", n.In(), 3, Square(1, 1, 0), ConvOptions{})
	y := n.Add(n.BatchNorm("bn", x), x)
	n.Linear("fc", y, 3)
	adds := 0
	for _, node := range fuse(n.nodes) {
		if _, ok := node.op.(add); ok {
			adds++
		}
	}
	if adds != 1 {
		t.Errorf("%d adds after fusion; want 1", adds)
	}
}

func TestFusion(t *testing.T) {
	n := New("net", Dims{4, 4, 3}, 3)
	a := n.ReLU(n.BatchNorm("bn1", n.Conv2D("conv1", n.In(), 8, Square(3, 1, 1), ConvOptions{})))
	b := n.BatchNorm("bn2", n.Conv2D("conv2", a, 8, Square(3, 1, 1), ConvOptions{}))
	c := n.ReLU(n.Add(b, a))
	n.Linear("fc", n.GlobalAvgPool(n.ReLU(n.Conv2D("conv3", c, 8, Square(1, 1, 0), ConvOptions{Bias: true}))), 3)
	nodes := fuse(n.nodes)
	if len(nodes) != 7 {
		t.Fatalf("%d nodes after fusion; want 7", len(nodes))
	}
	if o, ok := nodes[3].op.(norm); !ok || !o.relu || len(nodes[3].in) != 2 {
		t.Errorf("node 3 is %+v; want a normalisation with residual and ReLU", nodes[3])
	}
	if o, ok := nodes[4].op.(product); !ok || !o.relu {
		t.Errorf("node 4 is %+v; want a convolution with ReLU", nodes[4])
	}
}
