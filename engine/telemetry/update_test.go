package telemetry

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/plot/plotter"
)

func sampleUpdate(n int) Event {
	return Event{Type: TypeUpdate, Time: noon, WallSeconds: 0.3, Epoch: 3, Updates: n,
		Update: Update{EpochFraction: 1. / 3, SamplesSeen: 1 << 60, Loss: 1e-300, Batch: 8192, LR: 0.1, ImagesPerSecond: 1e6, GradientNorm: 1.0 / 7}}
}

func TestUpdateRoundTrip(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	l.Wall = func() float64 { return 9 }
	full, plain, diverged := sampleUpdate(7), sampleUpdate(8), sampleUpdate(9)
	plain.Update.GradientNorm, plain.WallSeconds = 0, 0
	diverged.Update.Loss, diverged.Update.LR, diverged.Update.ImagesPerSecond = math.Inf(1), math.NaN(), math.Inf(1)
	appendAll(t, l, full, plain, diverged)
	text, err := os.ReadFile(filepath.Join(dir, EventsFile))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	const want = `{"type":"update","time":"2025-03-01T12:00:00Z","wall_seconds":0.3,"epoch":3,"updates":7,"epoch_fraction":0.3333333333333333,` +
		`"samples_seen":1152921504606846976,"loss":1e-300,"batch":8192,"lr":0.1,"images_per_second":1e+06,"gradient_norm":0.14285714285714285}`
	if lines[0] != want || !strings.Contains(lines[2], `"loss":null,"batch":8192,"lr":null,"images_per_second":null,`) {
		t.Errorf("got\n%s\n%s", lines[0], lines[2])
	}
	if again, err := json.Marshal(full); err != nil || string(again) != want {
		t.Errorf("MarshalJSON: %s, %v", again, err)
	}
	plain.WallSeconds = 9
	got := readAll(t, dir)
	if !reflect.DeepEqual(got[:2], []Event{full, plain}) {
		t.Errorf("got  %+v\nwant %+v", got[:2], []Event{full, plain})
	}
	if u := got[2].Update; !math.IsNaN(u.Loss) || !math.IsNaN(u.LR) || !math.IsNaN(u.ImagesPerSecond) || u.Batch != 8192 {
		t.Errorf("got %+v", u)
	}
}

// The line of an update has the keys of its struct: those that the tables and other programs go by.
func TestUpdateKeys(t *testing.T) {
	e := sampleUpdate(1)
	var got map[string]any
	if err := json.Unmarshal(appendUpdate(nil, &e), &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range append(columns(reflect.TypeFor[Update]()), "type", "time", "wall_seconds", "epoch", "updates") {
		if _, ok := got[key]; !ok {
			t.Errorf("%s is missing", key)
		}
		delete(got, key)
	}
	if len(got) > 0 {
		t.Errorf("%v are of no field", got)
	}
}

func TestUpdateAllocatesNothing(t *testing.T) {
	l := openLog(t, t.TempDir())
	l.now = time.Now
	e := sampleUpdate(1)
	e.Time, e.WallSeconds, l.Wall = time.Time{}, 0, func() float64 { return 3 }
	if n := testing.AllocsPerRun(1000, func() {
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkUpdate(b *testing.B) {
	l, err := OpenEventLog(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	e := sampleUpdate(1)
	e.Time = time.Time{}
	for b.Loop() {
		if err := l.Append(e); err != nil {
			b.Fatal(err)
		}
	}
}

// A run's curves go by updates where they are recorded, after what an older version recorded of epochs alone.
func TestCurvesWithinEpochs(t *testing.T) {
	var run curves
	run.take([]Event{{Type: TypeEpoch, Record: &Epoch{Epoch: 1, Updates: 10, SamplesSeen: 100, TrainLoss: 4, LR: 0.5, WallSeconds: 3}},
		{Type: TypeUpdate, Epoch: 1, Updates: 15, WallSeconds: 4, Update: Update{EpochFraction: 0.5, SamplesSeen: 150, Loss: 3, LR: 0.25, GradientNorm: 2}},
		{Type: TypeUpdate, Epoch: 1, Updates: 20, WallSeconds: 5, Update: Update{EpochFraction: 1, SamplesSeen: 200, Loss: 1, LR: 0.125}},
		{Type: TypeEpoch, Record: &Epoch{Epoch: 2, Updates: 20, SamplesSeen: 200, TrainLoss: 2, TestLoss: ptr(2.5), LR: 0.1, WallSeconds: 6}}})
	for _, c := range []struct {
		quantity, over string
		line           int
		want           plotter.XYs
	}{
		{"loss", "epoch", 0, plotter.XYs{{X: 1, Y: 4}, {X: 1.5, Y: 3}, {X: 2, Y: 1}}},
		{"loss", "epoch", 1, plotter.XYs{{X: 2, Y: 2.5}}},
		{"train_loss", "updates", 0, plotter.XYs{{X: 10, Y: 4}, {X: 15, Y: 3}, {X: 20, Y: 1}}},
		{"lr", "samples", 0, plotter.XYs{{X: 100, Y: 0.5}, {X: 150, Y: 0.25}, {X: 200, Y: 0.125}}},
		{"lr", "time", 0, plotter.XYs{{X: 3, Y: 0.5}, {X: 4, Y: 0.25}, {X: 5, Y: 0.125}}},
		{"gradient_norm", "epoch", 0, plotter.XYs{{X: 1.5, Y: 2}}},
	} {
		q, err := quantityOf(c.quantity, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.points(q.lines[c.line], axes[c.over], &run); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s over %s, line %d: %v; want %v", c.quantity, c.over, c.line, got, c.want)
		}
	}
}

// Many updates are drawn as means, or by every last one where the mean would be a value that never was.
func TestThinned(t *testing.T) {
	points := make(plotter.XYs, 2*mostPoints+1)
	for i := range points {
		points[i] = plotter.XY{X: float64(i), Y: float64(i % 2)}
	}
	means, lasts := thinned(points, false), thinned(points, true)
	if len(means) > mostPoints || len(lasts) != len(means) || means[0].X != 2 || math.Abs(means[0].Y-1./3) > 1e-15 || lasts[0] != points[2] || lasts[len(lasts)-1].X != points[len(points)-1].X {
		t.Errorf("%d means from %v, %d lasts from %v", len(means), means[0], len(lasts), lasts[0])
	}
	if got := thinned(points[:mostPoints], false); !reflect.DeepEqual(got, points[:mostPoints]) {
		t.Error("few points are changed")
	}
}
