package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/schedule"
	"broadside/engine/telemetry"
)

// trainer runs the training loop. The loop, in pseudocode:
//
//	for every epoch:
//	    for every update:
//	        for every leaf of the update, side by side on the devices:
//	            gather and augment its samples
//	            perturb them                          (methods.Perturber)
//	            forward, backward: gradient sum of its lane
//	        add the lanes, fold the batch statistics
//	        learning rate                             (methods.Scheduler)
//	        update the parameters                     (optim.Rule, methods.Stepper)
//	        end of update: batch size, learning rate  (methods.UpdateEnder)
//	        checkpoint, if due
//	    end of epoch: probes, batch size              (methods.EpochEnder)
//	    evaluate, record
//
// An epoch is a whole number of leaves; an update may begin in one epoch and end in the next, and
// the batch may change at any leaf.
type trainer struct {
	cfg      trainerConfig
	fleet    *fleet
	updater  *updater
	sampler  *data.Sampler
	schedule schedule.Schedule
	methods  []method
	sink     sink

	at      progress
	pending pending
	job     leaves
	held    []int         // epochs of the leaves that wait for the rest of their update; only with batch.sync_bn
	started time.Time     // when this process began to train
	before  time.Duration // wall time of the processes before

	epochStarted time.Time // when this process began the current epoch, and the samples seen by then
	epochSamples int64
}

// trainerConfig is what the loop takes from the recipe.
type trainerConfig struct {
	epochs          int
	evalEvery       int
	batch           int // samples, a multiple of the leaf
	lr              float64
	seed            uint64
	augment         augmentation
	checkpointEvery int
}

// method is a method of the run with its description.
type method struct {
	info methods.Info
	methods.Method
}

// sink receives what the loop has to tell and to keep.
type sink interface {
	// Step is told of every update; Epoch of every epoch; Event of what happened in between.
	Step(telemetry.Step)
	Epoch(telemetry.Epoch) error
	Event(telemetry.Event) error
	// Checkpoint keeps the trainer's state.
	Checkpoint(t *trainer) error
}

// progress is where training stands. A checkpoint holds it beside the parameters, the running
// statistics, the optimiser's and the methods' state.
type progress struct {
	Epoch      int     `json:"epoch"`                    // completed epochs
	Leaf       int     `json:"leaf"`                     // leaves done of the current epoch
	Carried    int     `json:"carried_leaves,omitempty"` // leaves of the epoch before that are computed in this one
	Updates    int     `json:"updates"`
	Samples    int64   `json:"samples_seen"`
	GradPasses int64   `json:"grad_passes"` // samples that went through a forward and backward pass, attacks included
	HVPs       int     `json:"hvps"`        // Hessian-vector products
	Probes     int     `json:"probes"`
	Batch      int     `json:"batch"`
	LRScale    float64 `json:"lr_scale"` // product of all methods' changes

	EpochLoss    float64 `json:"epoch_loss"` // sums over the samples of the current epoch
	EpochCorrect int     `json:"epoch_correct"`
	Test         float64 `json:"test_accuracy"`
	TestLoss     float64 `json:"test_loss"`
	Best         float64 `json:"best_test_accuracy"`
	WallSeconds  float64 `json:"wall_seconds"`
}

// pending counts what has been summed for the update under way.
type pending struct {
	leaves, samples int
	loss            float64 // summed over the samples
}

