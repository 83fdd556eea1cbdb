package optim

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"broadside/engine/graph"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// golden is testdata/golden/step_rules.json, written by make_step_rules.py.
type golden struct {
	Samples  int
	Rates    []float64
	Momentum float64
	Decay    float64 `json:"weight_decay"`
	Shapes   map[string][]int
	Weights  map[string][]float64
	Sums     []map[string][]float64          `json:"gradient_sums"`
	Results  map[string]map[string][]float64 `json:"results"`
}

func readGolden(t *testing.T) (g golden) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "testdata", "golden", "step_rules.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// params lays the tensors out, with gaps between them.
func (g golden) params() []graph.Param {
	roles := map[string]graph.Role{"layer.weight": graph.Weight, "layer.bias": graph.Bias, "bn.weight": graph.Gamma,
		"fc.weight": graph.Weight, "fc.bias": graph.Bias}
	var out []graph.Param
	for i, name := range []string{"layer.weight", "layer.bias", "bn.weight", "fc.weight", "fc.bias"} {
		p := graph.Param{Name: name, Role: roles[name], Linear: name == "fc.weight", K: g.Shapes[name][0], R: 1, S: 1, C: 1, Offset: 32 * i}
		if s := g.Shapes[name]; len(s) > 1 {
			p.C = s[1]
		}
		out = append(out, p)
	}
	return out
}

// A machine runs updates on the oracle's float64 device.
type machine struct {
	t       *testing.T
	scratch Scratch
	pass    kernels.Pass
	bases   [kernels.MaxBases]kernels.Memory
	cells   []float32
	update  int
}

const machineCells = 32 * 5

func newMachine(t *testing.T, rule Rule, params []graph.Param, transforms ...Transform) *machine {
	t.Helper()
	m := &machine{t: t}
	dev := ref.New()
	pass, err := dev.Prepare(Update(rule, transforms, params, &m.scratch))
	if err != nil {
		t.Fatal(err)
	}
	m.pass, m.cells = pass, make([]float32, m.scratch.FilledLen())
	alloc := func(base kernels.Base, cells int) {
		if m.bases[base], err = dev.Alloc(cells); err != nil {
			t.Fatal(err)
		}
	}
	alloc(graph.ParamBase, machineCells)
	alloc(graph.GradBase, machineCells)
	alloc(HyperBase, m.scratch.Len())
	for i := range rule.Slots() {
		alloc(SlotBase+kernels.Base(i), machineCells)
	}
	for i := range m.scratch.Vectors() {
		alloc(VectorBase+kernels.Base(i), machineCells)
	}
	return m
}

func (m *machine) floats(base kernels.Base) []float64 { return m.bases[base].(*ref.Memory).Floats() }

// step makes an update by the gradient that is in place.
func (m *machine) step(lr, scale float64) {
	m.t.Helper()
	m.update++
	m.scratch.Fill(m.cells, Moment{Update: m.update, LR: lr, Scale: scale})
	m.bases[HyperBase].WriteFloats(0, m.cells)
	if err := m.pass.Run(&m.bases); err != nil {
		m.t.Fatal(err)
	}
}

// Every rule and transform makes four steps as PyTorch does.
func TestRulesAsInPyTorch(t *testing.T) {
	g := readGolden(t)
	params := g.params()
	plain := map[graph.Role]bool{graph.Bias: true, graph.Gamma: true, graph.Beta: true}
	base := SGD{Momentum: g.Momentum, WeightDecay: g.Decay}
	excluded, nesterov := base.Without(plain), base.Without(plain)
	nesterov.Nesterov = true
	inf := math.Inf(1)
	norms := func(place kernels.TrustPlace, eps float64) kernels.TrustShape {
		return kernels.TrustShape{Form: kernels.TrustNorms, Place: place, Coefficient: 0.0625, Eps: eps, High: inf, WHigh: inf}
	}
	tpu, larc := norms(kernels.TrustGainLR, 1e-5), norms(kernels.TrustGain, 1e-8)
	tpu.High, larc.LARC = 50, 1
	median := Median{SGD: excluded, Plain: plain, Delta: 1e-12, Trust: kernels.TrustShape{Form: kernels.TrustCurvature, Coefficient: 0.0625, High: 1}}
	lamb := LAMB{Beta1: 0.9, Beta2: 0.999, Eps: 1e-6, WeightDecay: g.Decay, PhiMax: inf, RatioMax: inf, Plain: plain, Clip: 1}
	bounded, phi := lamb, lamb
	bounded.RatioMax, phi.PhiMax, phi.Clip = 1, 0.5, 0
	agc, clip := AGC{Lambda: 0.25, Floor: 1e-3}, ClipNorm{Max: 1, Eps: 1e-6}
	tested := 0
	for name, c := range map[string]struct {
		rule       Rule
		transforms []Transform
		tolerance  float64
	}{
		"lars tf":          {rule: LARS{SGD: excluded, Trust: norms(kernels.TrustGainLR, 0), Plain: plain}},
		"lars tf nesterov": {rule: LARS{SGD: nesterov, Trust: norms(kernels.TrustGainLR, 0), Plain: plain}},
		"lars tpu":         {rule: LARS{SGD: excluded, Trust: tpu, Plain: plain, ClipValue: 1}},
		"lars timm":        {rule: LARS{SGD: excluded, Trust: norms(kernels.TrustGain, 1e-8), Plain: plain}},
		"lars timm larc":   {rule: LARS{SGD: excluded, Trust: larc, Plain: plain}},
		"lars slowbull":    {rule: LARS{SGD: base, Trust: norms(kernels.TrustLR, 1e-6), Plain: plain, DecayFirst: true}},
		"lamb":             {rule: lamb, tolerance: 1e-6}, // bias corrections are float32
		"lamb bounded":     {rule: bounded, tolerance: 1e-6},
		"lamb phi":         {rule: phi, tolerance: 1e-6},
		"mclr":             {rule: median},
		"cblr secant":      {rule: Secant{median}},
		"agc":              {rule: base, transforms: []Transform{agc}},
		"clip":             {rule: base, transforms: []Transform{clip}},
		"agc clip":         {rule: base, transforms: []Transform{clip, agc}}, // in the order of their stages
	} {
		m := newMachine(t, c.rule, params, c.transforms...)
		for _, p := range params {
			copy(m.floats(graph.ParamBase)[p.Offset:], g.Weights[p.Name])
		}
		for i, lr := range g.Rates {
			for _, p := range params {
				copy(m.floats(graph.GradBase)[p.Offset:], g.Sums[i][p.Name])
			}
			m.step(lr, 1/float64(g.Samples))
		}
		want, ok := g.Results[name]
		if !ok {
			t.Errorf("%s: no such result", name)
			continue
		}
		tested++
		for _, p := range params {
			for i, w := range want[p.Name] {
				if got := m.floats(graph.ParamBase)[p.Offset+i]; math.Abs(got-w) > max(c.tolerance, 1e-12)*max(1, math.Abs(w)) {
					t.Errorf("%s: %s[%d] = %v, want %v", name, p.Name, i, got, w)
					break
				}
			}
		}
	}
	if tested != len(g.Results) {
		t.Errorf("%d of %d results were tested", tested, len(g.Results))
	}
}
