package absa

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

func newFake(epochs int, eigenvalues ...float64) *methodtest.Training {
	f := methodtest.New(epochs)
	f.Eigenvalues = eigenvalues
	return f
}

// play runs the epochs and returns the attacked samples of each.
func play(t *testing.T, f *methodtest.Training, m *Method) (attacked []int) {
	t.Helper()
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	for f.EpochsDone < f.EpochsWanted {
		attacked = append(attacked, m.Attack().Samples)
		f.EpochsDone++
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
	play(t, f, newMethod(t, func(o *Options) { o.MaxBatch = 1024 }))
	want := []string{"10:duration:256", "20:duration:512", "30:duration:1024"}
	if !reflect.DeepEqual(f.Triggers, want) {
		t.Errorf("growth %v; want %v", f.Triggers, want)
	}
	if f.LR != 8 {
		t.Errorf("learning rate scaled by %g; want 8", f.LR)
	}
	if f.Probes != 30 {
		t.Errorf("%d probes; want 30: none after the maximum is reached", f.Probes)
	}
}

func TestEigenvalueTriggerComparesWithTheLastGrowth(t *testing.T) {
	// 10 is the reference; 6 has not fallen to half; 5 has and becomes the reference; 20 does not
	// raise it; 2.5 is half of 5.
	f := newFake(6, 10, 6, 5, 20, 2.6, 2.5)
	play(t, f, newMethod(t, func(*Options) {}))
	want := []string{"3:eig:256", "6:eig:512"}
	if !reflect.DeepEqual(f.Triggers, want) {
		t.Errorf("growth %v; want %v", f.Triggers, want)
	}
}

// SVHN has so many samples that the authors probe every 65,536 of them: 8 probes an epoch.
func TestProbesEverySoManySamples(t *testing.T) {
	f := newFake(2, 10)
	m := newMethod(t, func(o *Options) { o.MaxBatch = 1024; o.ProbeEvery = 65536 })
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	var probes []int
	for f.EpochsDone = 1; f.EpochsDone <= 2; f.EpochsDone++ {
		for range 531131 / 128 {
			f.Seen += 128
			if err := m.UpdateEnd(f, methods.Update{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.EpochEnd(f); err != nil {
			t.Fatal(err)
		}
		probes = append(probes, f.Probes)
	}
	if want := []int{8, 16}; !reflect.DeepEqual(probes, want) {
		t.Errorf("%v probes by the end of each epoch; want %v", probes, want)
	}
	if want := []string{"2:duration:256"}; !reflect.DeepEqual(f.Triggers, want) {
		t.Errorf("growth %v; want %v: after the tenth probe", f.Triggers, want)
	}
	if m.Report()["eigenvalue"] != 10 {
		t.Error("the epoch's last probe is not reported")
	}
}

func TestEigenvalueGrowthRestartsTheDuration(t *testing.T) {
	f := newFake(14, 10, 10, 5)
	play(t, f, newMethod(t, func(*Options) {}))
	if want := []string{"3:eig:256", "13:duration:512"}; !reflect.DeepEqual(f.Triggers, want) {
		t.Errorf("growth %v; want %v", f.Triggers, want)
	}
}

func TestNegativeEigenvalueDoesNotGrow(t *testing.T) {
	f := newFake(3, 10, -40, 6)
	m := newMethod(t, func(*Options) {})
	play(t, f, m)
	if len(f.Triggers) > 0 {
		t.Errorf("growth %v; want none", f.Triggers)
	}
	if *m.state.Reference != 10 {
		t.Errorf("reference %g; want 10", *m.state.Reference)
	}
}

func TestNegativeFirstEigenvalueIsNoReference(t *testing.T) {
	f := newFake(4, -3, 100, 60, 40)
	play(t, f, newMethod(t, func(*Options) {}))
	if want := []string{"4:eig:256"}; !reflect.DeepEqual(f.Triggers, want) {
		t.Errorf("growth %v; want %v", f.Triggers, want)
	}
}

func TestAttackCounts(t *testing.T) {
	// Growth at every epoch: 0.2 of 128 halves to 25, 12, 6, 3, 1 samples and then to none.
	f := newFake(40, 64, 32, 16, 8, 4, 2, 1, .5, .25, .125)
	attacked := play(t, f, newMethod(t, func(o *Options) { o.MaxBatch = 1 << 20 }))
	if want := []int{25, 25, 12, 6, 3, 1, 0}; !reflect.DeepEqual(attacked[:7], want) {
		t.Errorf("attacked samples %v; want %v", attacked[:7], want)
	}
}

func TestAttacksStopHalfway(t *testing.T) {
	f := newFake(9, 10)
	attacked := play(t, f, newMethod(t, func(*Options) {}))
	if want := []int{25, 25, 25, 25, 0, 0, 0, 0, 0}; !reflect.DeepEqual(attacked, want) {
		t.Errorf("attacked samples %v; want %v", attacked, want)
	}
}

func TestMaximumClampsBatchRateAndAttack(t *testing.T) {
	f := newFake(3, 10, 5)
	m := newMethod(t, func(o *Options) { o.MaxBatch = 384; o.Growth = 4 })
	attacked := play(t, f, m)
	if f.BatchSize != 384 || f.LR != 3 {
		t.Errorf("batch %d, learning rate x%g; want 384 and x3", f.BatchSize, f.LR)
	}
	if attacked[2] != 0 {
		t.Errorf("%d samples attacked at the maximum; want 0", attacked[2])
	}
}

func TestCompatKeepsWeights(t *testing.T) {
	f := newFake(2, 10, 5)
	play(t, f, newMethod(t, func(o *Options) { o.Compat = "hessianflow" }))
	if f.Carry != methods.KeepWeights {
		t.Error("compat hessianflow must keep the weights of gradients already summed")
	}
}

func TestStateSurvivesJSON(t *testing.T) {
	eigenvalues := []float64{10, 9, 5, 4, 2.4, 2, 2, 2, 1.1, 1}
	whole := newFake(20, eigenvalues...)
	play(t, whole, newMethod(t, func(*Options) {}))

	half := newFake(20, eigenvalues...)
	half.EpochsWanted = 4
	m := newMethod(t, func(*Options) {})
	play(t, half, m)
	half.EpochsWanted = 20
	raw, err := json.Marshal(m.State())
	if err != nil {
		t.Fatal(err)
	}
	resumed := newMethod(t, func(*Options) {})
	if err := json.Unmarshal(raw, resumed.State()); err != nil {
		t.Fatal(err)
	}
	play(t, half, resumed)
	if !reflect.DeepEqual(half.Triggers, whole.Triggers) {
		t.Errorf("resumed: %v; undisturbed: %v", half.Triggers, whole.Triggers)
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
