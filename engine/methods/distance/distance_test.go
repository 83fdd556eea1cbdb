package distance

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

// drift is a training whose distance is a function of its updates.
type drift struct {
	*methodtest.Training
	law      func(t float64) float64
	measured []int
}

func (d *drift) Tensors() []string { return []string{"a", "b"} }

func (d *drift) Distance(each []float64) (float64, error) {
	d.measured = append(d.measured, d.UpdatesDone)
	v := d.law(float64(d.UpdatesDone))
	for i := range each {
		each[i] = v * float64(i+1)
	}
	return v, nil
}

// run makes so many updates and an end of an epoch.
func run(t *testing.T, d *drift, m *Method, updates int) {
	t.Helper()
	for range updates {
		d.UpdatesDone++
		if err := m.UpdateEnd(d, methods.Update{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.EpochEnd(d); err != nil {
		t.Fatal(err)
	}
}

func newMethod(t *testing.T, o Options, d *drift) *Method {
	t.Helper()
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Prepare(d); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestUpdatesMeasuredAreEvenInTheLogarithm(t *testing.T) {
	d := &drift{Training: methodtest.New(1), law: math.Sqrt}
	run(t, d, newMethod(t, Options{PerDecade: 4, From: 1}, d), 1000)
	want := []int{1, 2, 4, 6, 10, 18, 32, 57, 100, 178, 317, 563, 1000, 1000} // the last at the end of the epoch
	if !slices.Equal(d.measured, want) {
		t.Errorf("measured after updates %v; want %v", d.measured, want)
	}
}

// Each law is found exactly where it holds, and beats the other.
func TestFits(t *testing.T) {
	d := &drift{Training: methodtest.New(1), law: func(t float64) float64 { return 0.7*math.Log(t) + 2 }}
	m := newMethod(t, Options{PerDecade: 10, From: 1}, d)
	run(t, d, m, 5000)
	r := m.Report()
	near(t, r, map[string]float64{"distance": 0.7*math.Log(5000) + 2, "distance_log_slope": 0.7, "distance_log_offset": 2, "distance_log_r2": 1})
	if r["distance_power_r2"] > 0.99 {
		t.Errorf("a logarithm fits a power law with r2 %g", r["distance_power_r2"])
	}
	d = &drift{Training: methodtest.New(1), law: func(t float64) float64 { return 3 * math.Pow(t, 0.4) }}
	m = newMethod(t, Options{PerDecade: 10, From: 1}, d)
	run(t, d, m, 5000)
	r = m.Report()
	near(t, r, map[string]float64{"distance_power_exponent": 0.4, "distance_power_r2": 1})
	if r["distance_log_r2"] > 0.95 {
		t.Errorf("a power law fits a logarithm with r2 %g", r["distance_log_r2"])
	}
}

func near(t *testing.T, got, want map[string]float64) {
	t.Helper()
	for key, w := range want {
		if math.Abs(got[key]-w) > 1e-9 {
			t.Errorf("%s is %g; want %g", key, got[key], w)
		}
	}
}

// Warm-up and later phases stay out of the fit.
func TestFitWindow(t *testing.T) {
	d := &drift{Training: methodtest.New(1), law: func(t float64) float64 {
		if t < 50 || t > 800 {
			return 0
		}
		return math.Log(t)
	}}
	m := newMethod(t, Options{PerDecade: 10, From: 50, Until: 800, PerTensor: true}, d)
	run(t, d, m, 800)
	near(t, m.Report(), map[string]float64{"distance_log_slope": 1, "distance_log_offset": 0, "distance_log_r2": 1,
		"distance/a": math.Log(800), "distance/b": 2 * math.Log(800)})
	run(t, d, m, 400)
	near(t, m.Report(), map[string]float64{"distance_log_slope": 1, "distance_log_r2": 1, "distance_measurements": 13})
}

func TestTooFewMeasurementsFitNothing(t *testing.T) {
	d := &drift{Training: methodtest.New(1), law: math.Sqrt}
	m := newMethod(t, Options{PerDecade: 4, From: 1}, d)
	run(t, d, m, 2)
	if r := m.Report(); len(r) != 1 {
		t.Errorf("two measurements gave %v; want the distance alone", r)
	}
}

func TestStateCrossesACheckpoint(t *testing.T) {
	d := &drift{Training: methodtest.New(1), law: math.Sqrt}
	m, again := newMethod(t, Options{PerDecade: 4, From: 1}, d), newMethod(t, Options{PerDecade: 4, From: 1}, d)
	run(t, d, m, 50)
	raw, err := json.Marshal(m.State())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, again.State()); err != nil {
		t.Fatal(err)
	}
	run(t, d, again, 50)
	if got := again.last(); got != 100 || len(again.state.Points) != 9 {
		t.Errorf("went on to update %d with %d points; want 100 with 9", got, len(again.state.Points))
	}
}