// train runs the loop to the end, or until the context is cancelled: then it finishes the update
// under way, keeps a checkpoint and returns the context's error.
func (t *trainer) train(ctx context.Context) error {
	t.started, t.before = time.Now(), time.Duration(t.at.WallSeconds*float64(time.Second))
	t.startEpoch()
	for t.at.Epoch < t.cfg.epochs {
		if t.at.Leaf == t.sampler.LeavesPerEpoch() {
			if err := t.endEpoch(); err != nil {
				return fmt.Errorf("end of epoch %d: %w", t.at.Epoch, err)
			}
			continue
		}
		if t.pending.leaves < t.leavesPerUpdate() { // not so after a method has shrunk the batch
			if err := t.computeLeaves(); err != nil {
				return fmt.Errorf("epoch %d, update %d: %w", t.at.Epoch+1, t.at.Updates+1, err)
			}
			if t.pending.leaves < t.leavesPerUpdate() {
				continue
			}
		}
		if err := t.update(); err != nil {
			return fmt.Errorf("epoch %d, update %d: %w", t.at.Epoch+1, t.at.Updates+1, err)
		}
		stop, err := t.stop(ctx)
		if err != nil {
			return err
		}
		if stop != nil || t.cfg.checkpointEvery > 0 && t.at.Updates%t.cfg.checkpointEvery == 0 {
			if err := t.checkpoint(); err != nil {
				return err
			}
		}
		if stop != nil {
			return stop
		}
	}
	return t.checkpoint()
}

// stop returns why to stop, if this process or another is to.
func (t *trainer) stop(ctx context.Context) (why, err error) {
	stop, err := t.fleet.any(ctx.Err() != nil)
	if why = ctx.Err(); stop && why == nil {
		why = context.Canceled
	}
	return why, err
}

// computeLeaves computes the leaves that are left of the update, or of the epoch if that ends first.
func (t *trainer) computeLeaves() error {
	if t.fleet.sync != nil {
		return t.holdLeaves()
	}
	size := t.fleet.leaf.Capacity
	count := t.nextLeaves()
	j := &t.job
	j.seed, j.epoch, j.first, j.augment = t.cfg.seed, t.at.Epoch, t.pending.leaves, t.cfg.augment
	j.update, j.last = t.at.Updates+1, 0
	if t.pending.leaves+count == t.leavesPerUpdate() {
		j.last = t.leavesPerUpdate()
	}
	j.results.resize(count, size)
	j.indices = slices.Grow(j.indices[:0], count*size)[:count*size]
	for i := range count {
		t.sampler.Leaf(t.at.Epoch, t.at.Leaf+i, j.indices[i*size:(i+1)*size])
	}
	j.attack = t.attack()
	if err := t.fleet.growStats(t.pending.leaves + count); err != nil {
		return err
	}
	if err := t.fleet.compute(j, &j.results, j.first, j.last); err != nil {
		return err
	}
	t.at.Leaf += count
	t.at.Samples += int64(count * size)
	t.pending.leaves += count
	t.pending.samples += count * size
	return t.count(j)
}

// nextLeaves is how many leaves are left of the update, or of the epoch if that ends first.
func (t *trainer) nextLeaves() int {
	return min(t.leavesPerUpdate()-t.pending.leaves, t.sampler.LeavesPerEpoch()-t.at.Leaf)
}

// count adds up the results of leaves.
func (t *trainer) count(j *leaves) error {
	for i := range j.loss {
		t.at.EpochLoss += j.loss[i]
		t.at.EpochCorrect += j.correct[i]
		t.pending.loss += j.loss[i]
	}
	t.at.GradPasses += int64(len(j.loss) * (t.fleet.leaf.Capacity + j.attack.Samples*j.attack.Iterations))
	return checkLoss(t.at.EpochLoss, t.fleet.train.set.Name)
}

// attack asks the methods how the next leaves are to be perturbed.
func (t *trainer) attack() methods.Attack {
	for _, m := range t.methods {
		if p, ok := m.Method.(methods.Perturber); ok {
			if a := p.Attack(); a.Samples > 0 {
				return a
			}
		}
	}
	return methods.Attack{}
}

