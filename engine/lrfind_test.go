package engine

import (
	"context"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/recipe"
)

// lossCurve is a loss that waves, falls and diverges; k moves where and how steeply.
func lossCurve(k int) (out []float64) {
	for i := range 100 {
		x := float64(i)
		l := 2.3 - 1.5/(1+math.Exp(-(x-float64(40+10*k))/float64(4+2*k))) + .3*math.Sin(1.7*x+float64(k))
		if i > 85 {
			l += .05 * (x - 85) * (x - 85)
		}
		out = append(out, l)
	}
	return out
}

// Places and last values are those of weighted means and of torch.gradient over them, in PyTorch 2.15.
func TestLRFindJudges(t *testing.T) {
	for k, want := range []struct {
		steepest, lowest int
		last             float64
	}{{47, 88, 2.19242173310338}, {57, 84, 6.92953802053658}, {60, 83, 8.90664103006464}, {78, 86, 10.0116048793185}} {
		l := &LRFind{}
		reader := &lossReader{l, .98 * (1 - .2*float64(k))}
		for i, loss := range lossCurve(k) {
			if err := reader.UpdateEnd(nil, methods.Update{Loss: loss, LR: float64(i)}); err != nil {
				t.Fatal(err)
			}
		}
		l.judge(100)
		if *l.Suggested != float64(want.steepest) || l.Lowest != float64(want.lowest) || math.Abs(l.Points[99].Smoothed/want.last-1) > 1e-13 {
			t.Errorf("curve %d: steepest at %g, lowest at %g, last %.15g; want %+v", k, *l.Suggested, l.Lowest, l.Points[99].Smoothed, want)
		}
	}
	rising := &LRFind{}
	for i := range 20 {
		rising.Points = append(rising.Points, LRPoint{float64(i), float64(i), float64(i)})
	}
	if rising.judge(20); rising.Suggested != nil || rising.Lowest != 0 {
		t.Errorf("a loss that only rises: %+v", rising)
	}
	for n := range 5 {
		few := &LRFind{Points: rising.Points[:n]}
		if few.judge(100); few.Suggested != nil {
			t.Errorf("%d points: %+v", n, few)
		}
	}
}

// The updates are those of training: at one rate over several epochs, whose ends fall inside updates, the losses are
// the same.
func TestLRFindTrains(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32+5, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	for _, set := range []string{"batch.size=96", "batch={size: 96, drop_last: true}", "batch={size: 64, sync_bn: true, ghost: 32}"} {
		losses := func(train func(*trainer) error) []LRPoint {
			into := &LRFind{}
			tr := startTrainer(t, parseRecipe(t, smallText, "schedule={name: constant, at: []}", set), pair, 2, &tape{})
			tr.methods = []method{{methods.Info{}, &lossReader{into, .9}}}
			if err := train(tr); err != nil {
				t.Fatal(err)
			}
			return into.Points
		}
		want := losses(func(tr *trainer) error { return tr.train(context.Background()) })
		got := losses(func(tr *trainer) error {
			for range want {
				if err := tr.tryUpdate(context.Background()); err != nil {
					return err
				}
			}
			return nil
		})
		if len(want) < 9 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: losses\n%v; want\n%v", set, got, want)
		}
	}
}

func lrRecipe(t *testing.T, sets ...string) *recipe.Recipe {
	t.Helper()
	r, err := recipe.Load("quickstart", append([]string{"data.train_limit=512", "data.test_limit=10", "model.name=resnet8", "batch={size: 32, leaf: 16, ghost: 16}"}, sets...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The same test has the same bits on any devices, leaves the recipe alone and stops where the loss diverges.
func TestFindLR(t *testing.T) {
	test := LRFindOptions{From: 1e-4, To: 1e4, Updates: 60, Smoothing: .9, Diverge: 4}
	r := lrRecipe(t)
	before, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	one, err := FindLR(context.Background(), r, Options{Device: "cpu", Devices: 1}, test)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{Device: "cpu", Devices: 3}, {Device: "cpu:0,1"}} {
		other, err := FindLR(context.Background(), r, o, test)
		if err != nil || !reflect.DeepEqual(one, other) {
			t.Errorf("on %+v: %+v, %v; want %+v", o, other, err, one)
		}
	}
	if after, err := r.YAML(); err != nil || string(after) != string(before) {
		t.Errorf("the recipe became\n%s", after)
	}
	if n := len(one.Points); n < 20 || n >= 60 || one.Stopped == "" || !reflect.DeepEqual(one.Ignored, []string{"absa"}) || one.Batch != 32 {
		t.Errorf("%d points, %+v", n, one)
	}
	for i, p := range one.Points {
		if want := 1e-4 * math.Pow(1e8, float64(i)/59); math.Abs(p.LR/want-1) > 1e-12 {
			t.Errorf("update %d has the rate %g; want %g", i, p.LR, want)
		}
	}
	if one.Suggested == nil || !(*one.Suggested > 1e-3 && *one.Suggested < one.Lowest && one.Lowest < 10) {
		t.Errorf("suggested %v, lowest at %g", one.Suggested, one.Lowest)
	}
}

// A loss that is no number ends the test with what it has.
func TestFindLRDiverges(t *testing.T) {
	found, err := FindLR(context.Background(), lrRecipe(t), Options{Device: "cpu"}, LRFindOptions{From: 1e-3, To: 1e30, Updates: 40, Smoothing: .98, Diverge: math.Inf(1)})
	if err != nil || !strings.Contains(found.Stopped, "no number") || len(found.Points) < 5 || len(found.Points) == 40 {
		t.Errorf("%+v, %v", found, err)
	}
	for _, p := range found.Points {
		if math.IsNaN(p.Smoothed) || math.IsInf(p.Smoothed, 0) {
			t.Errorf("point %+v", p)
		}
	}
}

// A stop ends the test before its first update, and in the midst of a long one.
func TestFindLRStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := FindLR(ctx, lrRecipe(t), Options{Device: "cpu"}, LRFindOptions{From: 1e-3, To: 1, Updates: 40, Diverge: 4})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	r := lrRecipe(t)
	r.Batch.Size, r.Train.Epochs = 1<<24, 1<<20
	ctx, cancel = context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err = FindLR(ctx, r, Options{Device: "cpu"}, LRFindOptions{From: 1e-3, To: 1, Updates: 40, Diverge: 4})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
