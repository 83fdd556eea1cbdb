package engine

import (
	"fmt"
	"slices"

	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/telemetry"
)

// phases are what a method has follow the recipe's own training:
//
//	remember parameters, running statistics and optimiser state
//	for every copy:
//	    start from what was remembered, train by the phase's own batch, schedule and seed
//	    sum += parameters
//	parameters = sum / copies; running statistics anew; evaluate
//
// The copies are trained one after the other, each on all devices, so they have the same bits on any number. A copy
// needs only what was remembered and its own phase: they could as well be trained side by side.
type phases struct {
	method methods.Replicator
	copies []methods.Phase
	start  snapshot
	sum    cells
}

// snapshot is the state that every copy starts from.
type snapshot struct {
	params, state cells
	slots         []cells // of the optimiser, if a copy keeps them
}

// The prefixes of the tensors that a checkpoint keeps for phases.
const (
	startPrefix = optimizerPrefix + "phase.start."
	sumPrefix   = optimizerPrefix + "phase.sum."
)

// openPhases asks the methods for phases after the recipe's.
func (t *trainer) openPhases() (err error) {
	for _, m := range t.methods {
		r, ok := m.Method.(methods.Replicator)
		if !ok {
			continue
		}
		p := &phases{method: r}
		if p.copies, err = r.Phases(control{t}); err != nil {
			return fmt.Errorf("method %s: %w", m.info.Name, err)
		}
		for _, c := range p.copies {
			if err := t.checkPhase(c); err != nil {
				return fmt.Errorf("method %s: %w", m.info.Name, err)
			}
		}
		t.phases = p
	}
	return nil
}

// checkPhase refuses a phase that cannot be trained.
func (t *trainer) checkPhase(p methods.Phase) error {
	leaf := t.fleet.leaf.Capacity
	if p.Batch < leaf || p.Batch%leaf != 0 {
		return fmt.Errorf("batch is %d: must be a multiple of batch.leaf, %d", p.Batch, leaf)
	}
	if p.Batch > (control{t}).LargestBatch() {
		return fmt.Errorf("batch is %d, more than an epoch: with batch.drop_last true it would never update", p.Batch)
	}
	if n := t.sampler.LeavesPerEpoch() * leaf; p.Epochs*n < p.Batch {
		return fmt.Errorf("batch is %d, more than its %d epochs of %d samples: it would never update", p.Batch, p.Epochs, n)
	}
	return nil
}

// alloc makes room for what the phases remember.
func (p *phases) alloc(t *trainer) {
	if p == nil {
		return
	}
	f := t.fleet
	p.start = snapshot{params: make(cells, f.net.ParamCells()), state: make(cells, f.net.StateCells())}
	if slices.ContainsFunc(p.copies, func(c methods.Phase) bool { return c.KeepMomentum }) {
		for range t.updater.slots {
			p.start.slots = append(p.start.slots, make(cells, f.net.ParamCells()))
		}
	}
	p.sum = make(cells, f.net.ParamCells())
}

// phaseEpoch counts the completed epochs of the phase.
func (t *trainer) phaseEpoch() int { return t.at.Epoch - t.at.PhaseFrom }

// phaseUpdates counts the updates of the phase.
func (t *trainer) phaseUpdates() int { return t.at.Updates - t.at.Before }

// stepNumber counts the update about to be made for the step rule, from 1: in a copy from its start, as the rule's state
// does, or where it keeps that of the recipe's training from the end of that. All copies count alike.
func (t *trainer) stepNumber() int {
	n := t.phaseUpdates() + 1
	if t.at.Phase > 0 && t.phases.copies[t.at.Phase-1].KeepMomentum {
		n += t.at.Recipe
	}
	return n
}

// active are the methods that act at the ends of epochs and updates: none after the recipe's own phase.
func (t *trainer) active() []method {
	if t.at.Phase > 0 {
		return nil
	}
	return t.methods
}

// endEarly ends the recipe's phase with the epoch just completed, if the method wants it.
func (t *trainer) endEarly(trainAccuracy float64) {
	if t.phases != nil && t.at.Phase == 0 && t.phases.method.Ends(trainAccuracy) {
		t.cfg.epochs = t.at.Epoch
	}
}

// nextPhase goes from a phase that is over to the next one, and reports whether there is one.
func (t *trainer) nextPhase() (more bool, err error) {
	p := t.phases
	if p == nil || t.at.Phase > len(p.copies) {
		return false, nil
	}
	t.forget()
	if t.at.Phase == 0 {
		p.take(t)
		t.at.Recipe = t.phaseUpdates()
	} else {
		p.add(t)
	}
	if err := t.phaseEnded(phaseName(t.at.Phase), t.at.Test); err != nil {
		return false, err
	}
	if t.at.Phase == len(p.copies) {
		t.at.Phase++
		return false, t.average()
	}
	t.at.Phase++
	t.at.PhaseFrom, t.at.Before, t.at.Batch, t.at.LRScale = t.at.Epoch, t.at.Updates, p.copies[t.at.Phase-1].Batch, 1
	if err := t.enterPhase(); err != nil {
		return false, err
	}
	p.put(t)
	return true, nil
}

