package graph_test

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"testing"

	"broadside/engine/graph"
	"broadside/kernels"
	"broadside/kernels/philox"
	"broadside/kernels/ref"
)

// localBlocks is so many blocks of a hidden layer and a head. Where whole, every head has a loss of its own and no
// gradient passes between blocks; otherwise it is an ordinary network that ends in the last block's head.
func localBlocks(t *testing.T, blocks int, whole bool) *graph.Network {
	t.Helper()
	n := graph.New("local", graph.Dims{H: 1, W: 1, C: 6}, 4)
	x := n.In()
	var head graph.Value
	for i := 1; i <= blocks; i++ {
		x = n.ReLU(n.Estimated(n.Linear(fmt.Sprintf("fc%d", i), x, 7)))
		if !whole && i < blocks {
			continue
		}
		head = n.Linear(fmt.Sprintf("head%d", i), x, 4)
		if i < blocks {
			n.Local(head)
			x = n.Detach(x)
		}
	}
	net, err := n.Build(head)
	if err != nil {
		t.Fatal(err)
	}
	return net
}

const localSamples = 5

// localBench is a network in float64, with parameters that depend on their names alone.
func localBench(t *testing.T, net *graph.Network) *bench {
	t.Helper()
	b := &bench{t: t, dev: ref.New(), net: net, leaf: graph.Leaf{Capacity: localSamples, In: net.Input}}
	b.bases[graph.ParamBase], b.bases[graph.GradBase], b.bases[graph.LeafBase] = b.alloc(net.ParamCells()), b.alloc(net.ParamCells()), b.alloc(b.leaf.Cells())
	for _, p := range net.Params {
		h := fnv.New32a()
		h.Write([]byte(p.Name))
		s := philox.NewStream(3, 77, 0, h.Sum32(), 0)
		values := make([]float64, p.Size())
		for i := range values {
			values[i] = 0.7 * s.Norm()
		}
		b.bases[graph.ParamBase].(*ref.Memory).WriteFloats64(p.Offset, values)
	}
	x, s := make([]float64, localSamples*net.Input.Elems()), philox.NewStream(4, 77, 0, 0, 0)
	for i := range x {
		x[i] = s.Norm()
	}
	b.bases[graph.LeafBase].(*ref.Memory).WriteFloats64(0, x)
	b.bases[graph.LeafBase].WriteInts(int(b.leaf.Label().Offset), []int32{0, 1, 2, 3, 1})
	b.bases[graph.LeafBase].WriteInts(int(b.leaf.Index().Offset), []int32{9, 4, 7, 1, 30})
	return b
}

// gradients runs forward and backward and returns each parameter's gradient.
func (b *bench) gradients(p *graph.Program) map[string][]float64 {
	b.zero(graph.GradBase)
	b.run(append(append([]kernels.Call(nil), p.Forward...), p.Backward...)...)
	out := map[string][]float64{}
	for _, p := range b.net.Params {
		out[p.Name] = readDoubles(b.bases[graph.GradBase], p.Offset, p.Size())
	}
	return out
}

// Every block has the gradient of its own loss, as if an ordinary network ended with its head. The loss is the mean of
// all, and the prediction the class with the largest sum of probabilities.
func TestLocalLosses(t *testing.T) {
	o := graph.Options{N: localSamples, ParamGrads: true}
	whole := localBench(t, localBlocks(t, 3, true))
	got := whole.gradients(whole.compile(o))
	votes, loss := make([]float64, localSamples*4), 0.0
	for blocks := 1; blocks <= 3; blocks++ {
		plain := localBench(t, localBlocks(t, blocks, false))
		p := plain.compile(o)
		want := plain.gradients(p)
		for _, name := range []string{"fc%d.weight", "fc%d.bias", "head%d.weight", "head%d.bias"} {
			name = fmt.Sprintf(name, blocks)
			if !slices.EqualFunc(got[name], want[name], func(a, b float64) bool { return math.Abs(a-b) <= 1e-13*(1+math.Abs(b)) }) {
				t.Errorf("gradient of %s: %v; its own loss has %v", name, got[name], want[name])
			}
			if slices.Max(want[name]) == 0 {
				t.Errorf("%s has no gradient to compare", name)
			}
		}
		loss += plain.loss(localSamples) / 3
		logits := readDoubles(plain.bases[p.Logits.Base], int(p.Logits.Offset), localSamples*4)
		for i := range localSamples {
			sum := 0.0
			for _, v := range logits[4*i : 4*i+4] {
				sum += math.Exp(v)
			}
			for c, v := range logits[4*i : 4*i+4] {
				votes[4*i+c] += math.Exp(v) / sum
			}
		}
	}
	if l := whole.loss(localSamples); math.Abs(l-loss) > 1e-12 {
		t.Errorf("loss %v; the mean of the local ones is %v", l, loss)
	}
	correct := readDoubles(whole.bases[graph.LeafBase], int(whole.leaf.Correct().Offset), localSamples)
	for i, label := range []int{0, 1, 2, 3, 1} {
		own := votes[4*i : 4*i+4]
		if right := own[label] == slices.Max(own); right != (correct[i] == 1) {
			t.Errorf("sample %d: correct %v, votes %v for label %d", i, correct[i], own, label)
		}
	}
}

// The mean of many forward gradients is the gradient, and one alone is not. Marks do nothing where it is off.
func TestForwardGradientIsUnbiased(t *testing.T) {
	const draws = 4000
	b := localBench(t, localBlocks(t, 2, true))
	exact := b.gradients(b.compile(graph.Options{N: localSamples, ParamGrads: true}))
	p := b.compile(graph.Options{N: localSamples, ParamGrads: true, ForwardGradient: true})
	sum, square := map[string][]float64{}, map[string][]float64{}
	for i := range draws {
		b.bases[graph.LeafBase].WriteInts(int(b.leaf.Key().Offset), []int32{1, 2, int32(i), 0})
		for name, g := range b.gradients(p) {
			if i == 0 {
				sum[name], square[name] = make([]float64, len(g)), make([]float64, len(g))
			}
			for j, v := range g {
				sum[name][j] += v
				square[name][j] += v * v
			}
		}
	}
	for name, want := range exact {
		for j, w := range want {
			mean := sum[name][j] / draws
			deviation := math.Sqrt(max(square[name][j]/draws-mean*mean, 0) / draws)
			if math.Abs(mean-w) > 5*deviation+1e-9 {
				t.Errorf("%s[%d]: mean %v, standard error %v; the gradient is %v", name, j, mean, deviation, w)
			}
			if hidden := name[:2] == "fc"; hidden != (deviation > 1e-6) && w != 0 {
				t.Errorf("%s[%d]: standard error %v: hidden layers alone are estimated", name, j, deviation)
			}
		}
	}
}

func TestLocalNetworksHaveNoHessian(t *testing.T) {
	net := localBlocks(t, 2, true)
	for _, o := range []graph.Options{{N: 2, ParamGrads: true, Tangent: true}, {N: 2, Frozen: true, InputGrad: true, Attack: &graph.Attack{Iterations: 1}}} {
		if _, err := graph.Compile(net, graph.Leaf{Capacity: 2, In: net.Input}, o, ref.New()); err == nil {
			t.Errorf("%+v was compiled", o)
		}
	}
}
