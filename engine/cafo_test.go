package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"broadside/engine/checkpoint"
)

// goldenHeads are heads that NumPy fits; testdata/golden/README.md describes them.
type goldenHeads struct {
	Samples, Side, Classes, Correct int
	Ridge                           float64
	Labels                          []int32
	Start, Weights                  map[string][]float64
	MSE                             map[string]float64
}

// Heads fitted in closed form are those of NumPy's least squares on PyTorch's features.
func TestFittedHeadsAgreeWithNumPy(t *testing.T) {
	raw, err := os.ReadFile("../testdata/golden/cafo.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenHeads
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	tr := g.fit(t, 48)
	cells := read(tr.fleet.params)
	for _, p := range tr.fleet.net.Trained() {
		w, err := checkpoint.ToPyTorch(cells[p.Offset:p.Offset+p.Size()], p.K, p.R, p.S, p.C)
		if err != nil {
			t.Fatal(err)
		}
		off, size := 0.0, 0.0
		for i, want := range g.Weights[p.Name] {
			off += (float64(w[i]) - want) * (float64(w[i]) - want)
			size += want * want
		}
		if !(math.Sqrt(off/size) < 1e-5) { // the features are in single precision
			t.Errorf("%s is %g of its norm from NumPy's", p.Name, math.Sqrt(off/size))
		}
		if got, want := tr.values["cafo_mse/"+p.Name], g.MSE[p.Name]; !(math.Abs(got-want) < 1e-6) {
			t.Errorf("%s: mean squared error %g; NumPy has %g", p.Name, got, want)
		}
	}
	if got := int(math.Round(tr.at.Test * float64(g.Samples))); got != g.Correct {
		t.Errorf("%d samples are classified right; %d by PyTorch", got, g.Correct)
	}
	// By the statistics of smaller ghosts the features differ, but the labels must still be theirs.
	if tr := g.fit(t, 16); tr.at.Test < 0.7 {
		t.Errorf("heads fitted leaf by leaf classify %.2f of their samples right", tr.at.Test)
	}
}

// fit trains an epoch of one update, in leaves, and fits the heads.
func (g *goldenHeads) fit(t *testing.T, leaf int) *trainer {
	t.Helper()
	r := parseRecipe(t, fmt.Sprintf(`
name: golden
data: {name: golden}
model: {name: blocks}
train: {epochs: 1, seed: 1}
batch: {size: %d, leaf: %d, ghost: %d}
optimizer: {lr: 0.1}
methods: [cafo: {ridge: %g}]
`, g.Samples, leaf, leaf, g.Ridge))
	tr := startGolden(t, r, ramp(g.Samples, g.Side, g.Labels), g.Start)
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tr
}

// Only linear heads on frozen blocks have a closed form.
func TestCafoNeedsFrozenBlocks(t *testing.T) {
	pair := ramp(48, 8, nil)
	for model, want := range map[string]string{"resnet8": "conv1.weight is trained", "local-cnn": "use model cafo3"} {
		tr := startTrainer(t, parseRecipe(t, smallText, "model.name="+model), pair, 1, &tape{})
		r := parseRecipe(t, smallText+"methods: [cafo]\n", "model.name="+model, "batch.size=32")
		if _, err := newTrainer(tr.fleet, r, &tape{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", model, err)
		}
	}
}
