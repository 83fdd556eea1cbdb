package engine

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/kernels"
)

// goldenMoments is what PyTorch makes of some updates; testdata/golden/README.md describes it.
type goldenMoments struct {
	Leaf, Lanes, Leaves, Classes, Side, Updates int
	Set                                         int // leaves of the training set; 0: those of an update
	Momentum                                    float64
	WeightDecay                                 float64 `json:"weight_decay"`
	LR                                          float64
	Start, End                                  []float64 // weight [class][pixel], then bias
	Rates                                       []float64
}

func readMoments(t *testing.T, name string) (g goldenMoments) {
	t.Helper()
	raw, err := os.ReadFile("../testdata/golden/" + name + ".json")
	if err == nil {
		err = json.Unmarshal(raw, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// pair returns the samples, such that those of the first epoch come in the order in which PyTorch takes them.
func (g *goldenMoments) pair(t *testing.T) *data.Pair {
	t.Helper()
	leaves, pixels := max(g.Leaves, g.Set), g.Side*g.Side
	n := g.Leaf * leaves
	sampler, err := data.NewSampler(n, g.Leaf, 1)
	if err != nil {
		t.Fatal(err)
	}
	set := &data.Set{Name: "golden", H: g.Side, W: g.Side, C: 1, Classes: g.Classes, Images: make([]byte, n*pixels), Labels: make([]int32, n)}
	leaf := make([]int32, g.Leaf)
	for i := range leaves {
		sampler.Leaf(0, i, leaf)
		for k, at := range leaf {
			sample := i*g.Leaf + k
			set.Labels[at] = int32(7 * sample % g.Classes)
			for p := range pixels {
				e := sample*pixels + p
				set.Images[int(at)*pixels+p] = byte(e*e*7%251 + e%5)
			}
		}
	}
	return &data.Pair{Train: set, Test: set}
}

// train makes the updates with a method, all on the same samples, and returns the parameters.
func (g *goldenMoments) train(t *testing.T, method string) []float64 {
	t.Helper()
	w, _ := g.trainOn(t, method, devicetest.Open(t, 2))
	return w
}

// trainOn returns the learning rates, too.
func (g *goldenMoments) trainOn(t *testing.T, method string, devices []kernels.Device) (end, rates []float64) {
	t.Helper()
	r := parseRecipe(t, fmt.Sprintf(`
name: golden
data: {name: golden}
model: {name: linear}
train: {epochs: 1, seed: 1}
batch: {size: %d, leaf: %d, ghost: %d, lanes: %d}
optimizer: {lr: %g, momentum: %g, weight_decay: %g}
methods: [%s]
`, g.Leaf*g.Leaves, g.Leaf, g.Leaf, g.Lanes, g.LR, g.Momentum, g.WeightDecay, method))
	s := &tape{keepSteps: true}
	tr := startTrainerOn(t, r, g.pair(t), devices, Options{}, s)
	params, classes, pixels := tr.fleet.net.Params, g.Classes, g.Side*g.Side
	w := make([]float32, classes*pixels+classes)
	for i, v := range g.Start {
		w[i] = float32(v)
	}
	tr.fleet.params.WriteFloats(params[0].Offset, w[:classes*pixels])
	tr.fleet.params.WriteFloats(params[1].Offset, w[classes*pixels:])
	for range g.Updates {
		tr.at.Epoch, tr.at.Leaf = 0, 0
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		if err := tr.update(); err != nil {
			t.Fatal(err)
		}
	}
	tr.fleet.params.ReadFloats(params[0].Offset, w[:classes*pixels])
	tr.fleet.params.ReadFloats(params[1].Offset, w[classes*pixels:])
	for _, v := range w {
		end = append(end, float64(v))
	}
	for _, step := range s.steps {
		rates = append(rates, step.LR)
	}
	return end, rates
}

// Methods that compare micro-batches come to PyTorch's parameters, with micro-batches that differ in size; plain SGD does
// not.
func TestMicroBatchMethodsAgreeWithPyTorch(t *testing.T) {
	for name, method := range map[string]string{
		"vrsgd": "vrsgd: {gamma: 0.1}",
		"clars": "clars: {coefficient: 0.02, max_ratio: 0.081}",
	} {
		g := readMoments(t, name)
		const tolerance = 5e-6 // relative to how far the parameters moved: single precision against double
		if d := g.error(g.train(t, method)); !(d < tolerance) {
			t.Errorf("%s: the parameters are %g of their way from PyTorch's", name, d)
		}
		if d := g.error(g.train(t, "")); d < 100*tolerance {
			t.Errorf("%s: plain SGD agrees too: %g", name, d)
		}
	}
}

// error is the distance of parameters from PyTorch's, relative to how far those moved.
func (g *goldenMoments) error(w []float64) float64 {
	var off, moved float64
	for i, v := range w {
		off += (v - g.End[i]) * (v - g.End[i])
		moved += (g.End[i] - g.Start[i]) * (g.End[i] - g.Start[i])
	}
	return math.Sqrt(off / moved)
}

// A damped gradient goes to any step rule: damped by nothing it leaves the rule as it is.
func TestDampingComposesWithStepRules(t *testing.T) {
	g := readMoments(t, "vrsgd")
	for _, rule := range []string{"lars: {coefficient: 0.1}", "lamb: {}", "clars: {}", "clip: {max_norm: 0.1}"} {
		alone := g.train(t, rule)
		if by1 := g.train(t, "vrsgd: {gamma: 1}, "+rule); !slices.Equal(alone, by1) {
			t.Errorf("%s is changed by a damping of 1", rule)
		}
		if by10 := g.train(t, "vrsgd: {gamma: 0.1}, "+rule); slices.Equal(alone, by10) {
			t.Errorf("%s is not damped", rule)
		}
	}
}
