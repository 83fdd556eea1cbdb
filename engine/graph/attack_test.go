package graph_test

import (
	"math"
	"strings"
	"testing"

	"broadside/engine/graph"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// attackCase is an attack on the first samples of a leaf of eight, which the test below writes out.
type attackCase struct {
	graph.Attack
	frozen bool
	set    int
}

var attackCases = map[string]attackCase{
	"absa":            {Attack: graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 3}, frozen: true},
	"batch norm":      {Attack: graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 3}},
	"no clamp":        {Attack: graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 2, Clamp: graph.Unclamped}, frozen: true},
	"random start":    {Attack: graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 2, RandomStart: true}, frozen: true},
	"targeted":        {Attack: graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 2, Targeted: true}, frozen: true},
	"pixels":          {Attack: graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 3, Pixels: true, Clamp: graph.ToBox}, frozen: true},
	"other set":       {Attack: graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 2}, set: 1},
	"other frozen":    {Attack: graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 2}, set: 1, frozen: true},
	"pixels, all":     {Attack: graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 2, Pixels: true, RandomStart: true, Targeted: true, Clamp: graph.ToBox}},
	"only the start":  {Attack: graph.Attack{Eps: 0.03, RandomStart: true, Pixels: true, Clamp: graph.ToBox}},
	"unclamped pixel": {Attack: graph.Attack{Eps: 0.03, Step: 0.02, Iterations: 1, Pixels: true, Clamp: graph.Unclamped}, frozen: true},
}

const attacked = 3 // samples of the leaf

// The attack pass must equal the attack written out: gradient of the input, sign step, projection to the eps ball, clamp.
func TestAttackPassEqualsTheAttackWrittenOut(t *testing.T) {
	for name, a := range attackCases {
		t.Run(name, func(t *testing.T) {
			b := attackBench(t, a)
			p := b.compile(graph.Options{N: attacked, Frozen: a.frozen, Set: a.set, InputGrad: true, Attack: &a.Attack})
			if p.StatsCells != 0 || len(p.Fold) != 0 {
				t.Error("an attack must leave no batch statistics")
			}
			b.images(0, 8)
			per := b.net.Input.Elems()
			clean := readDoubles(b.bases[graph.LeafBase], 0, 8*per)
			start := fill("start", attacked*per, -a.Eps, a.Eps)
			target := []int32{3, 1, 4}
			if a.RandomStart {
				b.bases[p.Start.Base].WriteFloats(int(p.Start.Offset), start)
			}
			if a.Targeted {
				b.bases[p.Target.Base].WriteInts(int(p.Target.Offset), target)
			}
			b.run(p.AttackPass...)
			got := readDoubles(b.bases[graph.LeafBase], 0, 8*per)

			want := append(writtenOut(t, a, clean[:attacked*per], start, target), clean[attacked*per:]...)
			moved := 0
			for i := range want {
				if math.Abs(got[i]-want[i]) > 1e-12 {
					t.Fatalf("element %d: %g; want %g", i, got[i], want[i])
				}
				if got[i] != clean[i] {
					moved++
				}
			}
			if moved < attacked*per/2 {
				t.Errorf("only %d of %d elements moved", moved, attacked*per)
			}
		})
	}
}

var attackMean, attackStd = []float32{0.5, 0.25, 0.125}, []float32{0.25, 0.5, 0.125}

// attackBench is a network with two parameter sets on the float64 oracle, and a data set to normalise.
func attackBench(t *testing.T, a attackCase) *bench {
	b := newBench(t, ref.New(), loadGolden(t, "resnet8"))
	first := len(b.net.Params)
	b.net.AddNormSets([]string{"adv"})
	for base, cells := range map[kernels.Base]int{graph.ParamBase: b.net.ParamCells(), graph.StateBase: b.net.StateCells()} {
		grown := b.alloc(cells)
		old := b.bases[base]
		grown.(*ref.Memory).WriteFloats64(0, readDoubles(old, 0, old.Len()))
		b.bases[base] = grown
	}
	for _, p := range b.net.Params[first:] {
		b.write(graph.ParamBase, p, fillParam(p, p.Name))
	}
	for _, n := range b.net.Norms[len(b.net.Norms)/2:] {
		b.bases[graph.StateBase].WriteFloats(n.Offset, append(fill(n.Name+".mean", n.C, -0.1, 0.1), fill(n.Name+".var", n.C, 0.5, 1.5)...))
	}
	normal := graph.NormalMemory(attackMean, attackStd, b.net.Input.C)
	b.bases[graph.NormalBase] = b.alloc(len(normal))
	b.bases[graph.NormalBase].WriteFloats(0, normal)
	return b
}

