package engine

import (
	"math"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// The running statistics after an update of four ghosts, in two leaves, by each rule: run is their value before and
// x[l] the l-th ghost's statistic. The weights are those of the definitions, with momentum 0.1.
func TestFoldOfFourGhosts(t *testing.T) {
	rules := map[string]func(run float64, x [4]float64) float64{
		"sequential": func(run float64, x [4]float64) float64 {
			for l := range 4 {
				x[l] *= .1 * math.Pow(.9, float64(3-l))
			}
			return math.Pow(.9, 4)*run + x[0] + x[1] + x[2] + x[3]
		},
		"scaled": func(run float64, x [4]float64) float64 {
			for l := range 4 {
				x[l] *= .025 * math.Pow(.975, float64(3-l))
			}
			return math.Pow(.975, 4)*run + x[0] + x[1] + x[2] + x[3]
		},
		"mean": func(run float64, x [4]float64) float64 { return .9*run + .1*(x[0]+x[1]+x[2]+x[3])/4 },
	}
	pair := &data.Pair{Train: synthetic(64, 4, 3, 4), Test: synthetic(5, 4, 3, 4)}
	for rule, want := range rules {
		r := parseRecipe(t, smallText, "model.name=mlp", "batch={size: 32, leaf: 16, ghost: 8}", "batch.running="+rule)
		tr := startTrainer(t, r, pair, 2, &tape{})
		f, c := tr.fleet, tr.fleet.net.Norms[0].C
		before := read(f.state)
		for i := range before {
			before[i] = float32(i) + .5
		}
		f.state.WriteFloats(0, before)
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		var stats [4][]float32
		for l := range stats {
			stats[l] = read(f.stats.leaves[l/2])[l%2*2*c : (l%2+1)*2*c]
		}
		if err := tr.update(); err != nil {
			t.Fatal(err)
		}
		after := read(f.state)
		for i := range 2 * c {
			x := [4]float64{float64(stats[0][i]), float64(stats[1][i]), float64(stats[2][i]), float64(stats[3][i])}
			// A few float32 roundings of numbers below 2*c.
			if w := want(float64(before[i]), x); math.Abs(float64(after[i])-w) > 4e-7*float64(2*c) {
				t.Errorf("%s: statistic %d is %g; want %g of %g and %v", rule, i, after[i], w, before[i], x)
			}
		}
	}
}

// For one ghost the rules are one.
func TestFoldRulesAgreeOnOneGhost(t *testing.T) {
	pair := &data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	var want []float32
	for _, rule := range []string{"sequential", "scaled", "mean"} {
		tr := startTrainer(t, parseRecipe(t, smallText, "batch={size: 32, leaf: 32, ghost: 32}", "batch.running="+rule), pair, 1, &tape{})
		for range 2 {
			if err := tr.computeLeaves(); err != nil {
				t.Fatal(err)
			}
			if err := tr.update(); err != nil {
				t.Fatal(err)
			}
		}
		got := read(tr.fleet.state)
		if want == nil {
			want = got
		}
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%s: statistic %d is %g; sequential gives %g", rule, i, got[i], want[i])
			}
		}
	}
}

// Ghost batch norm by each rule trains a network to PyTorch's parameters and running statistics, in float64, and in
// float32 on two devices.
func TestGhostNormAgreesWithPyTorch(t *testing.T) {
	g := readTrainings(t, "ghost_norm.json")
	if len(g.Cases) != 3 {
		t.Fatalf("%d rules", len(g.Cases))
	}
	for rule, c := range g.Cases {
		t.Run(rule, func(t *testing.T) {
			// In float64 the learning rate, the rules' factors and what is read at the end are single precision.
			g.check(t, []kernels.Device{ref.New()}, 1e-6, "", c.Loss, c.Tensors, "batch.running="+c.Running)
			g.check(t, devicetest.Open(t, 2), 1e-5, "", c.Loss, c.Tensors, "batch.running="+c.Running)
		})
	}
}
