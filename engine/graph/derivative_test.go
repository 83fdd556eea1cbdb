package graph_test

import (
	"math"
	"testing"

	"broadside/engine/graph"
	"broadside/kernels"
	"broadside/kernels/philox"
	"broadside/kernels/ref"
)

// oddNetwork has what the models of the golden vectors lack: dropout, groups, a scaled shortcut, an average pooling, ReLU and add
// that cannot be fused, a sum of a value with itself, a shortcut around its own normalisation, standardised weights in groups
// and of the first layer, a scaled sum with a normalisation.
func oddNetwork(t *testing.T) *graph.Network {
	t.Helper()
	n := graph.New("odd", graph.Dims{H: 6, W: 5, C: 3}, 4)
	x := n.Conv2D("conv1", n.In(), 8, graph.Window{R: 3, S: 1, StrideH: 1, StrideW: 1, PadH: 1}, graph.ConvOptions{Bias: true, Standardize: 0.7})
	a := n.ReLU(x)
	x = n.Add(a, x) // x is read twice: neither ReLU nor add can be fused
	x = n.Add(n.BatchNorm("bn1", x), x)
	x = n.Add(x, n.Scale(x, -0.3))
	y := n.ReLU(n.Conv2D("conv3", x, 8, graph.Square(3, 1, 1), graph.ConvOptions{Groups: 2, Bias: true, Standardize: 1.7}))
	x = n.AddScaled(-0.2, y, n.AddScaled(0.4, n.BatchNorm("bn3", y), x))
	x = n.Dropout(x, 0.3)
	x = n.Conv2D("conv2", x, 8, graph.Square(3, 2, 1), graph.ConvOptions{Groups: 4})
	x = n.Add(x, x)
	x = n.AvgPool(n.ReLU(n.BatchNorm("bn2", x)), graph.Window{R: 2, S: 2, StrideH: 1, StrideW: 1, PadH: 1})
	x = n.Dropout(n.MaxPool(x, graph.Square(2, 1, 0)), 0.2)
	net, err := n.Build(n.Linear("fc", x, 4))
	if err != nil {
		t.Fatal(err)
	}
	return net
}

// In float64, gradient and Hessian-vector product must be the differences of loss and gradient.
func TestDerivativesOfAnOddNetwork(t *testing.T) {
	for name, o := range map[string]graph.Options{
		"batch statistics, dropout": {N: 6, Ghost: 3, ParamGrads: true, Tangent: true, Smoothing: 0.1},
		"frozen":                    {N: 6, Frozen: true, ParamGrads: true, Tangent: true},
	} {
		t.Run(name, func(t *testing.T) { checkOddNetwork(t, o) })
	}
}

func checkOddNetwork(t *testing.T, o graph.Options) {
	net := oddNetwork(t)
	b := &bench{t: t, dev: ref.New(), net: net, leaf: graph.Leaf{Capacity: o.N, In: net.Input}}
	for base, cells := range map[kernels.Base]int{graph.ParamBase: net.ParamCells(), graph.GradBase: net.ParamCells(),
		graph.StateBase: net.StateCells(), graph.LeafBase: b.leaf.Cells(), graph.TangentBase: net.ParamCells(), graph.ProductBase: net.ParamCells()} {
		b.bases[base] = b.alloc(cells)
	}
	s := philox.NewStream(5, 77, 0, 0, 0)
	w, v := make([]float64, net.ParamCells()), make([]float64, net.ParamCells())
	for i := range w {
		w[i], v[i] = 0.5*s.Norm(), s.Norm()
	}
	x := make([]float64, o.N*net.Input.Elems())
	for i := range x {
		x[i] = s.Float64()
	}
	leaf := b.bases[graph.LeafBase].(*ref.Memory)
	leaf.WriteFloats64(0, x)
	leaf.WriteInts(int(b.leaf.Label().Offset), []int32{0, 1, 2, 3, 0, 1})
	leaf.WriteInts(int(b.leaf.Index().Offset), []int32{9, 4, 7, 1, 30, 2})
	leaf.WriteInts(int(b.leaf.Key().Offset), []int32{1, 2, 3, 0})
	b.bases[graph.StateBase].WriteFloats(0, net.InitState())
	b.bases[graph.TangentBase].(*ref.Memory).WriteFloats64(0, v)
	p := b.compile(o)

	at := func(step float64) (loss float64, grad []float64) {
		moved := make([]float64, len(w))
		for i := range w {
			moved[i] = w[i] + step*v[i]
		}
		b.bases[graph.ParamBase].(*ref.Memory).WriteFloats64(0, moved)
		b.zero(graph.GradBase)
		b.run(append(append([]kernels.Call(nil), p.Forward...), p.Backward...)...)
		return b.loss(o.N), readDoubles(b.bases[graph.GradBase], 0, net.ParamCells())
	}
	const h = 1e-6 // the error is of order h^2 plus 1e-16/h; no ReLU input moves across zero by so little
	up, gradUp := at(h)
	down, gradDown := at(-h)
	_, grad := at(0)
	slope := 0.0
	for i := range grad {
		slope += grad[i] * v[i]
	}
	if want := (up - down) / (2 * h); math.Abs(slope-want) > 1e-6*(1+math.Abs(want)) {
		t.Errorf("gradient along v is %.10g; the loss changes by %.10g", slope, want)
	}
	b.zero(graph.ProductBase)
	b.run(append(append([]kernels.Call(nil), p.TangentForward...), p.TangentBackward...)...)
	hv := readDoubles(b.bases[graph.ProductBase], 0, net.ParamCells())
	norm, diff := 0.0, 0.0
	for i := range hv {
		want := (gradUp[i] - gradDown[i]) / (2 * h)
		norm += want * want
		diff += (hv[i] - want) * (hv[i] - want)
	}
	if !(norm > 0) || math.Sqrt(diff/norm) > 1e-6 {
		t.Errorf("Hessian-vector product differs from the gradients' difference by %.1e of its norm %.3g", math.Sqrt(diff/norm), math.Sqrt(norm))
	}
}
