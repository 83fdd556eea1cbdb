package sibp

import (
	"encoding/json"
	"math"
	"os"
	"strings"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

// layer is one of a golden network, written by testdata/golden/make_sibp.py.
type layer struct {
	Weights [][]float64
	Biases  []float64
}

type golden struct {
	Rate, Lambda float64
	Iterations   int
	X            [][]float64
	Labels       []int32
	Start        []layer
	Updates      [][]layer
	Exact        struct {
		Target, Old, Weights []float64
		Shift                float64
	}
}

func load(t *testing.T) (g golden) {
	t.Helper()
	text, err := os.ReadFile("../../../testdata/golden/sibp.json")
	if err == nil {
		err = json.Unmarshal(text, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func flatten(rows [][]float64) (out []float64) {
	for _, r := range rows {
		out = append(out, r...)
	}
	return out
}

// network is a training of linear layers that computes their inputs in double precision.
type network struct {
	*methodtest.Training
	layers  []methods.Layer
	tensors [][]float32
	x       []float64
	labels  []int32
}

func newNetwork(g golden) *network {
	n := &network{Training: methodtest.New(3), x: flatten(g.X), labels: g.Labels}
	n.Largest = 90
	for i, l := range g.Start {
		n.layers = append(n.layers, methods.Layer{Tensor: 2 * i, BiasTensor: 2*i + 1, Linear: true, Bias: true, H: 1, W: 1, C: len(l.Weights[0]), K: len(l.Biases)})
		n.tensors = append(n.tensors, narrow(flatten(l.Weights)), narrow(l.Biases))
	}
	return n
}

func (n *network) Layers() []methods.Layer { return n.layers }
func (n *network) Tensors() []string       { return make([]string, len(n.tensors)) }
func (n *network) Tensor(i int) ([]float32, error) {
	return append([]float32(nil), n.tensors[i]...), nil
}
func (n *network) SetTensor(i int, v []float32) error { n.tensors[i] = v; return nil }
func (n *network) ReadInputs(r methods.Reading, visit func(methods.LayerInputs) error) error {
	x := n.x
	for i := range r.Layers {
		if err := visit(methods.LayerInputs{Layer: i, X: narrow(x), Labels: n.labels}); err != nil {
			return err
		}
		units, err := unitsOf(n, n.layers[i])
		if err != nil {
			return err
		}
		x = product(x, units, len(n.labels))
		for j, v := range x {
			x[j] = math.Max(v, 0)
		}
	}
	return nil
}

// Two updates agree with those of NumPy.
func TestUpdatesAgreeWithNumPy(t *testing.T) {
	g := load(t)
	n := newNetwork(g)
	m, err := New(Options{Lambda: g.Lambda, Iterations: g.Iterations})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Prepare(n); err != nil {
		t.Fatal(err)
	}
	for u, want := range g.Updates {
		if err := m.UpdateEnd(n, methods.Update{LR: g.Rate}); err != nil {
			t.Fatal(err)
		}
		moved := 0.0
		for i, l := range want {
			for j, w := range append(flatten(l.Weights), l.Biases...) {
				got := append(append([]float32(nil), n.tensors[2*i]...), n.tensors[2*i+1]...)[j]
				if math.Abs(float64(got)-w) > 2e-6 {
					t.Errorf("update %d, layer %d, parameter %d: %g, want %g", u+1, i+1, j, got, w)
				}
				moved += math.Abs(w - append(flatten(g.Start[i].Weights), g.Start[i].Biases...)[j])
			}
		}
		if moved < 0.1 {
			t.Errorf("update %d moved the parameters by %g only", u+1, moved)
		}
	}
}

// A fit of a linear unit that is taken to the end is that of ridge least squares.
func TestFitToTheEnd(t *testing.T) {
	g := load(t)
	shift := make([]float64, len(g.Exact.Target))
	for i := range shift {
		shift[i] = g.Exact.Shift
	}
	got := fit{x: flatten(g.X), shift: shift, target: g.Exact.Target, lambda: g.Lambda}.minimise(g.Exact.Old, 2000)
	for i, want := range g.Exact.Weights {
		if math.Abs(got[i]-want) > 1e-5 {
			t.Errorf("weight %d: %g, want %g", i, got[i], want)
		}
	}
}

// Weights that may not change do not, and neither they nor others change where the rate is 0 and the fit is exact already.
func TestNothingToFit(t *testing.T) {
	g := load(t)
	for _, c := range []struct{ rate, lambda float64 }{{g.Rate, 1e12}, {0, g.Lambda}} {
		n := newNetwork(g)
		m, err := New(Options{Lambda: c.lambda, Iterations: 3})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Prepare(n); err != nil {
			t.Fatal(err)
		}
		if err := m.UpdateEnd(n, methods.Update{LR: c.rate}); err != nil {
			t.Fatal(err)
		}
		for i, l := range g.Start {
			for j, w := range flatten(l.Weights) {
				if math.Abs(float64(n.tensors[2*i][j])-w) > 1e-5 {
					t.Errorf("rate %g, lambda %g, layer %d, weight %d: %g was %g", c.rate, c.lambda, i+1, j, n.tensors[2*i][j], w)
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, bad := range []Options{{0, 3}, {math.Inf(1), 3}, {1, 0}, {1, 101}} {
		if _, err := New(bad); err == nil || !strings.Contains(err.Error(), "sibp") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	m, err := New(Options{1, 3})
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(n *network){
		"a chain of linear layers":  func(n *network) { n.layers[1].Linear = false },
		"more than linear layers":   func(n *network) { n.tensors = append(n.tensors, nil) },
		"batch.drop_last true":      func(n *network) { n.Largest = 0 },
		"use a model such as mlp-5": func(n *network) { n.layers[1].C++ },
	} {
		n := newNetwork(load(t))
		change(n)
		if err := m.Prepare(n); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
