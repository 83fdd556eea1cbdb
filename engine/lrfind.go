package engine

import (
	"context"
	"errors"
	"fmt"
	"math"

	"broadside/engine/internal/portable"
	"broadside/engine/methods"
	"broadside/engine/recipe"
)

// LRFindOptions say which learning rates a range test tries.
type LRFindOptions struct {
	From, To  float64 // of the first and of the last update
	Updates   int
	Smoothing float64 // weight of the past in the smoothed loss
	Diverge   float64 // the test stops at a smoothed loss of more than so many times its lowest
}

// LRFind is the result of a learning-rate range test (Smith 2015).
type LRFind struct {
	Points []LRPoint `json:"points"`
	// Suggested is the rate at which the smoothed loss falls fastest per factor of the rate; nil if it never falls.
	Suggested *float64 `json:"suggested_lr"`
	// Lowest is the rate with the lowest smoothed loss.
	Lowest  float64  `json:"lowest_loss_lr"`
	Batch   int      `json:"batch"`
	Stopped string   `json:"stopped,omitempty"` // why before the last rate
	Ignored []string `json:"ignored_methods"`   // of the recipe
}

// LRPoint is an update of the test.
type LRPoint struct {
	LR       float64 `json:"lr"`
	Loss     float64 `json:"loss"` // mean over the update's samples, before it
	Smoothed float64 `json:"smoothed_loss"`
}

// FindLR trains a recipe's network from its start for some updates, each with a larger learning rate than the one
// before. It leaves out methods and schedule, and leaves the recipe alone. The result does not depend on devices.
func FindLR(ctx context.Context, r *recipe.Recipe, o Options, test LRFindOptions) (*LRFind, error) {
	plain := *r
	plain.Methods, plain.Optimizer.LR = nil, test.From
	plain.Schedule = recipe.Default().Schedule
	plain.Train.OnAnomaly, plain.Train.AnomalyZ = "stop", 0 // a rate may be too large here
	found := &LRFind{Batch: r.Batch.Size, Ignored: []string{}, Points: []LRPoint{}}
	for _, m := range r.Methods {
		found.Ignored = append(found.Ignored, m.Name)
	}
	err := try(ctx, &plain, o, func(t *trainer) error {
		t.methods = []method{{methods.Info{Name: "lr-find"}, &lossReader{found, test.Smoothing}}}
		return found.run(ctx, t, test)
	})
	if err != nil {
		return nil, err
	}
	found.judge(test.Updates)
	return found, nil
}

// run makes the updates.
func (l *LRFind) run(ctx context.Context, t *trainer, test LRFindOptions) error {
	lowest := math.Inf(1)
	for i := range test.Updates {
		t.cfg.lr = test.From * portable.Pow(test.To/test.From, float64(i)/float64(test.Updates-1))
		err := t.tryUpdate(ctx)
		if diverged := (*DivergedError)(nil); errors.As(err, &diverged) {
			l.Stopped = fmt.Sprintf("the loss is no number at a rate of %.3g", t.cfg.lr)
			return nil
		}
		if err != nil {
			return fmt.Errorf("update %d, with a learning rate of %.3g: %w", i+1, t.cfg.lr, err)
		}
		smoothed := l.Points[i].Smoothed
		if i > 0 && smoothed > test.Diverge*lowest {
			l.Stopped = fmt.Sprintf("the loss grew to more than %g times its lowest", test.Diverge)
			return nil
		}
		lowest = min(lowest, smoothed)
	}
	return nil
}

// judge finds the rates worth knowing. It leaves out the first tenth of the updates, in which the smoothed loss has
// little to go by, and the last one.
func (l *LRFind) judge(updates int) {
	lowest, steepest, skip := math.Inf(1), 0., updates/10
	for i, p := range l.Points {
		if p.Smoothed < lowest {
			lowest, l.Lowest = p.Smoothed, p.LR
		}
		if i < skip || i > len(l.Points)-2 {
			continue
		}
		if s := l.slope(i, skip, len(l.Points)-2); s < steepest {
			steepest, l.Suggested = s, &l.Points[i].LR
		}
	}
}

// slope is the smoothed loss's change per update between two places: half the difference of its neighbours, and of
// one neighbour at an end.
func (l *LRFind) slope(i, first, last int) float64 {
	from, to := max(i-1, first), min(i+1, last)
	if from == to {
		return 0
	}
	return (l.Points[to].Smoothed - l.Points[from].Smoothed) / float64(to-from)
}

// lossReader notes the loss of every update.
type lossReader struct {
	into      *LRFind
	smoothing float64
}

// Prepare does nothing.
func (l *lossReader) Prepare(methods.Training) error { return nil }

// UpdateEnd notes an update. The smoothed loss is a moving average, divided by the sum of its weights so far.
func (l *lossReader) UpdateEnd(_ methods.Training, u methods.Update) error {
	p := LRPoint{LR: u.LR, Loss: u.Loss, Smoothed: u.Loss}
	if n := len(l.into.Points); n > 0 {
		past := 1 - math.Pow(l.smoothing, float64(n))
		average := l.smoothing*past*l.into.Points[n-1].Smoothed + (1-l.smoothing)*u.Loss
		p.Smoothed = average / (1 - math.Pow(l.smoothing, float64(n+1)))
	}
	l.into.Points = append(l.into.Points, p)
	return nil
}
