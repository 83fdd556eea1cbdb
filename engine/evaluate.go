package engine

import (
	"fmt"
	"math"

	"broadside/engine/methods"
	"broadside/kernels"
)

// Evaluation is the result of a pass over a data set with the running statistics.
type Evaluation struct {
	Samples  int     `json:"samples"`
	Correct  int     `json:"correct"`
	Accuracy float64 `json:"test_accuracy"` // Correct / Samples
	Loss     float64 `json:"test_loss"`     // mean cross-entropy, without label smoothing
}

// evaluation is the job of evaluating samples of a data set, one leaf after the other.
type evaluation struct {
	on      *resident
	indices []int32
	kind    programKind
	size    int            // samples of a leaf
	augment augmentation   // of the samples
	draw    methods.Draw   // of what is random
	attack  methods.Attack // before it; none without samples
	results
}

func (j *evaluation) busy(w *worker) bool {
	return w.fleet.first+w.home+w.place*w.fleet.ranks < len(j.loss)
}

// owns reports whether a worker evaluates leaf i.
func (j *evaluation) owns(w *worker, i int) bool {
	ranks := w.fleet.ranks
	return i%ranks == w.fleet.first+w.home && i/ranks%w.peers == w.place
}

// samples returns those of leaf i.
func (j *evaluation) samples(i int) []int32 {
	return j.indices[i*j.size : min((i+1)*j.size, len(j.indices))]
}

func (j *evaluation) run(w *worker) error {
	for i := range j.loss {
		if !j.owns(w, i) {
			continue
		}
		indices := j.samples(i)
		if err := w.gather(j.on, j.augment, j.draw, indices); err != nil {
			return err
		}
		if j.attack.Samples > 0 {
			if err := w.perturb(j.on, j.attack, indices); err != nil {
				return err
			}
		}
		p, err := w.program(programKey{kind: j.kind, n: len(indices)})
		if err != nil {
			return err
		}
		w.bind(j.on)
		if err := w.runMain(p); err != nil {
			return err
		}
		j.read(w, i, len(indices))
	}
	return j.fetch(w)
}

// evaluate runs the network over a whole data set.
func (f *fleet) evaluate(on *resident) (Evaluation, error) {
	e, err := f.runEvaluation(&evaluation{on: on, indices: firstSamples(on.set.Len()), kind: evalProgram, size: f.leaf.Capacity})
	if err != nil {
		return e, err
	}
	return e, checkLoss(e.Loss, on.set.Name)
}

// firstSamples returns the numbers of the first n samples.
func firstSamples(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(i)
	}
	return out
}

// runEvaluation runs the job and adds up its leaves, in order.
func (f *fleet) runEvaluation(j *evaluation) (Evaluation, error) {
	n := len(j.indices)
	j.resize(ceilDiv(n, j.size), j.size)
	if err := f.compute(j, &j.results, 0, 0); err != nil {
		return Evaluation{}, fmt.Errorf("evaluating %s: %w", j.on.set.Name, err)
	}
	e := Evaluation{Samples: n}
	for i := range j.loss {
		e.Loss += j.loss[i]
		e.Correct += j.correct[i]
	}
	e.Loss /= float64(n)
	e.Accuracy = float64(e.Correct) / float64(n)
	return e, nil
}

// DivergedError says that training has come to a loss from which it cannot go on.
type DivergedError struct {
	Loss float64
	On   string // the data set
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("the loss on %s is %g: training has diverged; a lower optimizer.lr or a longer schedule.warmup_epochs may help", e.On, e.Loss)
}

// checkLoss refuses a loss that is no number: neither training nor evaluation can go on from it.
func checkLoss(loss float64, on string) error {
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return &DivergedError{Loss: loss, On: on}
	}
	return nil
}

// read returns a copy of a memory's contents.
func read(m kernels.Memory) []float32 {
	out := make([]float32, m.Len())
	m.ReadFloats(0, out)
	return out
}
