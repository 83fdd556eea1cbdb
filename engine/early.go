package engine

import (
	"fmt"

	"broadside/engine/checkpoint"
	"broadside/engine/methods"
	"broadside/engine/telemetry"
)

// early lets a method end the recipe's training with an epoch that went wrong: the run ends with the parameters and
// running statistics that the epoch before ended with. These are kept on the host, and in checkpoints.
type early struct {
	method        methods.Stopper
	params, state cells // nil before the first epoch is done
}

// beforePrefix starts the names of what a checkpoint holds of the epoch before.
const beforePrefix = optimizerPrefix + "before."

// newEarly returns nil if no method may stop.
func newEarly(all []method) *early {
	for _, m := range all {
		if s, ok := m.Method.(methods.Stopper); ok {
			return &early{method: s}
		}
	}
	return nil
}

// stopEarly asks the method, at the end of an epoch, and otherwise remembers how it ended.
func (t *trainer) stopEarly() error {
	e, f := t.early, t.fleet
	if e == nil || t.at.Phase > 0 {
		return nil
	}
	why, stop := e.method.Stops()
	if !stop || e.params == nil {
		e.params, e.state = read(f.params), read(f.state)[:f.net.StateCells()]
		return nil
	}
	t.forget()
	f.params.WriteFloats(0, e.params)
	f.state.WriteFloats(0, e.state)
	t.at.Stopped = fmt.Sprintf("%s; training ends with the network of epoch %d", why, t.at.Epoch-1)
	t.cfg.epochs = t.at.Epoch
	found, err := f.evaluate(f.test)
	if err != nil {
		return err
	}
	if err := t.evaluated(found); err != nil {
		return err
	}
	return t.sink.Event(telemetry.Event{Type: telemetry.TypeEarlyStop, Epoch: t.at.Epoch, Updates: t.at.Updates,
		Accuracy: &found.Accuracy, Message: t.at.Stopped})
}

// remembers reports whether there is an epoch to go back to.
func (e *early) remembers() bool { return e != nil && e.params != nil }

// saveEarly keeps the network of the epoch before, as long as training may go back to it.
func (t *trainer) saveEarly(ck *checkpoint.Checkpoint) error {
	e, net := t.early, t.fleet.net
	if !e.remembers() || t.at.Stopped != "" {
		return nil
	}
	saveNorms(ck, beforePrefix, net, e.state)
	return saveParams(ck, beforePrefix, net, e.params)
}

// restoreEarly puts it back; a run that was stopped stays so.
func (t *trainer) restoreEarly(ck *checkpoint.Checkpoint) error {
	e, net := t.early, t.fleet.net
	if e == nil {
		return nil
	}
	e.params, e.state = nil, nil
	switch {
	case t.at.Stopped != "":
		t.cfg.epochs = t.at.Epoch
		return nil
	case t.at.Epoch == 0:
		return nil
	}
	params, state := make(cells, net.ParamCells()), make(cells, net.StateCells())
	if err := loadNorms(ck, beforePrefix, net, state); err != nil {
		return err
	}
	if err := loadParams(ck, beforePrefix, net, params); err != nil {
		return err
	}
	e.params, e.state = params, state
	return nil
}

// RobustAccuracy counts the samples that the network classifies right in spite of an attack.
func (c control) RobustAccuracy(samples int, a methods.Attack) (float64, error) {
	t := c.t
	f, size, epoch := t.fleet, t.fleet.leaf.Capacity, t.phaseEpoch()-1
	leaves := min(samples/size, t.sampler.LeavesPerEpoch())
	j := &evaluation{on: f.train, kind: evalProgram, size: size, attack: a, augment: t.cfg.augment,
		draw: methods.Draw{Seed: t.cfg.seed, Epoch: epoch}, indices: make([]int32, leaves*size)}
	if a.TrainMode {
		j.kind = scoreProgram
	}
	for i := range leaves {
		t.sampler.Leaf(epoch, i, j.samples(i))
	}
	e, err := f.runEvaluation(j)
	t.at.GradPasses += int64(leaves * min(a.Samples, size) * a.Iterations)
	return e.Accuracy, err
}
