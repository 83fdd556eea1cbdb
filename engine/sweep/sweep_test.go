package sweep

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"broadside/engine/telemetry"
)

func TestParseAxis(t *testing.T) {
	for text, want := range map[string][]string{
		"batch.size=64,128":              {"64", "128"},
		"a=1":                            {"1"},
		"a=":                             {""},
		"a= 1, 2":                        {"1", "2"},
		"schedule.at=[30,60],[40,80]":    {"[30,60]", "[40,80]"},
		"batch={size: 8, leaf: 4},{a: b": {"{size: 8, leaf: 4}", "{a: b"},
		`name='a,b',"c,d"`:               {"'a,b'", `"c,d"`},
	} {
		a, err := ParseAxis(text)
		if err != nil || !slices.Equal(a.Values, want) || a.Key != text[:strings.Index(text, "=")] {
			t.Errorf("%s: %q, %v; want %q", text, a, err, want)
		}
	}
	for text, want := range map[string]string{"a": "key=value", "=1,2": "key=value", "a=1,,2": "is empty", "a=1,2,1": "1 is listed twice"} {
		if _, err := ParseAxis(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q in it", text, err, want)
		}
	}
}

func TestGrid(t *testing.T) {
	all, err := axes([]Axis{{"a", []string{"1", "2"}}, {"b.c", []string{"x"}}}, []uint64{7, 8})
	if err != nil {
		t.Fatal(err)
	}
	points, err := grid(all)
	if err != nil {
		t.Fatal(err)
	}
	const want = "[[a=1 b.c=x train.seed=7] [a=1 b.c=x train.seed=8] [a=2 b.c=x train.seed=7] [a=2 b.c=x train.seed=8]]"
	if got := fmt.Sprint(points); got != want {
		t.Errorf("points %s; want %s", got, want)
	}
	varies := func(key string) bool { return key != "b.c" }
	if got, want := folders("d", points, varies)[:2], []string{"d/a=1,train.seed=7", "d/a=1,train.seed=8"}; !slices.Equal(got, want) {
		t.Errorf("folders %q; want %q", got, want)
	}
	odd := [][]Setting{{{"a", "[1,2]"}}, {{"a", "{1,2}"}}, {{"a", strings.Repeat("x", 300)}}}
	if got, want := folders("d", odd, varies), []string{"d/a=-1-2-", "d/point-0002", "d/point-0003"}; !slices.Equal(got, want) {
		t.Errorf("folders %q; want %q", got, want)
	}
	if got := folders("d", [][]Setting{nil}, varies); got[0] != "d/run" {
		t.Errorf("a grid of one point is in %q", got)
	}
}

func TestGridMistakes(t *testing.T) {
	if _, err := axes([]Axis{{"a", []string{"1"}}, {"a", []string{"2"}}}, nil); err == nil {
		t.Error("a key on two axes was accepted")
	}
	if _, err := axes([]Axis{{"train.seed", []string{"1"}}}, []uint64{1}); err == nil {
		t.Error("seeds on two axes were accepted")
	}
	if _, err := axes(nil, []uint64{1, 1}); err == nil {
		t.Error("a seed was accepted twice")
	}
	wide := Axis{"a", make([]string, 101)}
	if _, err := grid([]Axis{wide, wide}); err == nil {
		t.Error("10,201 runs were accepted")
	}
	var errs []error
	for range 7 {
		errs = append(errs, errors.New("x"))
	}
	if text := first(errs).Error(); strings.Count(text, "\n") != 5 || !strings.Contains(text, "2 more") {
		t.Errorf("seven mistakes are told as %q", text)
	}
}

// Accuracies of 0.2, 0.3, 0.7 have the mean 0.4 and the standard deviation sqrt((0.04+0.01+0.09)/2).
func TestPoints(t *testing.T) {
	settings := []Setting{{"a", "1"}}
	run := func(state string, accuracy float64) *Run {
		return &Run{Settings: settings, State: state, Median: accuracy / 2, Summary: &telemetry.Summary{TestAccuracy: accuracy, Updates: 10}}
	}
	other := &Run{Settings: []Setting{{"a", "2"}}, State: Waiting}
	points := Points([]*Run{run(Done, .2), other, run(Done, .3), run(Diverged, 9), run(Begun, 9), run(Done, .7)})
	if len(points) != 2 {
		t.Fatalf("%d points; want 2", len(points))
	}
	p := points[0]
	if p.Done != 3 || p.Diverged != 1 || p.Waiting != 1 || math.Abs(p.Accuracy.Mean-.4) > 1e-12 ||
		math.Abs(*p.Accuracy.Deviation-math.Sqrt(.07)) > 1e-12 || math.Abs(p.Median.Mean-.2) > 1e-12 || p.Updates.Mean != 10 {
		t.Errorf("point %+v, accuracy %+v", p, p.Accuracy)
	}
	if q := points[1]; q.Waiting != 1 || q.Accuracy != nil {
		t.Errorf("a point without a run that is done: %+v", q)
	}
	if s := spread([]float64{3}); s.Mean != 3 || s.Deviation != nil {
		t.Errorf("one value has the spread %+v", s)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 2}, 2}, {[]float64{5, 1, 4, 2, 3}, 3}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %g; want %g", c.values, got, c.want)
		}
	}
}
