package sweep

import (
	"fmt"
	"math"
	"slices"
)

// Spread is the mean of a value over the seeds of a point, and its standard deviation, which one seed does not have.
type Spread struct {
	Mean      float64  `json:"mean"`
	Deviation *float64 `json:"deviation,omitempty"`
}

// Point is what the runs of one combination of settings came to, over the seeds. Values are of the runs that are done.
type Point struct {
	Settings    []Setting `json:"settings"`
	Done        int       `json:"done"`
	Diverged    int       `json:"diverged"`
	Waiting     int       `json:"waiting"` // and those that were stopped
	Accuracy    *Spread   `json:"test_accuracy,omitempty"`
	Best        *Spread   `json:"best_test_accuracy,omitempty"`
	Median      *Spread   `json:"median_test_accuracy,omitempty"` // of the last five test accuracies of each run
	Updates     *Spread   `json:"updates,omitempty"`
	WallSeconds *Spread   `json:"wall_seconds,omitempty"`
}

// Points gathers runs by their settings, in the order of the runs.
func Points(runs []*Run) []*Point {
	var points []*Point
	groups := map[string][]*Run{}
	for _, r := range runs {
		key := fmt.Sprintf("%q", r.Settings)
		if len(groups[key]) == 0 {
			points = append(points, &Point{Settings: r.Settings})
		}
		groups[key] = append(groups[key], r)
	}
	for _, p := range points {
		p.gather(groups[fmt.Sprintf("%q", p.Settings)])
	}
	return points
}

func (p *Point) gather(runs []*Run) {
	var done []*Run
	for _, r := range runs {
		switch r.State {
		case Done:
			done = append(done, r)
		case Diverged:
			p.Diverged++
		default:
			p.Waiting++
		}
	}
	p.Done = len(done)
	if len(done) == 0 {
		return
	}
	over := func(value func(r *Run) float64) *Spread {
		var values []float64
		for _, r := range done {
			values = append(values, value(r))
		}
		return spread(values)
	}
	p.Accuracy = over(func(r *Run) float64 { return r.Summary.TestAccuracy })
	p.Best = over(func(r *Run) float64 { return r.Summary.BestTestAccuracy })
	p.Median = over(func(r *Run) float64 { return r.Median })
	p.Updates = over(func(r *Run) float64 { return float64(r.Summary.Updates) })
	p.WallSeconds = over(func(r *Run) float64 { return r.Summary.WallSeconds })
}

// spread returns mean and standard deviation of one or more values.
func spread(values []float64) *Spread {
	s := &Spread{}
	for _, v := range values {
		s.Mean += v / float64(len(values))
	}
	if len(values) > 1 {
		square := 0.
		for _, v := range values {
			square += (v - s.Mean) * (v - s.Mean)
		}
		d := math.Sqrt(square / float64(len(values)-1))
		s.Deviation = &d
	}
	return s
}

// median returns the middle value, or the mean of the two in the middle; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
