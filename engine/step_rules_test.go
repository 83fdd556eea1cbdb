package engine

import (
	"context"
	"slices"
	"strings"
	"testing"

	"broadside/engine/checkpoint"
	"broadside/engine/data"
)

// trainWith trains the small recipe with a method and returns its last checkpoint.
func trainWith(t *testing.T, method string, sets ...string) *checkpoint.Checkpoint {
	t.Helper()
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	s := &tape{}
	r := parseRecipe(t, smallText+"methods: ["+method+"]\n", sets...)
	if err := startTrainer(t, r, pair, 1, s).train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s.checkpoints[0]
}

func params(ck *checkpoint.Checkpoint, name string) []float32 {
	return ck.Tensors[name].Data().([]float32)
}

// CBLR with the curvature of the norms is LARS, bit for bit; the other forms are not.
func TestCBLRByNormsIsLARS(t *testing.T) {
	want := trainWith(t, "lars: {coefficient: 0.1, clip: 1}")
	if !sameParams(want, trainWith(t, "cblr: {estimator: norm, coefficient: 0.1}")) {
		t.Error("cblr by norms differs from lars")
	}
	for _, other := range []string{"mclr: {coefficient: 0.1}", "cblr: {estimator: secant, coefficient: 0.1}", "lars: {variant: timm, coefficient: 0.1}"} {
		if sameParams(want, trainWith(t, other)) {
			t.Errorf("%s is LARS too", other)
		}
	}
}

// Transforms and a step rule go together, and each of them counts.
func TestTransformsBeforeAStepRule(t *testing.T) {
	list := []string{"lars: {coefficient: 0.1}", "agc: {lambda: 0.02}", "clip: {max_norm: 0.1}"}
	all := trainWith(t, strings.Join(list, ", "))
	slices.Reverse(list)
	if !sameParams(all, trainWith(t, strings.Join(list, ", "))) {
		t.Error("the order of the recipe's methods matters")
	}
	for i := range list {
		some := slices.Delete(slices.Clone(list), i, i+1)
		if sameParams(all, trainWith(t, strings.Join(some, ", "))) {
			t.Errorf("without %s the training is the same", list[i])
		}
	}
}

func TestTwoStepRulesAreRefused(t *testing.T) {
	r := parseRecipe(t, smallText+"methods: [lars: {}, lamb: {}]\n")
	if _, err := openMethods(r); err == nil || !strings.Contains(err.Error(), "step rule") {
		t.Errorf("lars and lamb: %v", err)
	}
}

func sameParams(a, b *checkpoint.Checkpoint) bool {
	for name, x := range a.Tensors {
		if v, ok := x.Data().([]float32); ok && !slices.Equal(v, params(b, name)) {
			return false
		}
	}
	return true
}
