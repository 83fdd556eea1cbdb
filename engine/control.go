package engine

import (
	"fmt"
	"math"

	"broadside/engine/curvature"
	"broadside/engine/methods"
	"broadside/engine/telemetry"
)

// control is the trainer as the methods see it.
type control struct{ t *trainer }

var _ methods.Training = control{}

func (c control) Epoch() int         { return c.t.at.Epoch }
func (c control) Epochs() int        { return c.t.cfg.epochs }
func (c control) Updates() int       { return c.t.phaseUpdates() }
func (c control) Samples() int       { return c.t.fleet.train.set.Len() }
func (c control) SamplesSeen() int64 { return c.t.at.Samples }
func (c control) Leaf() int          { return c.t.fleet.leaf.Capacity }
func (c control) Batch() int         { return c.t.at.Batch }
func (c control) BaseBatch() int     { return c.t.cfg.batch }
func (c control) Seed() uint64       { return c.t.cfg.seed }

// LargestBatch is an epoch's whole leaves where an update must end in the epoch that it begins in, or all of its leaves
// are computed together.
func (c control) LargestBatch() int {
	if c.t.cfg.dropLast || c.t.fleet.syncBN {
		return c.t.sampler.LeavesPerEpoch() * c.Leaf()
	}
	return math.MaxInt
}

// SetBatch changes the batch size. Gradients already summed keep their place in the update under
// way; with KeepWeights they also keep their weight, 1/(old batch), which is the final division by
// the samples of the update once they are scaled by new/old.
func (c control) SetBatch(size int, carry methods.Carry, trigger string) error {
	t := c.t
	if size < 1 || size%t.fleet.leaf.Capacity != 0 {
		return fmt.Errorf("batch size %d: must be a multiple of the leaf, %d", size, t.fleet.leaf.Capacity)
	}
	if size > c.LargestBatch() {
		return fmt.Errorf("batch size %d is more than an epoch of %d samples, which batch.drop_last or batch.sync_bn rules out", size, c.LargestBatch())
	}
	if carry == methods.KeepWeights && t.pending.leaves > 0 {
		factor := float64(size) / float64(t.at.Batch)
		if err := t.fleet.scaleLanes(t.pending.places, factor); err != nil {
			return err
		}
		t.keepJobs().scaled(factor)
		t.updater.moments.unequal()
	}
	from := t.at.Batch
	t.at.Batch = size
	return t.sink.Event(telemetry.Event{Type: telemetry.TypeGrowth, Epoch: t.at.Epoch, Updates: t.at.Updates, Trigger: trigger, From: from, To: size})
}

// ScaleLR changes the learning rate from the next update on.
func (c control) ScaleLR(factor float64, trigger string) error {
	t := c.t
	t.at.LRScale *= factor
	return t.sink.Event(telemetry.Event{Type: telemetry.TypeRate, Epoch: t.at.Epoch, Updates: t.at.Updates, Trigger: trigger, LRScale: t.at.LRScale})
}

// permutationCopy tells the stream of a probe's samples from those of its start vectors, which count
// their copies from 0.
const permutationCopy = 255

// TopEigenvalue measures on a probe's samples.
func (c control) TopEigenvalue(p methods.Probe) (curvature.Eigenvalue, error) {
	t := c.t
	h, err := t.probe(p.Samples)
	if err != nil {
		return curvature.Eigenvalue{}, err
	}
	defer h.free()
	t.at.Probes++
	found, err := curvature.TopEigenvalues(h, p.Options)
	t.at.HVPs += h.products
	if err != nil {
		return curvature.Eigenvalue{}, err
	}
	e := found[0]
	return e, t.sink.Event(telemetry.Event{Type: telemetry.TypeProbe, Epoch: t.at.Epoch, Updates: t.at.Updates, Eigenvalue: &e.Value, Iterations: e.Iterations})
}
