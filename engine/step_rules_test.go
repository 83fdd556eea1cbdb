package engine

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"broadside/engine/checkpoint"
	"broadside/engine/curvature"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/kernels"
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
	list := []string{"lars: {coefficient: 0.1}", "agc: {lambda: 0.02}", "clip: {max_norm: 0.1}", "sgs: {samples: 32}"}
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

// What is measured of a product with the Hessian is what the host computes of it.
func TestCurvaturesOfTensors(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	tr := startTrainer(t, smallRecipe(t, ""), pair, 2, &tape{})
	h, err := tr.probe(40)
	if err != nil {
		t.Fatal(err)
	}
	defer h.free()
	var m [4]kernels.Memory
	for i := range m {
		if m[i], err = h.NewVector(); err != nil {
			t.Fatal(err)
		}
		defer m[i].Free()
	}
	if err := errors.Join(h.Randomize(m[0], kernels.Normal, curvature.Stream{}), h.Product(m[0], m[1]), h.signs(m[3], m[1], m[2])); err != nil {
		t.Fatal(err)
	}
	got, err := h.measureTensors(m[0], m[1], m[2])
	if err != nil {
		t.Fatal(err)
	}
	v, hv := read(m[0]), read(m[1])
	for i, p := range tr.fleet.net.Params {
		want := methods.TensorCurvature{Tensor: p.Name, Size: p.Size()}
		for j := p.Offset; j < p.Offset+p.Size(); j++ {
			want.Product += float64(v[j]) * float64(hv[j])
			want.Square += float64(v[j]) * float64(v[j])
			want.Sum += math.Abs(float64(hv[j]))
		}
		near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-12*(want.Square+want.Sum) }
		if g := got[i]; g.Tensor != want.Tensor || g.Size != want.Size || want.Sum == 0 ||
			!near(g.Product, want.Product) || !near(g.Square, want.Square) || !near(g.Sum, want.Sum) {
			t.Errorf("%+v, want %+v", g, want)
		}
	}
}

// Probed curvatures do not depend on the devices, and go on after a resume.
func TestProbedCurvaturesAreReproducible(t *testing.T) {
	for _, estimator := range []string{"hutch", "rayleigh", "lmax"} {
		settings[estimator] = "cblr: {estimator: " + estimator + ", coefficient: 0.1, probe_every: 3, probe_samples: 40, iterations: 3}"
		_, want := trainSmall(t, estimator, 1, 0, nil)
		if _, got := trainSmall(t, estimator, 4, 0, nil); difference(want, got) != "" {
			t.Errorf("%s on 4 devices: %s", estimator, difference(want, got))
		}
		_, half := trainSmall(t, estimator, 2, 5, nil)
		if _, got := trainSmall(t, estimator, 1, 0, half); difference(want, got) != "" {
			t.Errorf("%s resumed: %s", estimator, difference(want, got))
		}
		delete(settings, estimator)
	}
}