// update applies the summed gradients.
func (t *trainer) update() error {
	lr := t.learningRate()
	if err := t.computeHeld(); err != nil {
		return err
	}
	if err := t.updater.update(t.pending.leaves, t.pending.samples, lr); err != nil {
		return err
	}
	samples, loss := t.pending.samples, t.pending.loss
	seen := float64(max(t.computedLeaves(), 1) * t.fleet.leaf.Capacity)
	t.pending = pending{}
	t.at.Updates++
	t.sink.Step(telemetry.Step{Epoch: t.at.Epoch, Epochs: t.cfg.epochs,
		EpochFraction: float64(t.at.Leaf) / float64(t.sampler.LeavesPerEpoch()),
		Updates:       t.at.Updates, Samples: samples, Batch: t.at.Batch, LR: lr,
		Loss: t.at.EpochLoss / seen, Accuracy: float64(t.at.EpochCorrect) / seen})
	return t.endUpdate(methods.Update{Loss: loss / float64(samples), LR: lr, Samples: samples})
}

// endUpdate lets the methods act after an update.
func (t *trainer) endUpdate(u methods.Update) error {
	for _, m := range t.methods {
		if e, ok := m.Method.(methods.UpdateEnder); ok {
			if err := e.UpdateEnd(control{t}, u); err != nil {
				return fmt.Errorf("method %s: %w", m.info.Name, err)
			}
		}
	}
	return nil
}

// learningRate is that of the update whose last leaf was just computed, in this epoch or at the end
// of the one before.
func (t *trainer) learningRate() float64 {
	progress := float64(t.at.Epoch) + float64(t.at.Leaf-1)/float64(t.sampler.LeavesPerEpoch())
	return t.cfg.lr * t.schedule.Factor(progress) * t.at.LRScale
}

func (t *trainer) leavesPerUpdate() int { return t.at.Batch / t.fleet.leaf.Capacity }

// endEpoch lets the methods act, evaluates and records.
func (t *trainer) endEpoch() error {
	record := t.record()
	t.at.Epoch++
	t.at.Leaf, t.at.Carried, t.at.EpochLoss, t.at.EpochCorrect = 0, len(t.held), 0, 0
	for _, m := range t.methods {
		if e, ok := m.Method.(methods.EpochEnder); ok {
			if err := e.EpochEnd(control{t}); err != nil {
				return fmt.Errorf("method %s: %w", m.info.Name, err)
			}
		}
		if r, ok := m.Method.(methods.Reporter); ok {
			record.Set(r.Report())
		}
	}
	if t.at.Epoch%t.cfg.evalEvery == 0 || t.at.Epoch == t.cfg.epochs {
		e, err := t.fleet.evaluate(t.fleet.test)
		if err != nil {
			return err
		}
		t.at.Test, t.at.TestLoss = e.Accuracy, e.Loss
		t.at.Best = max(t.at.Best, e.Accuracy)
		record.TestAccuracy, record.TestLoss = &e.Accuracy, &e.Loss
	}
	record.HVPs = t.at.HVPs
	record.WallSeconds = t.wall()
	t.startEpoch()
	return t.sink.Epoch(record)
}

func (t *trainer) startEpoch() { t.epochStarted, t.epochSamples = time.Now(), t.at.Samples }

// record is the epoch that just ended, before the methods act on it.
func (t *trainer) record() telemetry.Epoch {
	samples := float64(t.computedLeaves() * t.fleet.leaf.Capacity)
	seconds := time.Since(t.epochStarted).Seconds()
	return telemetry.Epoch{Epoch: t.at.Epoch + 1, Updates: t.at.Updates, SamplesSeen: t.at.Samples,
		TrainLoss: t.at.EpochLoss / samples, TrainAccuracy: float64(t.at.EpochCorrect) / samples,
		Batch: t.at.Batch, LR: t.learningRate(), GradPasses: t.at.GradPasses,
		ImagesPerSecond: float64(t.at.Samples-t.epochSamples) / seconds}
}

func (t *trainer) wall() float64 { return (t.before + time.Since(t.started)).Seconds() }

func (t *trainer) checkpoint() error {
	t.at.WallSeconds = t.wall()
	return t.sink.Checkpoint(t)
}
