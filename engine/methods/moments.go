package methods

import (
	"fmt"
	"math"
)

// MomentReader is told the moments of every update, once its gradients are summed and before the parameters change.
// Asking for them costs one more pass over the gradients of every lane, and the reduction of gradients no longer
// overlaps with their computation. It allocates nothing in the steady state.
type MomentReader interface{ ReadMoments(m *Moments) }

// Moments say how far the gradients of an update's micro-batches lie apart. The leaves of one lane are a micro-batch, so
// there are as many as lanes, or as leaves where those are fewer. Gradients are those of the loss alone, without weight
// decay.
type Moments struct {
	Samples int   // of the update
	Sizes   []int // samples of each micro-batch
	// SquaredNorm is that of the update's mean gradient.
	SquaredNorm float64
	// Trace estimates the trace of the covariance of one sample's gradient, without bias: from the micro-batches' mean
	// gradients g_j over n_j samples each and the update's g over n,
	//
	//	(sum_j n_j |g_j|^2 - n |g|^2)/(micro-batches - 1)
	//
	// It is NaN where there is one micro-batch, or where a change of the batch has weighted samples differently.
	Trace   float64
	Tensors []TensorMoments
}

// TensorMoments are those of one parameter tensor.
type TensorMoments struct {
	Norm     float64 // of the update's mean gradient
	MeanNorm float64 // mean over the micro-batches, by their samples, of the norm of their mean gradient
}

// Measured reports whether the update says anything of the spread of gradients.
func (m *Moments) Measured() bool { return !math.IsNaN(m.Trace) }

// Signal estimates the squared norm of the gradient's expectation without bias. It may be negative where noise prevails.
func (m *Moments) Signal() float64 { return m.SquaredNorm - m.Trace/float64(m.Samples) }

// Damper damps the elements of the summed gradient that the micro-batches disagree on, before the step rule is given it: an
// element is multiplied by the square of its mean over its variance between the micro-batches, relative to the mean of
// that ratio over its tensor, at most 1 and at least LeastRatio. It costs memory for the gradient of every lane once more,
// and reductions no longer overlap with the computation of gradients. It claims the "damping".
type Damper interface{ LeastRatio() float64 }

// CheckMicroBatches refuses a training whose smallest batch has a single micro-batch, which tells nothing of the spread.
func CheckMicroBatches(method string, t Training) error {
	if t.BaseBatch() < 2*t.Leaf() {
		return fmt.Errorf("method %s compares micro-batches: batch.size is %d and must be at least two leaves, 2 x %d; lower batch.leaf or raise batch.size",
			method, t.BaseBatch(), t.Leaf())
	}
	return nil
}

// Claimer is a method whose options decide what it claims, in place of its description's Claims.
type Claimer interface{ Claims() []string }
