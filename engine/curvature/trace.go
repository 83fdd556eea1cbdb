package curvature

import (
	"fmt"
	"math"

	"broadside/kernels"
)

// TraceOptions steer Hutchinson's estimate of the trace.
type TraceOptions struct {
	MaxProbes int     // at least 2; one product each
	Tolerance float64 // relative change of the running mean at which to stop
}

// Trace is an estimate of the trace.
type Trace struct {
	Mean          float64   `json:"mean"`
	StandardError float64   `json:"standard_error"` // of the mean, from the spread of the samples
	Samples       []float64 `json:"samples"`        // z'Hz of each probe z
	Converged     bool      `json:"converged"`
}

// EstimateTrace averages z'Hz over probes z of independent signs (Hutchinson 1990), whose mean is the
// trace. It stops when a probe changes the mean by less than the tolerance. Two means that happen to
// be close stop it early, so the standard error is what to judge the result by. It holds two vectors.
func EstimateTrace(h Hessian, o TraceOptions) (*Trace, error) {
	if o.MaxProbes < 2 {
		return nil, fmt.Errorf("trace: want at least 2 probes, got %d", o.MaxProbes)
	}
	z, err := h.NewVector()
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	defer z.Free()
	hz, err := h.NewVector()
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	defer hz.Free()
	t := &Trace{}
	squares := 0.0 // sum of squared distances to the mean (Welford 1962)
	for i := 0; i < o.MaxProbes && !t.Converged; i++ {
		sample, err := probeTrace(h, z, hz, i)
		if err != nil {
			return nil, fmt.Errorf("trace, probe %d: %w", i+1, err)
		}
		t.Samples = append(t.Samples, sample)
		old := t.Mean
		t.Mean += (sample - old) / float64(i+1)
		squares += (sample - old) * (sample - t.Mean)
		t.Converged = i > 0 && math.Abs(t.Mean-old) < o.Tolerance*(math.Abs(old)+guard)
	}
	n := float64(len(t.Samples))
	t.StandardError = math.Sqrt(squares / (n - 1) / n)
	return t, nil
}

// probeTrace returns z'Hz of the numbered probe.
func probeTrace(h Hessian, z, hz kernels.Memory, number int) (float64, error) {
	if err := h.Randomize(z, kernels.Rademacher, Stream{TraceProbe, number}); err != nil {
		return 0, err
	}
	if err := h.Product(z, hz); err != nil {
		return 0, err
	}
	sample, err := h.Dot(z, hz)
	if err != nil {
		return 0, err
	}
	return sample, checkFinite(sample)
}
