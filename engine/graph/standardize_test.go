package graph_test

import (
	"math"
	"strings"
	"testing"

	"broadside/engine/graph"
	"broadside/kernels"
	"broadside/kernels/philox"
	"broadside/kernels/ref"
)

const reluGain = 1.7139588594436646 // 1/std of max(0, z) for normal z

// Standardised weights keep the variance of rectified normal numbers at 1, times the gain's square, whatever the
// weights' own mean and size; so does a convolution in groups.
func TestStandardizedWeightsKeepTheVariance(t *testing.T) {
	const samples, classes = 64, 64
	for _, groups := range []int{1, 4} {
		n := graph.New("one", graph.Dims{H: 4, W: 4, C: 32}, classes)
		x := n.Conv2D("conv", n.ReLU(n.In()), classes, graph.Square(4, 1, 0), graph.ConvOptions{Groups: groups, Standardize: reluGain})
		net, err := n.Build(x)
		if err != nil {
			t.Fatal(err)
		}
		b := &bench{t: t, dev: ref.New(), net: net, leaf: graph.Leaf{Capacity: samples, In: net.Input}}
		b.bases[graph.ParamBase], b.bases[graph.LeafBase] = b.alloc(net.ParamCells()), b.alloc(b.leaf.Cells())
		s := philox.NewStream(3, 77, 0, 0, 0)
		normal := func(count int, mean, std float64) []float32 {
			out := make([]float32, count)
			for i := range out {
				out[i] = float32(mean + std*s.Norm())
			}
			return out
		}
		b.bases[graph.LeafBase].WriteFloats(0, normal(samples*net.Input.Elems(), 0, 1))
		p := b.compile(graph.Options{N: samples, Frozen: true})
		for _, c := range []struct{ mean, std, gain float64 }{{0, 1, 1}, {5, 0.1, 1}, {-1, 3, 2}, {0, 1, 0}} {
			b.bases[graph.ParamBase].WriteFloats(net.Params[0].Offset, normal(net.Params[0].Size(), c.mean, c.std))
			gains := make([]float32, classes)
			for i := range gains {
				gains[i] = float32(c.gain)
			}
			b.bases[graph.ParamBase].WriteFloats(net.Params[1].Offset, gains)
			b.run(p.Forward...)
			sum := 0.0
			for _, v := range readDoubles(b.bases[graph.ArenaBase], int(p.Logits.Offset), samples*classes) {
				sum += v * v
			}
			// Four standard errors of a variance from this many numbers.
			if got, want := sum/(samples*classes), c.gain*c.gain; math.Abs(got-want) > 4*math.Sqrt(2./(samples*classes))*want {
				t.Errorf("%d groups, weights of mean %g and std %g, gain %g: outputs of variance %.4f; want %g", groups, c.mean, c.std, c.gain, got, want)
			}
		}
	}
}

// Where nothing is standardised, no call is spent on it.
func TestPlainConvolutionsCostNothing(t *testing.T) {
	n := graph.New("plain", graph.Dims{H: 4, W: 4, C: 2}, 3)
	net, err := n.Build(n.Linear("fc", n.ReLU(n.Conv2D("conv", n.In(), 4, graph.Square(3, 1, 1), graph.ConvOptions{})), 3))
	if err != nil {
		t.Fatal(err)
	}
	p, err := graph.Compile(net, graph.Leaf{Capacity: 2, In: net.Input}, graph.Options{N: 2, ParamGrads: true, Tangent: true}, ref.New())
	if err != nil {
		t.Fatal(err)
	}
	for _, calls := range [][]kernels.Call{p.Forward, p.Backward, p.TangentForward, p.TangentBackward} {
		for _, c := range calls {
			if k := c.Kernel.String(); strings.HasPrefix(k, "batchnorm") || c.Kernel == kernels.Axpby || c.Kernel == kernels.MaxPoolForward {
				t.Errorf("a call of %s", k)
			}
		}
	}
}

func TestWeightsThatCannotBeStandardized(t *testing.T) {
	for _, factor := range []float64{1, -1} {
		n := graph.New("net", graph.Dims{H: 2, W: 2, C: 1}, 4)
		x := n.Conv2D("a", n.In(), 4, graph.Square(1, 1, 0), graph.ConvOptions{Standardize: factor})
		if _, err := n.Build(n.GlobalAvgPool(x)); err == nil || !strings.Contains(err.Error(), "a: standardising 1 weights") {
			t.Errorf("factor %g: error %v; want one about standardising", factor, err)
		}
	}
}
