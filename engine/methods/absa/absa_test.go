package absa

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"broadside/engine/curvature"
	"broadside/engine/methods"
)

// fakeTraining plays a training whose eigenvalues are given.
type fakeTraining struct {
	epoch, epochs, leaf, base, batch int
	eigenvalues                      []float64 // of each epoch; the last one repeats
	lr                               float64
	carry                            methods.Carry
	triggers                         []string
	probes                           int
}

func newFake(epochs int, eigenvalues ...float64) *fakeTraining {
	return &fakeTraining{epochs: epochs, leaf: 128, base: 128, batch: 128, lr: 1, eigenvalues: eigenvalues}
}

func (f *fakeTraining) Epoch() int     { return f.epoch }
func (f *fakeTraining) Epochs() int    { return f.epochs }
func (f *fakeTraining) Leaf() int      { return f.leaf }
func (f *fakeTraining) Batch() int     { return f.batch }
func (f *fakeTraining) BaseBatch() int { return f.base }
func (f *fakeTraining) Samples() int   { return 50000 }
func (f *fakeTraining) ScaleLR(factor float64, _ string) error {
	f.lr *= factor
	return nil
}
func (f *fakeTraining) SetBatch(size int, c methods.Carry, trigger string) error {
	f.batch, f.carry = size, c
	f.triggers = append(f.triggers, fmt.Sprintf("%d:%s:%d", f.epoch, trigger, size))
	return nil
}

func (f *fakeTraining) TopEigenvalue(methods.Probe) (curvature.Eigenvalue, error) {
	f.probes++
	return curvature.Eigenvalue{Value: f.eigenvalues[min(f.epoch, len(f.eigenvalues))-1]}, nil
}

// play runs the epochs and returns the attacked samples of each.
func (f *fakeTraining) play(t *testing.T, m *Method) (attacked []int) {
	t.Helper()
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	for f.epoch < f.epochs {
		attacked = append(attacked, m.Attack().Samples)
		f.epoch++
		if err := m.EpochEnd(f); err != nil {
			t.Fatal(err)
		}
	}
	return attacked
}

