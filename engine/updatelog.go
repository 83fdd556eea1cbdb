package engine

import (
	"time"

	"broadside/engine/methods"
	"broadside/engine/telemetry"
)

// lap is where the update recorded last left off, or the epoch began: speed is measured from there.
type lap struct {
	start   time.Time
	samples int64
}

// logUpdate records the update just made, of so many leaves, if it is one of those that train.log_per_epoch asks for. What
// it takes is known on the host by now, so no device is waited for.
func (t *trainer) logUpdate(u methods.Update, leaves int) error {
	if !t.logs(leaves) {
		return nil
	}
	now := time.Now()
	speed := float64(t.at.Samples-t.lap.samples) / now.Sub(t.lap.start).Seconds()
	t.lap = lap{now, t.at.Samples}
	return t.sink.Event(telemetry.Event{Type: telemetry.TypeUpdate, Epoch: t.at.Epoch, Updates: t.at.Updates,
		Update: telemetry.Update{EpochFraction: float64(t.at.Leaf) / float64(t.sampler.LeavesPerEpoch()), SamplesSeen: t.at.Samples,
			Loss: u.Loss, Batch: t.at.Batch, LR: u.LR, ImagesPerSecond: speed, GradientNorm: t.updater.norm}})
}

// logs reports whether an update that took so many leaves is recorded: the first to end in each of log_per_epoch equal
// parts of an epoch. It depends on the place in training alone, so that a resume goes on as if nothing had happened.
func (t *trainer) logs(leaves int) bool {
	parts, all := t.cfg.logPerEpoch, t.sampler.LeavesPerEpoch()
	before := max(t.at.Leaf-leaves, 0) // it may have begun in the epoch before
	return t.at.Leaf*parts/all > before*parts/all
}
