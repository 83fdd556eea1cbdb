package clars

import (
	"math"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
	"broadside/engine/optim"
	"broadside/kernels"
)

// named is a training of two tensors.
type named struct{ *methodtest.Training }

func (named) Tensors() []string { return []string{"conv.weight", "bn.weight"} }

// The rule reads the norms of the update under way, and leaves excluded parameters at ratio 1.
func TestRuleReadsTheMicroBatchesNorms(t *testing.T) {
	m, err := New(Options{Coefficient: 0.01, MaxRatio: 0.1, Eps: 1e-6, Exclude: []string{"bn"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Prepare(named{methodtest.New(1)}); err != nil {
		t.Fatal(err)
	}
	rule, err := m.Rule(optim.SGD{Momentum: 0.9})
	if err != nil {
		t.Fatal(err)
	}
	m.ReadMoments(&methods.Moments{Tensors: []methods.TensorMoments{{Norm: 1, MeanNorm: 2.5}, {Norm: 1, MeanNorm: 7}}})
	params := []graph.Param{{Name: "conv.weight", Role: graph.Weight, K: 2, R: 1, S: 1, C: 3}, {Name: "bn.weight", Role: graph.Gamma, K: 2, R: 1, S: 1, C: 1, Offset: 8}}
	var s optim.Scratch
	var sized []kernels.TrustShape
	for _, c := range rule.Update(params, &s) {
		if shape, ok := c.Shape.(kernels.TrustShape); ok && shape.Form == kernels.TrustNorms {
			sized = append(sized, shape)
		}
	}
	if len(sized) != 1 || sized[0].Count != 1 || sized[0].Coefficient != 0.01 || sized[0].High != 0.1 || sized[0].WeightDecay != 0 || sized[0].Place != kernels.TrustLR {
		t.Errorf("ratios by %+v; want one tensor's, between 0 and 0.1", sized)
	}
	cells := make([]float32, s.FilledLen())
	s.Fill(cells, optim.Moment{Update: 1, LR: 1, Scale: 1})
	found := false
	for i := 0; i+1 < len(cells); i += 2 {
		bits := uint64(math.Float32bits(cells[i])) | uint64(math.Float32bits(cells[i+1]))<<32
		if math.Float64frombits(bits) == 2.5 || math.Float64frombits(bits<<32|bits>>32) == 2.5 {
			found = true
		}
	}
	if !found {
		t.Errorf("the mean norm 2.5 is not among the cells %v", cells)
	}
}

func TestRefusesBadOptions(t *testing.T) {
	for _, o := range []Options{{MaxRatio: 1}, {Coefficient: 1}, {Coefficient: 1, MaxRatio: 1, Eps: -1},
		{Coefficient: 1, MaxRatio: 1, Exclude: []string{"weights"}}, {Coefficient: math.Inf(1), MaxRatio: 1}} {
		if _, err := New(o); err == nil {
			t.Errorf("accepted %+v", o)
		}
	}
}