func newMethod(t *testing.T, change func(*Options)) *Method {
	t.Helper()
	o := defaults()
	change(o)
	m, err := New("absa", *o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDurationTriggerDoublesEveryPatienceEpochs(t *testing.T) {
	f := newFake(90, 10)
	f.play(t, newMethod(t, func(o *Options) { o.MaxBatch = 1024 }))
	want := []string{"10:duration:256", "20:duration:512", "30:duration:1024"}
	if !reflect.DeepEqual(f.triggers, want) {
		t.Errorf("growth %v; want %v", f.triggers, want)
	}
	if f.lr != 8 {
		t.Errorf("learning rate scaled by %g; want 8", f.lr)
	}
	if f.probes != 30 {
		t.Errorf("%d probes; want 30: none after the maximum is reached", f.probes)
	}
}

func TestEigenvalueTriggerComparesWithTheLastGrowth(t *testing.T) {
	// 10 is the reference; 6 has not fallen to half; 5 has and becomes the reference; 20 does not
	// raise it; 2.5 is half of 5.
	f := newFake(6, 10, 6, 5, 20, 2.6, 2.5)
	f.play(t, newMethod(t, func(*Options) {}))
	want := []string{"3:eig:256", "6:eig:512"}
	if !reflect.DeepEqual(f.triggers, want) {
		t.Errorf("growth %v; want %v", f.triggers, want)
	}
}

func TestEigenvalueGrowthRestartsTheDuration(t *testing.T) {
	f := newFake(14, 10, 10, 5)
	f.play(t, newMethod(t, func(*Options) {}))
	if want := []string{"3:eig:256", "13:duration:512"}; !reflect.DeepEqual(f.triggers, want) {
		t.Errorf("growth %v; want %v", f.triggers, want)
	}
}

func TestNegativeEigenvalueDoesNotGrow(t *testing.T) {
	f := newFake(3, 10, -40, 6)
	m := newMethod(t, func(*Options) {})
	f.play(t, m)
	if len(f.triggers) > 0 {
		t.Errorf("growth %v; want none", f.triggers)
	}
	if *m.state.Reference != 10 {
		t.Errorf("reference %g; want 10", *m.state.Reference)
	}
}

func TestNegativeFirstEigenvalueIsNoReference(t *testing.T) {
	f := newFake(4, -3, 100, 60, 40)
	f.play(t, newMethod(t, func(*Options) {}))
	if want := []string{"4:eig:256"}; !reflect.DeepEqual(f.triggers, want) {
		t.Errorf("growth %v; want %v", f.triggers, want)
	}
}

func TestAttackCounts(t *testing.T) {
	// Growth at every epoch: 0.2 of 128 halves to 25, 12, 6, 3, 1 samples and then to none.
	f := newFake(40, 64, 32, 16, 8, 4, 2, 1, .5, .25, .125)
	attacked := f.play(t, newMethod(t, func(o *Options) { o.MaxBatch = 1 << 20 }))
	if want := []int{25, 25, 12, 6, 3, 1, 0}; !reflect.DeepEqual(attacked[:7], want) {
		t.Errorf("attacked samples %v; want %v", attacked[:7], want)
	}
}

func TestAttacksStopHalfway(t *testing.T) {
	f := newFake(9, 10)
	attacked := f.play(t, newMethod(t, func(*Options) {}))
	if want := []int{25, 25, 25, 25, 0, 0, 0, 0, 0}; !reflect.DeepEqual(attacked, want) {
		t.Errorf("attacked samples %v; want %v", attacked, want)
	}
}

func TestMaximumClampsBatchRateAndAttack(t *testing.T) {
	f := newFake(3, 10, 5)
	m := newMethod(t, func(o *Options) { o.MaxBatch = 384; o.Growth = 4 })
	attacked := f.play(t, m)
	if f.batch != 384 || f.lr != 3 {
		t.Errorf("batch %d, learning rate x%g; want 384 and x3", f.batch, f.lr)
	}
	if attacked[2] != 0 {
		t.Errorf("%d samples attacked at the maximum; want 0", attacked[2])
	}
}

func TestCompatKeepsWeights(t *testing.T) {
	f := newFake(2, 10, 5)
	f.play(t, newMethod(t, func(o *Options) { o.Compat = "hessianflow" }))
	if f.carry != methods.KeepWeights {
		t.Error("compat hessianflow must keep the weights of gradients already summed")
	}
}

func TestStateSurvivesJSON(t *testing.T) {
	eigenvalues := []float64{10, 9, 5, 4, 2.4, 2, 2, 2, 1.1, 1}
	whole := newFake(20, eigenvalues...)
	whole.play(t, newMethod(t, func(*Options) {}))

	half := newFake(20, eigenvalues...)
	half.epochs = 4
	m := newMethod(t, func(*Options) {})
	half.play(t, m)
	half.epochs = 20
	raw, err := json.Marshal(m.State())
	if err != nil {
		t.Fatal(err)
	}
	resumed := newMethod(t, func(*Options) {})
	if err := json.Unmarshal(raw, resumed.State()); err != nil {
		t.Fatal(err)
	}
	half.play(t, resumed)
	if !reflect.DeepEqual(half.triggers, whole.triggers) {
		t.Errorf("resumed: %v; undisturbed: %v", half.triggers, whole.triggers)
	}
}

func TestBadOptions(t *testing.T) {
	for key, change := range map[string]func(*Options){
		"patience":        func(o *Options) { o.Patience = 0 },
		"attack_fraction": func(o *Options) { o.AttackFraction = 1.5 },
		"compat":          func(o *Options) { o.Compat = "yes" },
		"growth":          func(o *Options) { o.Growth = 1 },
	} {
		o := defaults()
		change(o)
		if _, err := New("absa", *o); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: error %v; want one that names it", key, err)
		}
	}
	m := newMethod(t, func(o *Options) { o.MaxBatch = 1000 })
	if err := m.Prepare(newFake(1, 1)); err == nil || !strings.Contains(err.Error(), "max_batch is 1000") {
		t.Errorf("max_batch 1000: error %v; want one that names it", err)
	}
}
