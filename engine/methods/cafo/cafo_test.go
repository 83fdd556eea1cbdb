package cafo

import (
	"math"
	"strings"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

type training struct {
	*methodtest.Training
	layer methods.Layer
}

func (f training) Tensors() []string       { return []string{"head"} }
func (f training) Layers() []methods.Layer { return []methods.Layer{f.layer} }

func TestBadOptions(t *testing.T) {
	for _, ridge := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if _, err := New(Options{Ridge: ridge}); err == nil || !strings.Contains(err.Error(), "methods.cafo.ridge") {
			t.Errorf("ridge %g: %v", ridge, err)
		}
	}
}

// What is refused is told with what would be right.
func TestHeadsThatCannotBeFitted(t *testing.T) {
	for want, l := range map[string]methods.Layer{
		"head has 20480 features, whose products need 6.7 GB: at most 16384 (4.3 GB)": {Linear: true, H: 4, W: 4, C: 1280},
		"only linear heads without bias":                                              {Linear: true, Bias: true, H: 1, W: 1, C: 4},
		"head is trained":                                                             {H: 1, W: 1, C: 4},
		"no linear head":                                                              {Linear: true, Frozen: true, H: 1, W: 1, C: 4},
	} {
		m, err := New(Options{Ridge: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Prepare(training{methodtest.New(1), l}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v; want %q", l, err, want)
		}
	}
}

// Features that depend on each other are singular without enough of a ridge; with one, equal features share the weight.
func TestDependentFeatures(t *testing.T) {
	x := []float32{1, 1, 0, 2, 2, 1, -1, -1, 1}
	for ridge, ok := range map[float64]bool{1e-30: false, 0.1: true} {
		s := newSquares(3, 2)
		s.add(x, []int32{0, 1, 0})
		w, err := s.solve(ridge)
		if (err == nil) != ok {
			t.Errorf("ridge %g: %v", ridge, err)
		}
		if ok && math.Abs(float64(w.values[0]-w.values[1])) > 1e-6 {
			t.Errorf("equal features have weights %v", w.values[:2])
		}
	}
}

// More features than a block of their products.
func TestBlocks(t *testing.T) {
	const features, samples = block + 300, 3
	s := newSquares(features, 2)
	x := make([]float32, features*samples)
	for i := range x {
		x[i] = float32(i * i % 17)
	}
	s.add(x[:2*features], []int32{0, 1})
	s.add(x[2*features:], []int32{1})
	for _, at := range [][2]int{{0, 0}, {5, block - 1}, {7, block + 9}, {block + 1, block + 2}, {features - 1, features - 1}} {
		want := 0.0
		for k := range samples {
			want += float64(x[k*features+at[0]]) * float64(x[k*features+at[1]])
		}
		if got := s.xx.At(at[0], at[1]); got != want {
			t.Errorf("product of features %v: %g, want %g", at, got, want)
		}
	}
	if got, want := s.xy.At(4, 1), float64(x[features+4]+x[2*features+4]); got != want {
		t.Errorf("feature 4 of class 1 sums up to %g, want %g", got, want)
	}
}
