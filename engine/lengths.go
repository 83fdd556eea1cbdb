package engine

import (
	"fmt"
	"math"

	"broadside/engine/methods"
	"broadside/kernels"
)

// lengths measures parameter-shaped vectors, tensor by tensor.
type lengths struct {
	fleet   *fleet
	scratch kernels.Memory // parameter-shaped
	squares kernels.Memory // a double for each tensor, and one more
	norms   kernels.Pass   // of x
	dot     kernels.Pass   // of x and y
	copy    kernels.Pass   // y = x
	less    kernels.Pass   // y = x - y
	start   []float32      // parameters at the beginning of training; nil until asked for
	each    []float64      // squared norms read last
	inner   []float64      // product read last
}

func newLengths(f *fleet) (*lengths, error) {
	l := &lengths{fleet: f}
	if err := l.alloc(); err != nil {
		l.free()
		return nil, fmt.Errorf("preparing to measure parameters: %w", err)
	}
	return l, nil
}

func (l *lengths) alloc() (err error) {
	f, tensors := l.fleet, len(l.fleet.net.Params)
	l.each, l.inner = make([]float64, tensors), make([]float64, 1)
	if l.scratch, err = f.dev.Alloc(f.net.ParamCells()); err != nil {
		return err
	}
	if l.squares, err = f.dev.Alloc(2 * tensors); err != nil {
		return err
	}
	dot := kernels.Call{Kernel: kernels.Dot, Shape: kernels.Vector{Count: int64(f.net.ParamCells())},
		Args: []kernels.Ref{{Base: xBase}, {Base: yBase}, {Base: resultBase}}}
	for _, p := range []struct {
		pass  *kernels.Pass
		calls []kernels.Call
	}{{&l.norms, squaredNorms(f.net)}, {&l.dot, []kernels.Call{dot}}, {&l.copy, []kernels.Call{f.axpby(1, 0)}}, {&l.less, []kernels.Call{f.axpby(1, -1)}}} {
		if *p.pass, err = f.prepare(p.calls...); err != nil {
			return err
		}
	}
	return nil
}

// measure reads the squared norms of x's tensors into each, and returns that of all.
func (l *lengths) measure(x kernels.Memory) (sum float64, err error) {
	l.fleet.bases[resultBase] = l.squares
	if err := l.fleet.run(l.norms, x, nil); err != nil {
		return 0, err
	}
	l.squares.ReadDoubles(0, l.each)
	if err := kernels.Sync(l.fleet.dev); err != nil {
		return 0, err
	}
	for _, square := range l.each {
		sum += square
	}
	return sum, nil
}

// product returns the inner product of x and y.
func (l *lengths) product(x, y kernels.Memory) (float64, error) {
	l.fleet.bases[resultBase] = l.squares
	if err := l.fleet.run(l.dot, x, y); err != nil {
		return 0, err
	}
	l.squares.ReadDoubles(0, l.inner)
	return l.inner[0], kernels.Sync(l.fleet.dev)
}

func (l *lengths) copyTo(to, from kernels.Memory) error { return l.fleet.run(l.copy, from, to) }

// moved leaves in scratch what the parameters differ by from those there.
func (l *lengths) moved() error { return l.fleet.run(l.less, l.fleet.params, l.scratch) }

// distance returns the distance of the parameters from those that a seed gives.
func (l *lengths) distance(seed uint64) (float64, error) {
	if l.start == nil {
		params, _, err := l.fleet.initialParams(seed)
		if err != nil {
			return 0, err
		}
		l.start = params
	}
	l.scratch.WriteFloats(0, l.start)
	if err := l.moved(); err != nil {
		return 0, err
	}
	square, err := l.measure(l.scratch)
	return math.Sqrt(square), err
}

func (l *lengths) free() {
	if l == nil {
		return
	}
	free(l.scratch, l.squares)
	for _, p := range []kernels.Pass{l.norms, l.dot, l.copy, l.less} {
		if p != nil {
			p.Free()
		}
	}
}

// Tensors names the parameter tensors.
func (c control) Tensors() []string {
	var out []string
	for _, p := range c.t.fleet.net.Params {
		out = append(out, p.Name)
	}
	return out
}

