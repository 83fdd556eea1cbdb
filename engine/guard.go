package engine

import (
	"errors"
	"fmt"
	"math"

	"broadside/engine/recipe"
	"broadside/engine/telemetry"
	"broadside/kernels"
)

// guard holds the loss and the gradient of every update against those before, where the recipe asks for it by
// train.on_anomaly or train.anomaly_z. An update is anomalous if one of the two is no number, or if it lies more than z
// standard deviations above the mean of the updates before, by [trend].
type guard struct {
	fleet   *fleet
	policy  string // stop, skip or rollback
	z       float64
	lengths func() (*lengths, error)
	seen    *watched
	loss    float64 // mean over the samples of the update under way
	samples int     // that it is over
}

// watched is what a guard knows of the run, and a checkpoint keeps.
type watched struct {
	Loss      trend `json:"loss"`
	Gradient  trend `json:"gradient"`
	Anomalies int   `json:"anomalies"` // since the start of the run
	InARow    int   `json:"in_a_row"`
	Lost      int   `json:"lost_leaves"` // of the current epoch: their loss was no number
}

// trend is the mean and the variance of a series, of which each value counts memory times as much as the next.
type trend struct {
	Count    int     `json:"count"`
	Mean     float64 `json:"mean"`
	Variance float64 `json:"variance"`
}

const (
	trendMemory   = 0.98 // the last 50 updates count most
	trendWarmup   = 20   // updates that are not judged, but for being numbers
	mostAnomalies = 10   // in a row, after which there is no use in going on
)

func (t *trend) add(x float64) {
	t.Count++
	keep := math.Min(trendMemory, 1-1/float64(t.Count)) // a plain mean while there are few
	d := x - t.Mean
	t.Mean += (1 - keep) * d
	t.Variance = keep * (t.Variance + (1-keep)*d*d)
}

// score returns how many standard deviations x lies above the mean; 0 while too little is known.
func (t *trend) score(x float64) float64 {
	if t.Count < trendWarmup || t.Variance == 0 {
		return 0
	}
	return (x - t.Mean) / math.Sqrt(t.Variance)
}

// anomaly is why an update is not to be made.
type anomaly struct {
	what  string // loss or gradient norm
	value float64
	score float64 // 0 if the value is no number
}

func (a *anomaly) Error() string {
	if a.score == 0 {
		return fmt.Sprintf("the %s is %g", a.what, a.value)
	}
	return fmt.Sprintf("the %s is %.4g, %.1f standard deviations above those of the updates before", a.what, a.value, a.score)
}

// guarded reports whether a recipe wants a guard. Without one, a loss that is no number stops the run.
func guarded(r *recipe.Recipe) bool { return r.Train.OnAnomaly != "stop" || r.Train.AnomalyZ > 0 }

// guardVectors is how many parameter-shaped memories a guard takes.
func guardVectors(r *recipe.Recipe) int {
	if guarded(r) {
		return 1
	}
	return 0
}

// newGuard returns nil where the recipe wants none.
func newGuard(f *fleet, r *recipe.Recipe, seen *watched, lengths func() (*lengths, error)) *guard {
	if !guarded(r) {
		return nil
	}
	return &guard{fleet: f, policy: r.Train.OnAnomaly, z: r.Train.AnomalyZ, lengths: lengths, seen: seen}
}

// tolerates reports whether training goes on after a loss that is no number.
func (g *guard) tolerates() bool { return g != nil && g.policy != "stop" }

func (g *guard) rollsBack() bool { return g != nil && g.policy == "rollback" }

// begin is told the mean loss of an update and the number of samples that its gradient is summed over.
func (g *guard) begin(loss float64, samples int) {
	if g != nil {
		g.loss, g.samples = loss, samples
	}
}

// check judges the update under way, of which it is given the sum of the gradients, and returns the norm of their mean.
func (g *guard) check(sum kernels.Memory) (norm float64, err error) {
	if g == nil {
		return 0, nil
	}
	l, err := g.lengths()
	if err != nil {
		return 0, err
	}
	square, err := l.measure(sum)
	if err != nil {
		return 0, err
	}
	norm = math.Sqrt(square) / float64(g.samples)
	if a := g.judge("loss", &g.seen.Loss, g.loss); a != nil {
		return 0, a
	}
	if a := g.judge("gradient norm", &g.seen.Gradient, norm); a != nil {
		return 0, a
	}
	g.seen.Loss.add(g.loss)
	g.seen.Gradient.add(norm)
	g.seen.InARow = 0
	return norm, nil
}

func (g *guard) judge(what string, t *trend, x float64) *anomaly {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return &anomaly{what: what, value: x}
	}
	if score := t.score(x); g.z > 0 && score > g.z {
		return &anomaly{what: what, value: x, score: score}
	}
	return nil
}

// passOver goes on after an update that was not made, as the recipe says.
func (t *trainer) passOver(a *anomaly) error {
	g := t.updater.guard
	g.seen.Anomalies++
	g.seen.InARow++
	t.forget()
	switch {
	case g.policy == "stop":
		return fmt.Errorf("%w: train.on_anomaly is stop; skip leaves such updates out, rollback goes back to the checkpoint before", a)
	case g.seen.InARow >= mostAnomalies:
		return fmt.Errorf("%w, as in %d updates before it: training has diverged; a lower optimizer.lr may help", a, mostAnomalies-1)
	}
	event := telemetry.Event{Type: telemetry.TypeAnomaly, Epoch: t.at.Epoch, Updates: t.at.Updates, Trigger: g.policy, Message: a.Error() + ": update left out"}
	if g.policy == "rollback" {
		back, err := t.rollBack()
		if err != nil {
			return fmt.Errorf("%w; going back to a checkpoint: %w", a, err)
		}
		event.Message = fmt.Sprintf("%v: back to the parameters after %d updates", a, back)
	}
	return t.sink.Event(event)
}

// rollBack puts parameters, statistics, optimiser and methods back to the newest checkpoint by number of updates, and
// returns that number. The place among the samples stays, so those since are left out.
func (t *trainer) rollBack() (updates int, err error) {
	ck, err := t.sink.Newest(t)
	if err != nil {
		return 0, err
	}
	was := t.at
	if err := t.restore(ck); err != nil {
		return 0, err
	}
	if err := t.startMethods(); err != nil { // where that is before the first update
		return 0, err
	}
	then := t.at
	t.at = was
	t.at.Batch, t.at.LRScale, t.at.Watch.Loss, t.at.Watch.Gradient = then.Batch, then.LRScale, then.Watch.Loss, then.Watch.Gradient
	t.at.Before = was.Updates - then.Updates + then.Before // so that step rule and methods count on from their state
	if then.Phase != was.Phase {
		return 0, errors.New("the newest is of the phase before")
	}
	return then.Updates, nil
}

// count adds the loss of a leaf to the epoch's. Where anomalies are tolerated, one that is no number is left out.
func (t *trainer) count(loss float64, correct int) {
	if t.updater.guard.tolerates() && checkLoss(loss, "") != nil {
		t.at.Watch.Lost++
		return
	}
	t.at.EpochLoss += loss
	t.at.EpochCorrect += correct
}

// checkSums refuses to go on from a loss that is no number, unless such updates are left out.
func (t *trainer) checkSums() error {
	if t.updater.guard.tolerates() {
		return nil
	}
	return checkLoss(t.at.EpochLoss+t.pending.loss, t.fleet.train.set.Name)
}
