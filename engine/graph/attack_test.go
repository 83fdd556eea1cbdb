package graph_test

import (
	"math"
	"testing"

	"broadside/engine/graph"
	"broadside/kernels/ref"
)

// The attack pass must equal the attack written out: gradient of the input, sign step, projection to
// the eps ball, clamp to the range of the attacked samples.
func TestAttackPassEqualsTheAttackWrittenOut(t *testing.T) {
	g := loadGolden(t, "resnet8")
	attack := graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 3}
	const n = 3 // of a leaf of 8: the others must stay as they are

	b := newBench(t, ref.New(), g)
	p := b.compile(graph.Options{N: n, Frozen: true, InputGrad: true, Attack: &attack})
	b.images(0, 8)
	per := b.net.Input.Elems()
	clean := readDoubles(b.bases[graph.LeafBase], 0, 8*per)
	b.run(p.AttackPass...)
	got := readDoubles(b.bases[graph.LeafBase], 0, 8*per)

	m := newBench(t, ref.New(), g)
	q := m.compile(graph.Options{N: n, Frozen: true, InputGrad: true})
	m.images(0, 8)
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range clean[:n*per] {
		lo, hi = math.Min(lo, v), math.Max(hi, v)
	}
	x := append([]float64(nil), clean[:n*per]...)
	for range attack.Iterations {
		m.bases[graph.LeafBase].(*ref.Memory).WriteFloats64(0, x)
		m.run(append(q.Forward, q.Backward...)...)
		for i, d := range readDoubles(m.bases[graph.ArenaBase], int(q.InputGrad.Offset), n*per) {
			step := 0.0
			if d != 0 {
				step = math.Copysign(attack.Step, d)
			}
			v := clean[i] + math.Max(-attack.Eps, math.Min(attack.Eps, x[i]+step-clean[i]))
			x[i] = math.Max(lo, math.Min(hi, v))
		}
	}
	moved := 0
	for i, want := range append(x, clean[n*per:]...) {
		if math.Abs(got[i]-want) > 1e-12 {
			t.Fatalf("element %d: %g; want %g", i, got[i], want)
		}
		if got[i] != clean[i] {
			moved++
		}
	}
	if moved < n*per/2 {
		t.Errorf("only %d of %d elements moved", moved, n*per)
	}
}
