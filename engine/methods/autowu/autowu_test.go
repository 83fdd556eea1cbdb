package autowu

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
	"broadside/engine/schedule"
	"broadside/kernels/philox"
)

func newMethod(t *testing.T, epochs int, change func(*Options)) (*Method, *methodtest.Training) {
	t.Helper()
	o := defaults()
	change(o)
	m, err := New(*o)
	if err != nil {
		t.Fatal(err)
	}
	f := methodtest.New(epochs)
	if _, err := m.Schedule(f, schedule.Constant{}); err != nil {
		t.Fatal(err)
	}
	return m, f
}

// play trains with 100 updates an epoch whose losses are a function of the exponent of the learning rate, from 0 at the
// start to 1 at the largest, with some noise. It returns after how many epochs the warm-up was ended.
func play(t *testing.T, m *Method, f *methodtest.Training, loss func(exponent float64) float64) int {
	t.Helper()
	noise := philox.NewStream(3, philox.Probe, 0, 0, 0)
	for f.EpochsDone < f.EpochsWanted {
		for i := range 100 {
			place := float64(f.EpochsDone) + float64(i)/100
			factor := m.Factor(place)
			u := methods.Update{Loss: loss(1-math.Log(factor)/math.Log(m.opt.Start)) + 0.02*noise.Norm(), LR: factor, Epochs: place}
			if err := m.UpdateEnd(f, u); err != nil {
				t.Fatal(err)
			}
		}
		f.EpochsDone++
		if err := m.EpochEnd(f); err != nil {
			t.Fatal(err)
		}
		if m.state.Switch != nil {
			return f.EpochsDone
		}
	}
	return 0
}

// The learning rate starts at 1e-5, is 3.16e-3 at a quarter of training and 1 at its middle.
func TestWarmup(t *testing.T) {
	m, _ := newMethod(t, 120, func(*Options) {})
	for epochs, want := range map[float64]float64{0: 1e-5, 30: math.Sqrt(1e-5), 60: 1, 90: 0.5, 120: 0} {
		if got := m.Factor(epochs); math.Abs(got-want) > 1e-12 {
			t.Errorf("after %g epochs of 120 the learning rate is %g; want %g", epochs, got, want)
		}
	}
	if math.Abs(m.Factor(30)-3.16e-3) > 5e-6 {
		t.Errorf("at a quarter of training the learning rate is %g; want 3.16e-3", m.Factor(30))
	}
}

// A loss that falls and rises again ends the warm-up, and the decay starts from the rate of its minimum.
func TestVShapedLossEndsTheWarmup(t *testing.T) {
	m, f := newMethod(t, 40, func(*Options) {})
	const lowest = 0.6
	at := play(t, m, f, func(e float64) float64 { return 1 + 2*math.Abs(e-lowest) })
	if at < 13 || at > 17 { // the minimum is at epoch 12, and three epochs in a row must show the rise
		t.Fatalf("the warm-up was ended after epoch %d; want between 13 and 17", at)
	}
	want := math.Pow(m.opt.Start, 1-lowest)
	if ratio := m.state.Factor / want; ratio < 0.5 || ratio > 2 {
		t.Errorf("the decay starts from %g; the loss is lowest at %g", m.state.Factor, want)
	}
	for epochs, want := range map[float64]float64{float64(at): 1, (float64(at) + 40) / 2: 0.5, 40: 0} {
		if got := m.Factor(epochs) / m.state.Factor; math.Abs(got-want) > 1e-12 {
			t.Errorf("after %g epochs the decay is at %g; want %g", epochs, got, want)
		}
	}
}

func TestFallingOrFlatLossDoesNot(t *testing.T) {
	for name, loss := range map[string]func(float64) float64{
		"falling": func(e float64) float64 { return 3 - 2*e },
		"flat":    func(float64) float64 { return 2 },
	} {
		m, f := newMethod(t, 20, func(o *Options) { o.Grid = 100 })
		if at := play(t, m, f, loss); at != 0 {
			t.Errorf("a %s loss ended the warm-up after epoch %d", name, at)
		}
		if got := m.Factor(10); got != 1 {
			t.Errorf("a %s loss: the decay starts from %g; want the largest rate", name, got)
		}
	}
}

func TestConstantThenCosine(t *testing.T) {
	m, _ := newMethod(t, 100, func(o *Options) { o.Decay = "constant_cosine" })
	at := 20.0
	m.state.Switch, m.state.Factor = &at, 0.5
	for epochs, want := range map[float64]float64{20: 0.5, 79: 0.5, 90: 0.25, 100: 0} {
		if got := m.Factor(epochs); math.Abs(got-want) > 1e-12 {
			t.Errorf("after %g epochs: %g; want %g", epochs, got, want)
		}
	}
}

// The history is bounded, and its points are means of equally many updates. What is no number stays out.
func TestHistoryMerges(t *testing.T) {
	h := history{Width: 1}
	for i := range 5000 {
		h.add(float64(i), 2*float64(i))
		h.add(float64(i), math.NaN())
		h.add(float64(i), math.Inf(1))
	}
	if h.Width != 8 || len(h.Loss) != 625 {
		t.Fatalf("%d points of %d updates; want 625 of 8", len(h.Loss), h.Width)
	}
	for i, place := range h.Place {
		if want := 8*float64(i) + 3.5; place != want || h.Loss[i] != 2*want {
			t.Fatalf("point %d is at %g with loss %g; want %g and %g", i, place, h.Loss[i], want, 2*want)
		}
	}
	x, y := h.pick(500, 0.9, 5000)
	if len(x) != 500 || x[499] != h.Place[624]/5000 || y[0] != h.Loss[1] {
		t.Errorf("picked %d points from loss %g to place %g", len(x), y[0], x[len(x)-1])
	}
	if x, _ := h.pick(1000, 0.9, 5000); len(x) != 625 {
		t.Errorf("picked %d points of 625", len(x))
	}
}

// A run that crosses a checkpoint in mid-warm-up comes to the same switch.
func TestStateCrossesACheckpoint(t *testing.T) {
	v := func(e float64) float64 { return 1 + 2*math.Abs(e-0.4) }
	m, f := newMethod(t, 20, func(*Options) {})
	play(t, m, f, v)
	half, g := newMethod(t, 20, func(*Options) {})
	g.EpochsWanted = 4
	play(t, half, g, v)
	raw, err := json.Marshal(half.State())
	if err != nil {
		t.Fatal(err)
	}
	again, _ := newMethod(t, 20, func(*Options) {})
	if err := json.Unmarshal(raw, again.State()); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(again.state, half.state) || len(half.state.History.Loss) != 400 {
		t.Errorf("the state came back as another: %d points", len(again.state.History.Loss))
	}
	if m.state.Switch == nil {
		t.Error("the whole run did not end its warm-up")
	}
}

func TestRefusesAnotherSchedule(t *testing.T) {
	m, f := newMethod(t, 10, func(*Options) {})
	if _, err := m.Schedule(f, schedule.Cosine{Epochs: 10}); err == nil {
		t.Error("autowu accepted a cosine schedule under it")
	}
}
