package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"broadside/engine/checkpoint"
	"broadside/engine/methods"
	"broadside/engine/schedule"
	"broadside/engine/telemetry"
)

// trainer runs the training loop. The loop, in pseudocode:
//
//	for every epoch:
//	    for every update:
//	        select samples by their losses            (methods.Selector)
//	        for every leaf of the update, side by side on the devices:
//	            gather and augment its samples        (methods.Copier)
//	            perturb them                          (methods.Perturber, methods.Pairer)
//	            forward, backward: gradient sum of its lane   (methods.Weigher)
//	        the same leaves again at other parameters (methods.Displacer), or copy by copy (methods.CopyScaler)
//	        tell how far the lanes lie apart          (methods.MomentReader)
//	        add the lanes
//	        search for the learning rate              (methods.Searcher)
//	        fold the batch statistics
//	        damp what the lanes disagree on           (methods.Damper)
//	        scale the gradients within kernels        (methods.Scaler)
//	        learning rate                             (methods.Scheduler)
//	        update the parameters                     (optim.Rule, methods.Stepper)
//	        tell what the update did                  (methods.StepReader)
//	        end of update: batch size, learning rate  (methods.UpdateEnder)
//	        checkpoint, if due; stop, if asked to     (retreat.go)
//	    end of epoch: probes, batch size              (methods.EpochEnder)
//	    evaluate, record
//	    end training with the epoch before        (methods.Stopper)
//	the same for other phases, average           (methods.Replicator)
//
// An epoch is a whole number of leaves; an update may begin in one epoch and end in the next, and
// the batch may change at any leaf.
type trainer struct {
	cfg       trainerConfig
	fleet     *fleet
	updater   *updater
	twice     *twice      // nil without a second gradient
	copyNorms *copyNorms  // nil where the norms of copies do not matter
	line      *lineSearch // nil where no method searches for the learning rate
	phases    *phases     // nil without phases after the recipe's
	early     *early      // nil where no method may end training early
	retreat   retreat
	sampler   leafOrder
	schedule  schedule.Schedule
	methods   []method
	weigher   methods.Weigher  // nil if all samples weigh 1
	selector  methods.Selector // nil if all samples are trained on
	sink      sink

	at      progress
	pending pending
	job     leaves
	recent  *leaves // the job of the leaves computed last
	scores  scores
	held    []int         // epochs of the leaves that wait for the rest of their update; only with batch.sync_bn
	started time.Time     // when this process began to train
	saved   time.Time     // when it last kept a checkpoint
	before  time.Duration // wall time of the processes before

	values map[string]float64 // what methods reported of the last epoch

	epochStarted time.Time // when this process began the current epoch, and the samples seen by then
	epochSamples int64
	epochWaited  time.Duration // for data, at the start of the epoch

	lap lap // since the update recorded last

	waitedBefore float64 // seconds, of the processes before
	badTold      int     // images that could not be decoded, of which was told
}

// trainerConfig is what the loop takes from the recipe, or from a phase after it.
type trainerConfig struct {
	epochs          int // of the run, up to the end of the phase
	evalEvery       int
	batch           int  // samples, a multiple of the leaf
	dropLast        bool // an update ends in the epoch that it begins in
	lr              float64
	seed            uint64
	augment         augmentation
	checkpointEvery int             // updates; 0: not by their number
	saveEvery       time.Duration   // 0: not by time
	save            <-chan struct{} // asks for a checkpoint
	keepBest        bool
	logPerEpoch     int // updates recorded of an epoch, at most
	haste           haste
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
	// Hold takes the trainer's state. The function that it returns keeps it, and drops what was recorded since.
	Hold(t *trainer) (keep func() error, err error)
	// Newest returns the newest state kept after a multiple of checkpoint.every_updates.
	Newest(t *trainer) (*checkpoint.Checkpoint, error)
}

// progress is where training stands. A checkpoint holds it beside the parameters, the running
// statistics, the optimiser's and the methods' state.
type progress struct {
	Phase      int     `json:"phase"`                    // 0: the recipe's own
	PhaseFrom  int     `json:"phase_from"`               // epochs completed before it
	Before     int     `json:"updates_before,omitempty"` // updates made before it, and those that a rollback has undone
	Recipe     int     `json:"recipe_updates,omitempty"` // updates of the recipe's own, once it is over
	Epoch      int     `json:"epoch"`                    // completed epochs
	Leaf       int     `json:"leaf"`                     // leaves done of the current epoch
	Carried    int     `json:"carried_leaves,omitempty"` // leaves of the epoch before that are computed in this one
	Updates    int     `json:"updates"`
	Samples    int64   `json:"samples_seen"`
	GradPasses int64   `json:"grad_passes"` // samples that went through a forward and backward pass, in attacks and second passes too
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
	WaitSeconds  float64 `json:"wait_seconds,omitempty"` // of these, for data

	Stopped string `json:"stopped,omitempty"` // why training has ended before its time

	Watch watched `json:"watch,omitzero"` // of the guard against anomalies
}

