package graph_test

import (
	"math"
	"slices"
	"testing"

	"broadside/engine/graph"
	"broadside/kernels/ref"
)

// A Program of a further set computes what one of the first does with the same numbers, and touches nothing else.
func TestFurtherNormSetsComputeTheSame(t *testing.T) {
	g := loadGolden(t, "resnet8")
	single := newBench(t, ref.New(), g)
	params, state := single.net.ParamCells(), single.net.StateCells()
	const n, ghost = 6, 3
	gradients := func(b *bench, set int) []float64 {
		p := b.compile(graph.Options{N: n, Ghost: ghost, ParamGrads: true, Set: set})
		b.bases[graph.GradBase] = b.alloc(b.net.ParamCells())
		b.images(0, 8)
		b.run(append(append(p.Forward, p.Backward...), p.Fold...)...)
		return readDoubles(b.bases[graph.GradBase], 0, b.net.ParamCells())
	}
	want := gradients(single, 0)
	wantState := readDoubles(single.bases[graph.StateBase], 0, state)

	b := attackBench(t, attackCase{})
	first := len(single.net.Params)
	further := b.net.Params[first:]
	if further[0].Name != "bn1_adv.weight" || b.net.ParamCells() <= params || single.net.Params[first-1].Offset != b.net.Params[first-1].Offset {
		t.Fatalf("the further set begins with %s", further[0].Name)
	}
	before := readDoubles(b.bases[graph.StateBase], 0, b.net.StateCells())
	if got := gradients(b, 0); !slices.Equal(got[:params], want) || slices.Max(got[params:]) != 0 || slices.Min(got[params:]) != 0 {
		t.Error("the first set computes something else when there is another")
	}
	if got := readDoubles(b.bases[graph.StateBase], 0, b.net.StateCells()); !slices.Equal(got[:state], wantState) || !slices.Equal(got[state:], before[state:]) {
		t.Error("the first set's running statistics are not those of a single set, or the other's changed")
	}

	// The further set with the numbers of the first one.
	b = attackBench(t, attackCase{})
	i := first
	for _, p := range single.net.Params {
		if p.Role == graph.Gamma || p.Role == graph.Beta {
			b.bases[graph.ParamBase].(*ref.Memory).WriteFloats64(b.net.Params[i].Offset, readDoubles(b.bases[graph.ParamBase], p.Offset, p.Size()))
			i++
		}
	}
	got := gradients(b, 1)
	i = first
	for _, p := range single.net.Params {
		own, other := p, p
		if p.Role == graph.Gamma || p.Role == graph.Beta {
			own, other = b.net.Params[i], p
			i++
			if norm(got[other.Offset:other.Offset+other.Size()]) != 0 {
				t.Errorf("%s of the first set has a gradient", other.Name)
			}
		}
		if !slices.Equal(got[own.Offset:own.Offset+own.Size()], want[p.Offset:p.Offset+p.Size()]) {
			t.Errorf("%s: another gradient than %s", own.Name, p.Name)
		}
	}
	after := readDoubles(b.bases[graph.StateBase], 0, b.net.StateCells())
	if !slices.Equal(after[:state], before[:state]) || slices.Equal(after[state:], before[state:]) {
		t.Error("the further set must fold into its own running statistics only")
	}
}

func norm(v []float64) (sum float64) {
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}
