package engine

import (
	"fmt"

	"broadside/engine/methods"
	"broadside/kernels"
)

// copyNorms measures the gradient of every single copy of an update's samples, for a method that asks:
//
//	keep the jobs of the update's leaves, as they were computed, and the sum of their gradients
//	for every copy:
//	    compute the leaves again, that copy of them alone, and take the norm of their sum
//	put the sum back
//
// The parameters are those of the first pass, and batch statistics are folded once, those of the first pass.
type copyNorms struct {
	*keptJobs
	trainer *trainer
	method  methods.CopyScaler
	job     leaves // of one copy

	sum     kernels.Memory // of the update's gradients
	result  kernels.Memory // a norm
	norm    kernels.Pass
	copy    kernels.Pass
	dropped []kernels.Memory // each worker's batch statistics
	each    []float64        // norms of the copies
	read    []float64        // norm read last
}

// newCopyNorms returns nil if no method asks.
func newCopyNorms(t *trainer) *copyNorms {
	for _, m := range t.methods {
		if s, ok := m.Method.(methods.CopyScaler); ok && t.fleet.copies > 1 {
			return &copyNorms{keptJobs: &keptJobs{}, trainer: t, method: s, each: make([]float64, t.fleet.copies), read: make([]float64, 1)}
		}
	}
	return nil
}

// vectors is how many parameter-shaped memories it takes.
func (c *copyNorms) vectors() int {
	if c == nil {
		return 0
	}
	return 1
}

// alloc allocates the memory; the fleet is ready to train.
func (c *copyNorms) alloc() error {
	if c == nil {
		return nil
	}
	if err := c.allocate(); err != nil {
		c.free()
		return fmt.Errorf("preparing the norms of copies: %w", err)
	}
	return nil
}

func (c *copyNorms) allocate() (err error) {
	f := c.trainer.fleet
	if c.sum, err = f.dev.Alloc(f.net.ParamCells()); err != nil {
		return err
	}
	if c.result, err = f.dev.Alloc(2); err != nil {
		return err
	}
	if c.dropped, err = newDropped(f); err != nil {
		return err
	}
	if c.copy, err = f.prepare(f.axpby(1, 0)); err != nil {
		return err
	}
	c.norm, err = f.prepare(kernels.Call{Kernel: kernels.Norm, Shape: kernels.Vector{Count: int64(f.net.ParamCells())},
		Args: []kernels.Ref{{Base: xBase}, {Base: resultBase}}})
	return err
}

// factor returns what to multiply the gradient of an update by, whose sum this is, after measuring it if that is due.
func (c *copyNorms) factor(update int, sum kernels.Memory) (float64, error) {
	if c == nil {
		return 1, nil
	}
	if c.method.MeasuresCopies(update) {
		if err := c.measure(sum); err != nil {
			return 0, fmt.Errorf("measuring the gradients of copies: %w", err)
		}
	}
	return c.method.Factor(), nil
}

// measure measures all copies and tells the method.
func (c *copyNorms) measure(sum kernels.Memory) error {
	f, samples := c.trainer.fleet, float64(c.trainer.pending.samples)
	all, err := c.normOf(sum)
	if err == nil {
		err = f.run(c.copy, sum, c.sum)
	}
	for i := range c.each {
		if err == nil {
			c.each[i], err = c.compute(i)
		}
		c.each[i] /= samples
	}
	if err == nil {
		err = f.run(c.copy, c.sum, sum)
	}
	if err == nil {
		c.method.ReadCopies(c.each, all/(samples*float64(len(c.each))))
	}
	return err
}

// compute computes a copy of the update's leaves and returns the norm of the sum of its gradients.
func (c *copyNorms) compute(copy int) (float64, error) {
	t, f, j, places := c.trainer, c.trainer.fleet, &c.job, 0
	for _, k := range c.kept[:c.n] {
		j.draw, j.update, j.indices, j.augment, j.attack = k.draw, k.update, k.indices, k.augment, k.attack
		j.draw.Copy, j.single, j.dropped = copy, true, c.dropped
		j.first = k.first / f.views()
		j.results.resize(len(k.loss)/f.views(), f.leaf.Capacity)
		places = j.first + len(j.loss)
		t.weigh(j)
		if err := f.compute(j, &j.results, j.first, 0); err != nil {
			return 0, err
		}
		if k.scale != 1 {
			if err := f.scaleLanes(places, k.scale); err != nil {
				return 0, err
			}
		}
		t.at.GradPasses += j.passes(f)
	}
	sum, err := f.reduce.finish(f.sums, places)
	if err != nil {
		return 0, err
	}
	return c.normOf(sum)
}

// normOf is the norm of parameter-shaped memory.
func (c *copyNorms) normOf(x kernels.Memory) (float64, error) {
	f := c.trainer.fleet
	f.bases[resultBase] = c.result
	if err := f.run(c.norm, x, nil); err != nil {
		return 0, err
	}
	c.result.ReadDoubles(0, c.read)
	return c.read[0], kernels.Sync(f.dev)
}

func (c *copyNorms) free() {
	if c == nil {
		return
	}
	free(c.sum, c.result)
	free(c.dropped...)
	for _, p := range []kernels.Pass{c.norm, c.copy} {
		if p != nil {
			p.Free()
		}
	}
}