// pending counts what has been summed for the update under way.
type pending struct {
	leaves  int     // of the stream of samples
	places  int     // leaves that were trained on: the copies of those that were selected
	samples int     // that were selected, not counting copies
	loss    float64 // summed over the samples of all places
}

// train runs the loop to the end, or until the context is cancelled: then it finishes the update
// under way, or gives it up if that takes long, keeps a checkpoint and returns the context's error.
func (t *trainer) train(ctx context.Context) error {
	defer t.heed(ctx)()
	err := t.trainToEnd(ctx)
	if errors.Is(err, errGivenUp) {
		return t.goBack(ctx)
	}
	return err
}

// trainToEnd runs the loop to the end, or to the update after which it is to stop.
func (t *trainer) trainToEnd(ctx context.Context) error {
	t.waitedBefore = t.at.WaitSeconds
	t.started, t.before = time.Now(), time.Duration(t.at.WallSeconds*float64(time.Second))
	t.saved = t.started
	if t.updater.guard.rollsBack() && t.at == (progress{Batch: t.at.Batch, LRScale: 1}) {
		if err := t.checkpoint(); err != nil { // to have one to go back to
			return err
		}
	}
	if err := t.mark(); err != nil {
		return err
	}
	if ctx.Err() != nil && t.retreat.keep != nil {
		return errGivenUp
	}
	t.startEpoch()
	if err := t.startMethods(); err != nil {
		return err
	}
	for more := true; more; {
		err := t.trainPhase(ctx)
		if err == nil {
			more, err = t.nextPhase()
		}
		if err != nil {
			return err
		}
	}
	return t.checkpoint()
}

