package engine

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"testing"

	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/recipe"
)

// goldenScaling is what PyTorch makes of updates with scaled gradients; testdata/golden/README.md describes it.
type goldenScaling struct {
	Training struct {
		Samples, Side, Updates int
		LR, Momentum           float64
		WeightDecay            float64 `json:"weight_decay"`
		Scales                 []map[string][]float64
		Start, End             map[string][]float64
	}
}

// train makes the updates, each on all samples, and returns the trainer.
func (g *goldenScaling) train(t *testing.T, method string) *trainer {
	t.Helper()
	r := parseRecipe(t, `
name: golden
data: {name: golden}
model: {name: two}
train: {epochs: 3, seed: 1}
batch: {size: 16, leaf: 16, ghost: 16}
optimizer: {lr: 0.5, momentum: 0.9, weight_decay: 0.01}
methods: [`+method+`]
`)
	o := g.Training
	if r.Optimizer.LR != o.LR || r.Optimizer.Momentum != o.Momentum || r.Optimizer.WeightDecay != o.WeightDecay || r.Train.Epochs != o.Updates {
		t.Fatalf("the golden file has other settings: %+v", o)
	}
	tr := startGolden(t, r, ramp(o.Samples, o.Side, nil), o.Start)
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tr
}

// ramp is the golden images of two channels and four classes, on which it also tests; labels of nil count up.
func ramp(samples, side int, labels []int32) *data.Pair {
	set := &data.Set{Name: "golden", H: side, W: side, C: 2, Classes: 4, Labels: labels}
	for s := range samples {
		if labels == nil {
			set.Labels = append(set.Labels, int32(s%4))
		}
		for y := range side {
			for x := range side {
				for c := range 2 {
					e := len(set.Images)
					set.Images = append(set.Images, byte((11*s+17*c+3*y+5*x+7*e*e%251%13)%54*4))
				}
			}
		}
	}
	return &data.Pair{Train: set, Test: set}
}

// startGolden starts a trainer from parameters in PyTorch's order.
func startGolden(t *testing.T, r *recipe.Recipe, pair *data.Pair, start map[string][]float64) *trainer {
	t.Helper()
	tr := startTrainer(t, r, pair, 2, &tape{})
	for _, p := range tr.fleet.net.Params {
		if start[p.Name] == nil {
			continue
		}
		from := make([]float32, p.Size())
		for i, v := range start[p.Name] {
			from[i] = float32(v)
		}
		cells, err := checkpoint.FromPyTorch(from, p.K, p.R, p.S, p.C)
		if err != nil {
			t.Fatal(err)
		}
		tr.fleet.params.WriteFloats(p.Offset, cells)
	}
	return tr
}

// Updates by spatial gradient scaling come to PyTorch's parameters, and plain SGD does not.
func TestScaledGradientsAgreeWithPyTorch(t *testing.T) {
	raw, err := os.ReadFile("../testdata/golden/sgs.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenScaling
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	tr := g.train(t, "sgs: {every: 1, samples: 16}")
	for i, p := range tr.fleet.net.Params {
		got := tr.methods[0].Method.(methods.Scaler).Scales()[i]
		for k, want := range g.Training.Scales[len(g.Training.Scales)-1][p.Name] {
			if math.Abs(float64(got[k])-want) > 2e-6 {
				t.Errorf("factor %d of %s: %g; NumPy has %g", k, p.Name, got[k], want)
			}
		}
	}
	const tolerance = 1e-5 // relative to how far the parameters moved: single precision against double
	if d := g.error(t, tr); !(d < tolerance) {
		t.Errorf("the parameters are %g of their way from PyTorch's", d)
	}
	if d := g.error(t, g.train(t, "")); d < 100*tolerance {
		t.Errorf("plain SGD agrees too: %g", d)
	}
}

// error is the distance of the parameters from PyTorch's, relative to how far those moved.
func (g *goldenScaling) error(t *testing.T, tr *trainer) float64 {
	t.Helper()
	cells, off, moved := read(tr.fleet.params), 0.0, 0.0
	for _, p := range tr.fleet.net.Params {
		w, err := checkpoint.ToPyTorch(cells[p.Offset:p.Offset+p.Size()], p.K, p.R, p.S, p.C)
		if err != nil {
			t.Fatal(err)
		}
		start, end := g.Training.Start[p.Name], g.Training.End[p.Name]
		for i, v := range w {
			off += (float64(v) - end[i]) * (float64(v) - end[i])
			moved += (end[i] - start[i]) * (end[i] - start[i])
		}
	}
	return math.Sqrt(off / moved)
}
