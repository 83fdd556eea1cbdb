package engine

import (
	"fmt"
	"slices"

	"broadside/engine/methods"
	"broadside/kernels"
)

// Layers tells of the convolutions and linear layers.
func (c control) Layers() (out []methods.Layer) {
	params := c.t.fleet.net.Params
	for _, l := range c.t.fleet.net.Layers() {
		p := params[l.Weight]
		out = append(out, methods.Layer{Tensor: l.Weight, BiasTensor: max(l.Bias, 0), Linear: l.Linear, Bias: l.Bias >= 0, Frozen: p.Frozen,
			H: l.In.H, W: l.In.W, C: l.In.C, K: p.K, R: p.R, S: p.S, PadH: l.Window.PadH, PadW: l.Window.PadW})
	}
	return out
}

// ReadInputs reads a round of leaves at a time, one for each device of this process: what is read of a leaf does not
// depend on who computes it, and needs no exchange with other processes.
func (c control) ReadInputs(r methods.Reading, visit func(methods.LayerInputs) error) error {
	t, f := c.t, c.t.fleet
	j := newReading(f, r.Layers)
	switch {
	case r.Update:
		j.draw, j.augment, j.indices = t.recent.draw, t.recent.augment, slices.Clone(t.recent.indices)
	case r.Samples > 0:
		j.draw, j.augment, j.indices = methods.Draw{Seed: t.cfg.seed, Epoch: t.phaseEpoch()}, t.cfg.augment, t.comingSamples(r.Samples)
	default:
		j.draw, j.indices = methods.Draw{Seed: t.cfg.seed}, firstSamples(f.train.set.Len())
	}
	for len(j.indices) > 0 {
		if err := f.agree(f.do(j)); err != nil {
			return fmt.Errorf("reading the inputs of layers: %w", err)
		}
		if err := j.visit(visit); err != nil {
			return err
		}
	}
	return nil
}

// Tensor returns a parameter tensor's values.
func (c control) Tensor(tensor int) ([]float32, error) {
	p := c.t.fleet.net.Params[tensor]
	out := make([]float32, p.Size())
	c.t.fleet.params.ReadFloats(p.Offset, out)
	return out, kernels.Sync(c.t.fleet.dev)
}

// SetTensor replaces a parameter tensor's values.
func (c control) SetTensor(tensor int, values []float32) error {
	p := c.t.fleet.net.Params[tensor]
	if len(values) != p.Size() {
		return fmt.Errorf("internal error: %d values for the %d of %s", len(values), p.Size(), p.Name)
	}
	c.t.fleet.params.WriteFloats(p.Offset, values)
	return nil
}

// comingSamples are those of the first leaves of the epoch to come, so many or a leaf more.
func (t *trainer) comingSamples(samples int) (out []int32) {
	size := t.fleet.leaf.Capacity
	leaf := make([]int32, size)
	for i := range min(ceilDiv(samples, size), t.sampler.LeavesPerEpoch()) {
		t.sampler.Leaf(t.phaseEpoch(), i, leaf)
		out = append(out, leaf...)
	}
	return out
}

// reading is the job of reading what layers are given, of a leaf on every device of this process.
type reading struct {
	fleet   *fleet
	layers  []methods.Layer
	draw    methods.Draw
	augment augmentation
	indices []int32       // still to be read
	inputs  [][][]float32 // [device][layer]
	labels  []int32
}

func newReading(f *fleet, layers []methods.Layer) *reading {
	j := &reading{fleet: f, layers: layers, inputs: make([][][]float32, len(f.workers))}
	for i := range j.inputs {
		j.inputs[i] = make([][]float32, len(layers))
	}
	return j
}

// leaf returns the samples that a worker is to read next.
func (j *reading) leaf(worker int) []int32 {
	size, n := j.fleet.leaf.Capacity, len(j.indices)
	return j.indices[min(worker*size, n):min((worker+1)*size, n)]
}

func (j *reading) busy(w *worker) bool { return len(j.leaf(w.id)) > 0 }

func (j *reading) run(w *worker) error {
	f, indices := w.fleet, j.leaf(w.id)
	if len(indices) == 0 {
		return nil
	}
	if err := w.gather(f.train, j.augment, j.draw, indices); err != nil {
		return err
	}
	p, err := w.program(programKey{kind: inputProgram, n: len(indices)})
	if err != nil {
		return err
	}
	w.bind(f.train)
	if err := p.main.Run(&w.bases); err != nil {
		return err
	}
	for i, l := range j.layers {
		cells := len(indices) * l.H * l.W * l.C
		to := slices.Grow(j.inputs[w.id][i][:0], cells)[:cells]
		from := p.Inputs[l.Tensor]
		w.bases[from.Base].ReadFloats(int(from.Offset), to)
		j.inputs[w.id][i] = to
	}
	return kernels.Sync(w.dev)
}

// visit shows what the devices have read, in the order of the samples.
func (j *reading) visit(show func(methods.LayerInputs) error) error {
	for id := range j.fleet.workers {
		j.labels = j.labels[:0]
		for _, i := range j.leaf(id) {
			j.labels = append(j.labels, j.fleet.train.set.Labels[i])
		}
		for i := range j.layers {
			if len(j.labels) == 0 {
				continue
			}
			if err := show(methods.LayerInputs{Layer: i, X: j.inputs[id][i], Labels: j.labels}); err != nil {
				return err
			}
		}
	}
	j.indices = j.indices[min(len(j.indices), len(j.fleet.workers)*j.fleet.leaf.Capacity):]
	return nil
}