// writtenOut is the attack, one number at a time.
func writtenOut(t *testing.T, a attackCase, clean []float64, start []float32, target []int32) []float64 {
	b := attackBench(t, a)
	p := b.compile(graph.Options{N: attacked, Frozen: a.frozen, Set: a.set, InputGrad: true})
	b.images(0, 8)
	if a.Targeted {
		b.bases[graph.LeafBase].WriteInts(int(b.leaf.Label().Offset), target)
	}
	lo, hi := math.Inf(-1), math.Inf(1)
	if a.Clamp == graph.ToSamples {
		lo, hi = hi, lo
		for _, v := range clean {
			lo, hi = math.Min(lo, v), math.Max(hi, v)
		}
	}
	// In units of the attack an input is scale x + shift.
	scale, shift := func(int) float64 { return 1 }, func(int) float64 { return 0 }
	if a.Pixels {
		scale, shift = func(i int) float64 { return float64(attackStd[i%3]) }, func(i int) float64 { return float64(attackMean[i%3]) }
	}
	if a.Clamp == graph.ToBox {
		lo, hi = 0, 1
	}
	clamp := func(v, lo, hi float64) float64 { return math.Max(lo, math.Min(hi, v)) }
	origin, at, x := make([]float64, len(clean)), make([]float64, len(clean)), make([]float64, len(clean))
	move := func(i int, by float64) {
		at[i] = clamp(origin[i]+clamp(at[i]+by-origin[i], -a.Eps, a.Eps), lo, hi)
		x[i] = clean[i] + (at[i]-origin[i])/scale(i)
	}
	for i, v := range clean {
		origin[i] = v*scale(i) + shift(i)
		if a.Pixels {
			origin[i] = clamp(origin[i], 0, 1)
		}
		at[i], x[i] = origin[i], v
		if a.RandomStart {
			move(i, float64(start[i]))
		}
	}
	for range a.Iterations {
		b.bases[graph.LeafBase].(*ref.Memory).WriteFloats64(0, x)
		b.run(append(p.Forward, p.Backward...)...)
		for i, d := range readDoubles(b.bases[graph.ArenaBase], int(p.InputGrad.Offset), len(clean)) {
			if a.Targeted {
				d = -d
			}
			if d != 0 {
				d = math.Copysign(a.Step, d)
			}
			move(i, d)
		}
	}
	return x
}

func TestAttacksThatDoNotFit(t *testing.T) {
	b := newBench(t, ref.New(), loadGolden(t, "resnet8"))
	for want, o := range map[string]graph.Options{
		"needs the input's gradient": {N: 2, Frozen: true, Attack: &graph.Attack{}},
		"attack on pixels":           {N: 2, InputGrad: true, Attack: &graph.Attack{Pixels: true}},
		"units of the input":         {N: 2, InputGrad: true, Attack: &graph.Attack{Clamp: graph.ToBox}},
		"parameter set 1":            {N: 2, Set: 1},
		"a persistent attack needs":  {N: 2, ParamGrads: true, Persistent: &graph.Persistent{}},
	} {
		if _, err := graph.Compile(b.net, b.leaf, o, ref.New()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v; want one with %q", o, err, want)
		}
	}
}

// Two passes of a persistent attack: inputs, gradients of the parameters and perturbation equal those written out.
func TestPersistentAttackEqualsTheOneWrittenOut(t *testing.T) {
	const n, eps, step = 3, 0.3, 0.2
	b := attackBench(t, attackCase{})
	per := n * b.net.Input.Elems()
	o := graph.Options{N: n, ParamGrads: true, InputGrad: true, Persistent: &graph.Persistent{Eps: eps, Step: step}}
	p := b.compile(o)
	delta := make([]float64, per)
	for i, v := range fill("delta", per, -eps, eps) {
		delta[i] = float64(v)
	}
	// A plain program has no use for the direction's memory, which a persistent one keeps delta in.
	b.bases[graph.DeltaBase] = b.alloc(per)
	b.bases[graph.DeltaBase].(*ref.Memory).WriteFloats64(0, delta)

	plain := attackBench(t, attackCase{})
	q := plain.compile(graph.Options{N: n, ParamGrads: true, InputGrad: true})
	stopped := 0
	for range 2 {
		b.images(0, 8)
		clean := readDoubles(b.bases[graph.LeafBase], 0, per)
		b.bases[graph.GradBase] = b.alloc(b.net.ParamCells())
		b.run(append(p.Forward, p.Backward...)...)

		plain.images(0, 8)
		x, free := make([]float64, per), make([]bool, per)
		for i, v := range clean {
			std := float64(attackStd[i%3])
			pixel := math.Max(0, math.Min(1, v*std+float64(attackMean[i%3])))
			at := math.Max(0, math.Min(1, pixel+delta[i]))
			free[i] = at == pixel+delta[i]
			x[i] = v + (at-pixel)/std
		}
		plain.bases[graph.LeafBase].(*ref.Memory).WriteFloats64(0, x)
		plain.bases[graph.GradBase] = plain.alloc(plain.net.ParamCells())
		plain.run(append(q.Forward, q.Backward...)...)
		for i, d := range readDoubles(plain.bases[graph.ArenaBase], int(q.InputGrad.Offset), per) {
			switch {
			case !free[i]:
				stopped++
			case d != 0:
				delta[i] = math.Max(-eps, math.Min(eps, delta[i]+math.Copysign(step, d)))
			}
		}
		near(t, "delta", readDoubles(b.bases[graph.DeltaBase], 0, per), delta)
		near(t, "inputs", readDoubles(b.bases[graph.LeafBase], 0, per), x)
		near(t, "gradient", readDoubles(b.bases[graph.GradBase], 0, b.net.ParamCells()), readDoubles(plain.bases[graph.GradBase], 0, b.net.ParamCells()))
	}
	if stopped == 0 || stopped > per {
		t.Errorf("the clamp stopped %d of %d pixels: want some", stopped, 2*per)
	}
}

// near compares numbers of size one that differ by the rounding of 64-bit floats.
func near(t *testing.T, what string, got, want []float64) {
	t.Helper()
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-9*math.Max(1, math.Abs(want[i])) {
			t.Fatalf("%s %d: %g; want %g", what, i, got[i], want[i])
		}
	}
}