// enterPhase sets the loop up for the phase at hand.
func (t *trainer) enterPhase() (err error) {
	if t.at.Phase == 0 {
		return nil
	}
	p := t.phases.copies[min(t.at.Phase, len(t.phases.copies))-1]
	t.cfg.epochs, t.cfg.lr, t.cfg.seed, t.schedule = t.at.PhaseFrom+p.Epochs, p.LR, p.Seed, p.Schedule
	t.sampler, err = data.NewSampler(t.fleet.train.set.Len(), t.fleet.leaf.Capacity, p.Seed)
	return err
}

// phaseName names a phase for people.
func phaseName(phase int) string {
	if phase == 0 {
		return "the recipe's epochs"
	}
	return fmt.Sprintf("replica %d", phase)
}

// phaseEnded tells of it.
func (t *trainer) phaseEnded(name string, accuracy float64) error {
	return t.sink.Event(telemetry.Event{Type: telemetry.TypePhase, Epoch: t.at.Epoch, Updates: t.at.Updates, Phase: name, Accuracy: &accuracy})
}

// take remembers where the copies start.
func (p *phases) take(t *trainer) {
	p.start.params, p.start.state = read(t.fleet.params), read(t.fleet.state)[:len(p.start.state)]
	for i := range p.start.slots {
		p.start.slots[i] = read(t.updater.slots[i])
	}
}

// put starts a copy.
func (p *phases) put(t *trainer) {
	t.fleet.params.WriteFloats(0, p.start.params)
	t.fleet.state.WriteFloats(0, p.start.state)
	for i, m := range t.updater.slots {
		if p.copies[t.at.Phase-1].KeepMomentum {
			m.WriteFloats(0, p.start.slots[i])
		} else {
			m.WriteFloats(0, make([]float32, m.Len()))
		}
	}
}

// add adds the parameters of a trained copy.
func (p *phases) add(t *trainer) {
	for i, v := range read(t.fleet.params) {
		p.sum[i] += v
	}
}

// average ends the run with the average of the copies.
func (t *trainer) average() error {
	p, f := t.phases, t.fleet
	mean := slices.Clone(p.sum)
	for i := range mean {
		mean[i] = float32(float64(mean[i]) / float64(len(p.copies)))
	}
	f.params.WriteFloats(0, mean)
	if err := f.recalibrate(t.cfg.augment, t.cfg.seed, t.phaseEpoch()); err != nil {
		return err
	}
	e, err := f.evaluate(f.test)
	if err != nil {
		return err
	}
	t.at.Test, t.at.TestLoss, t.at.Best = e.Accuracy, e.Loss, max(t.at.Best, e.Accuracy)
	return t.phaseEnded("average", e.Accuracy)
}

// savePhases keeps what the copies still to be trained, and the average, need.
func (t *trainer) savePhases(ck *checkpoint.Checkpoint) error {
	p, net := t.phases, t.fleet.net
	if p == nil || t.at.Phase == 0 || t.at.Phase > len(p.copies) {
		return nil
	}
	saveNorms(ck, startPrefix, net, p.start.state)
	for _, s := range p.params(t) {
		if err := saveParams(ck, s.prefix, net, s.cells); err != nil {
			return err
		}
	}
	return nil
}

// restorePhases brings the loop to the phase of a checkpoint.
func (t *trainer) restorePhases(ck *checkpoint.Checkpoint) error {
	p, net := t.phases, t.fleet.net
	if p == nil {
		return nil
	}
	if t.at.Phase < 0 || t.at.Phase > len(p.copies)+1 {
		return fmt.Errorf("the checkpoint stands in phase %d: outside a run of %d", t.at.Phase, len(p.copies)+1)
	}
	if t.at.Phase > 0 && t.at.Phase <= len(p.copies) {
		if err := loadNorms(ck, startPrefix, net, p.start.state); err != nil {
			return err
		}
		for _, s := range p.params(t) {
			if err := loadParams(ck, s.prefix, net, s.cells); err != nil {
				return err
			}
		}
	}
	return t.enterPhase()
}

// kept is parameter-shaped state with the prefix of its names.
type kept struct {
	prefix string
	cells  cells
}

// params are all parameter-shaped state of the phases.
func (p *phases) params(t *trainer) []kept {
	out := []kept{{startPrefix, p.start.params}, {sumPrefix, p.sum}}
	for i, s := range p.start.slots {
		out = append(out, kept{startPrefix + t.updater.rule.Slots()[i] + ".", s})
	}
	return out
}