// trainPhase trains to the end of the phase.
func (t *trainer) trainPhase(ctx context.Context) error {
	for t.at.Epoch < t.cfg.epochs {
		if t.epochDone() {
			due, start := t.evaluates(t.at.Epoch+1), time.Now()
			if err := t.endEpoch(); err != nil {
				return fmt.Errorf("end of epoch %d: %w", t.at.Epoch, err)
			}
			t.retreat.ended(due, time.Since(start))
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
		if err := t.keepOrStop(ctx); err != nil {
			return err
		}
	}
	return nil
}

// epochDone reports whether the epoch has no leaf left to train on.
func (t *trainer) epochDone() bool {
	left := t.sampler.LeavesPerEpoch() - t.at.Leaf
	return left == 0 || t.cfg.dropLast && t.pending.leaves == 0 && left < t.leavesPerUpdate()
}

// keepOrStop keeps a checkpoint if one is due, or this process or another asks for one; and returns why to stop, if one
// of them is to.
func (t *trainer) keepOrStop(ctx context.Context) error {
	t.fleet.beats.Add(1)
	asked, err := t.fleet.most(t.asked(ctx.Err() != nil))
	if err != nil {
		return err
	}
	if asked > goOn || t.cfg.checkpointEvery > 0 && t.at.Updates%t.cfg.checkpointEvery == 0 {
		if err := t.checkpoint(); err != nil {
			return err
		}
	}
	if asked == stopNow {
		return cmp.Or(ctx.Err(), context.Canceled) // of this process, or of another
	}
	return t.mark()
}

// computeLeaves computes the leaves that are left of the update, or of the epoch if that ends first.
func (t *trainer) computeLeaves() error {
	if t.fleet.sync != nil {
		return t.holdLeaves()
	}
	count := t.nextLeaves()
	j := t.drawLeaves(count)
	if err := t.makeRoom(j, count); err != nil {
		return err
	}
	trained := count
	if t.selector != nil {
		var err error
		if trained, err = t.selectSamples(j, count); err != nil {
			return err
		}
	}
	places := trained * t.fleet.views()
	if t.pending.leaves+count == t.leavesPerUpdate() && !t.twice.needsLanes() && !t.fleet.whole {
		j.last = t.pending.places + places
	}
	j.results.resize(places, t.fleet.leaf.Capacity)
	t.weigh(j)
	if err := t.fleet.compute(j, &j.results, j.first, j.last); err != nil {
		return err
	}
	return t.account(j, count, trained)
}

// drawLeaves returns a job for the next leaves, with their samples.
func (t *trainer) drawLeaves(count int) *leaves {
	size, j := t.fleet.leaf.Capacity, t.nextJob()
	t.recent = j
	j.draw, j.first, j.augment = methods.Draw{Seed: t.cfg.seed, Epoch: t.phaseEpoch()}, t.pending.places, t.cfg.augment
	j.update, j.last = t.at.Updates+1, 0
	j.indices = slices.Grow(j.indices[:0], count*size)[:count*size]
	for i := range count {
		t.sampler.Leaf(j.draw.Epoch, t.at.Leaf+i, j.indices[i*size:(i+1)*size])
	}
	j.attack = t.attack()
	t.foresee(j, count)
	return j
}

// makeRoom makes room for what is kept of the next leaves, and plans the attacks beside them.
func (t *trainer) makeRoom(j *leaves, count int) error {
	f := t.fleet
	if err := f.persistent.grow(f, t.pending.leaves+count); err != nil {
		return err
	}
	if err := t.planAhead(j, t.pending.leaves, count); err != nil {
		return err
	}
	return f.growStats(t.pending.places + count*f.views())
}

// account adds up what so many leaves came to, of which so many were trained on.
func (t *trainer) account(j *leaves, count, trained int) error {
	for i, loss := range j.loss {
		if _, _, kind := t.fleet.view(j.first + i); kind == cleanView && trained == count { // else the losses of all samples have been counted
			t.count(loss, j.correct[i])
		}
		t.pending.loss += loss
	}
	size := t.fleet.leaf.Capacity
	t.at.Leaf += count
	t.at.Samples += int64(count * size)
	t.at.GradPasses += j.passes(t.fleet)
	t.pending.leaves += count
	t.pending.places += trained * t.fleet.views()
	t.pending.samples += trained * size
	return t.checkSums()
}

// nextLeaves is how many leaves are left of the update, or of the epoch if that ends first.
func (t *trainer) nextLeaves() int {
	return min(t.leavesPerUpdate()-t.pending.leaves, t.sampler.LeavesPerEpoch()-t.at.Leaf)
}

// nextJob returns the job for the next leaves; jobs whose leaves are computed again are kept.
func (t *trainer) nextJob() *leaves {
	if k := t.keepJobs(); k != nil {
		j := k.next()
		j.repeated = t.twice != nil || t.line != nil
		return j
	}
	return &t.job
}

// attack asks the methods how the next leaves are to be perturbed.
func (t *trainer) attack() methods.Attack {
	if t.at.Phase > 0 {
		return methods.Attack{}
	}
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
	samples := t.pending.samples * t.fleet.views() // that the gradient is a sum over
	divisor := samples
	if t.selector != nil && t.selector.OverAll() {
		divisor = t.pending.leaves * t.fleet.leaf.Capacity * t.fleet.views()
	}
	u := methods.Update{Loss: t.pending.loss / float64(samples), LR: lr, Samples: t.pending.samples, Epochs: t.place()}
	passes, err := t.twice.gradient(control{t}, u, t.pending.places, divisor)
	if err != nil {
		return err
	}
	t.at.GradPasses += passes
	if err := t.fleet.pair.keepParams(t.fleet); err != nil {
		return err
	}
	if err := t.updater.steps.begin(t); err != nil {
		return err
	}
	t.updater.guard.begin(u.Loss, samples)
	if u.LR, err = t.updater.update(t.stepNumber(), t.pending.places, divisor, lr); err != nil {
		if a := (*anomaly)(nil); errors.As(err, &a) {
			return t.passOver(a)
		}
		return err
	}
	if err := t.updater.steps.end(t); err != nil {
		return err
	}
	leaves := t.pending.leaves
	seen := float64(max(t.computedLeaves(), 1) * t.fleet.leaf.Capacity * t.fleet.copiesEach())
	t.forget()
	t.at.Updates++
	t.sink.Step(telemetry.Step{Epoch: t.at.Epoch, Epochs: t.cfg.epochs,
		EpochFraction: float64(t.at.Leaf) / float64(t.sampler.LeavesPerEpoch()),
		Updates:       t.at.Updates, Samples: u.Samples, SamplesSeen: t.at.Samples, Batch: t.at.Batch, LR: u.LR,
		Loss: t.at.EpochLoss / seen, UpdateLoss: u.Loss, Accuracy: float64(t.at.EpochCorrect) / seen,
		Streamed: t.fleet.train.streams(), DataWait: t.epochWait()})
	if err := t.logUpdate(u, leaves); err != nil {
		return err
	}
	return t.endUpdate(u)
}

// forget drops what is left of an update.
func (t *trainer) forget() {
	t.pending, t.held = pending{}, t.held[:0]
	t.keepJobs().forget()
}

// endUpdate lets the methods act after an update.
func (t *trainer) endUpdate(u methods.Update) error {
	for _, m := range t.active() {
		if e, ok := m.Method.(methods.UpdateEnder); ok {
			if err := e.UpdateEnd(control{t}, u); err != nil {
				return fmt.Errorf("method %s: %w", m.info.Name, err)
			}
		}
	}
	return nil
}

// learningRate is that of the update whose last leaf was just computed.
func (t *trainer) learningRate() float64 {
	return t.cfg.lr * t.schedule.Factor(t.place()) * t.at.LRScale
}

// place is how many epochs of the phase were done when the last leaf began, in this epoch or at the end of the one before.
func (t *trainer) place() float64 {
	return float64(t.phaseEpoch()) + float64(t.at.Leaf-1)/float64(t.sampler.LeavesPerEpoch())
}

func (t *trainer) leavesPerUpdate() int { return t.at.Batch / t.fleet.leaf.Capacity }

// endEpoch lets the methods act, evaluates and records.
func (t *trainer) endEpoch() error {
	record := t.record()
	t.turnEpoch()
	t.endEarly(record.TrainAccuracy)
	for _, m := range t.active() {
		if e, ok := m.Method.(methods.EpochEnder); ok {
			if err := e.EpochEnd(control{t}); err != nil {
				return fmt.Errorf("method %s: %w", m.info.Name, err)
			}
		}
		if r, ok := m.Method.(methods.Reporter); ok {
			record.Set(r.Report())
		}
	}
	if t.evaluates(t.at.Epoch) {
		e, err := t.fleet.evaluate(t.fleet.test)
		if err != nil {
			return err
		}
		if err := t.evaluated(e); err != nil {
			return err
		}
		record.TestAccuracy, record.TestLoss = &e.Accuracy, &e.Loss
	}
	if err := t.tellBad(); err != nil {
		return err
	}
	t.values = record.Values
	record.HVPs = t.at.HVPs
	record.WallSeconds = t.wall()
	t.startEpoch()
	if err := t.sink.Epoch(record); err != nil {
		return err
	}
	return t.stopEarly()
}

// evaluates reports whether an evaluation is due after so many epochs.
func (t *trainer) evaluates(epochs int) bool {
	return epochs%t.cfg.evalEvery == 0 || epochs == t.cfg.epochs
}

// turnEpoch goes to the start of the next epoch.
func (t *trainer) turnEpoch() {
	t.at.Epoch++
	t.at.Leaf, t.at.Carried, t.at.EpochLoss, t.at.EpochCorrect, t.at.Watch.Lost = 0, len(t.held), 0, 0, 0
}

func (t *trainer) startEpoch() {
	t.epochStarted, t.epochSamples, t.epochWaited = time.Now(), t.at.Samples, t.fleet.waited()
	t.lap = lap{t.epochStarted, t.at.Samples}
}

// record is the epoch that just ended, before the methods act on it.
func (t *trainer) record() telemetry.Epoch {
	samples := float64(t.computedLeaves() * t.fleet.leaf.Capacity * t.fleet.copiesEach())
	seconds := time.Since(t.epochStarted).Seconds()
	var wait *float64
	if t.fleet.train.streams() {
		share := t.epochWait()
		wait = &share
	}
	return telemetry.Epoch{DataWait: wait, Epoch: t.at.Epoch + 1, Updates: t.at.Updates, SamplesSeen: t.at.Samples,
		TrainLoss: t.at.EpochLoss / samples, TrainAccuracy: float64(t.at.EpochCorrect) / samples,
		Batch: t.at.Batch, LR: t.learningRate(), GradPasses: t.at.GradPasses,
		ImagesPerSecond: float64(t.at.Samples-t.epochSamples) / seconds}
}

func (t *trainer) wall() float64 { return (t.before + time.Since(t.started)).Seconds() }

// checkpoint keeps the state.
func (t *trainer) checkpoint() error {
	t.saved = time.Now()
	keep, err := t.hold()
	if err != nil {
		return err
	}
	return keep()
}

// hold takes the state, to be kept now or later.
func (t *trainer) hold() (keep func() error, err error) {
	t.at.WallSeconds, t.at.WaitSeconds = t.wall(), t.waitedSeconds()
	if err := t.fleet.persistent.share(t.fleet, t.leavesPerUpdate()); err != nil {
		return nil, err
	}
	return t.sink.Hold(t)
}

// free releases what the trainer has of the devices' memory.
func (t *trainer) free() {
	t.updater.free()
	t.twice.free()
	t.copyNorms.free()
	t.line.free()
}