// Distance measures how far the parameters are from where training began, which the seed tells.
func (c control) Distance(each []float64) (float64, error) {
	l, err := c.t.updater.lengths()
	if err != nil {
		return 0, err
	}
	d, err := l.distance(c.t.cfg.seed)
	for i := range each {
		each[i] = math.Sqrt(l.each[i])
	}
	return d, err
}

// steps measures updates for the methods that ask.
type steps struct {
	readers []methods.StepReader
	lengths *lengths
	sum     kernels.Memory // of the gradients, which transforms may change
	due     bool           // the update under way is measured
	loss    float64
	out     methods.Step
}

// newSteps returns nothing where no method asks.
func newSteps(f *fleet, list []method, lengths func() (*lengths, error)) (s *steps, err error) {
	for _, entry := range list {
		if r, ok := entry.Method.(methods.StepReader); ok {
			if s == nil {
				s = &steps{}
			}
			s.readers = append(s.readers, r)
		}
	}
	if s == nil {
		return nil, nil
	}
	s.out.Tensors = make([]methods.TensorStep, len(f.net.Params))
	if s.lengths, err = lengths(); err != nil {
		return nil, err
	}
	if s.sum, err = f.dev.Alloc(f.net.ParamCells()); err != nil {
		return nil, fmt.Errorf("allocating a gradient to measure: %w", err)
	}
	return s, nil
}

func (s *steps) free() {
	if s != nil {
		free(s.sum)
	}
}

// begin is told of an update before it takes place.
func (s *steps) begin(t *trainer) (err error) {
	if s == nil {
		return nil
	}
	if s.due = false; t.at.Phase > 0 {
		return nil
	}
	for _, r := range s.readers {
		s.due = r.MeasuresStep(t.at.Updates+1) || s.due
	}
	if s.due {
		s.loss, err = t.lossOnJob()
	}
	return err
}

// gradient is told the summed gradients of so many samples.
func (s *steps) gradient(sum kernels.Memory, samples int) error {
	if s == nil || !s.due {
		return nil
	}
	square, err := s.lengths.measure(sum)
	if err != nil {
		return err
	}
	s.out.Gradient = math.Sqrt(square) / float64(samples)
	for i, square := range s.lengths.each {
		s.out.Tensors[i].Gradient = math.Sqrt(square) / float64(samples)
	}
	if err := s.lengths.copyTo(s.sum, sum); err != nil {
		return err
	}
	return s.lengths.copyTo(s.lengths.scratch, s.lengths.fleet.params)
}

// norm is that of the mean gradient of an update that was measured, or 0.
func (s *steps) norm() float64 {
	if s == nil || !s.due {
		return 0
	}
	return s.out.Gradient
}

// moved is told that the parameters have changed.
func (s *steps) moved(samples int) error {
	if s == nil || !s.due {
		return nil
	}
	if err := s.lengths.moved(); err != nil {
		return err
	}
	square, err := s.lengths.measure(s.lengths.scratch)
	if err != nil {
		return err
	}
	s.out.Length = math.Sqrt(square)
	for i, square := range s.lengths.each {
		s.out.Tensors[i].Length = math.Sqrt(square)
	}
	slope, err := s.lengths.product(s.sum, s.lengths.scratch)
	s.out.Slope = slope / float64(samples)
	return err
}

// end tells the methods of the update.
func (s *steps) end(t *trainer) error {
	if s == nil || !s.due {
		return nil
	}
	after, err := t.lossOnJob()
	if err != nil {
		return err
	}
	s.out.LossChange = after - s.loss
	for _, r := range s.readers {
		r.ReadStep(&s.out)
	}
	return nil
}

// lossOnJob returns the mean loss over the samples computed last, as [methods.Step] takes it.
func (t *trainer) lossOnJob() (float64, error) {
	e, err := t.fleet.runEvaluation(&evaluation{on: t.fleet.train, indices: t.recent.indices, kind: ghostLossProgram,
		size: t.fleet.leaf.Capacity, draw: methods.Draw{Seed: t.cfg.seed}})
	return e.Loss, err
}
