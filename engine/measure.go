package engine

import (
	"fmt"
	"path/filepath"

	"broadside/engine/curvature"
	"broadside/engine/methods"
	"broadside/kernels"
)

// CurvatureOptions say what to measure of the Hessian; what is nil is left out.
type CurvatureOptions struct {
	Samples int    // the first of the training set
	Ghost   bool   // take each ghost's own batch statistics instead of the running ones
	Seed    uint64 // of the random vectors

	Top       curvature.Options
	Trace     *curvature.TraceOptions
	Density   *curvature.DensityOptions
	Landscape *curvature.LandscapeOptions // needs as many eigenvectors as dimensions
	Vectors   bool                        // return the eigenvectors
}

// Curvature measures the Hessian on the first training samples, without augmentation, smoothing or
// weight decay.
func (m *Model) Curvature(o CurvatureOptions) (*curvature.Measurement, error) {
	set := m.fleet.train.set
	if o.Samples > set.Len() {
		return nil, fmt.Errorf("%d samples wanted: %s has %d", o.Samples, set.Name, set.Len())
	}
	h, err := newHessian(m.fleet, m.fleet.train, firstSamples(o.Samples), o.Ghost, o.Seed, 0)
	if err != nil {
		return nil, err
	}
	defer h.free()
	c, err := h.measure(o)
	if err != nil {
		return nil, err
	}
	c.Checkpoint, c.Epoch, c.Updates = filepath.Base(m.Path), m.at.Epoch, m.at.Updates
	return c, nil
}

// measure measures what the options ask for.
func (h *hessian) measure(o CurvatureOptions) (*curvature.Measurement, error) {
	c := &curvature.Measurement{Samples: len(h.samples), BatchNorm: "eval", Seed: o.Seed}
	if o.Ghost {
		c.BatchNorm = "ghost"
	}
	for _, p := range h.fleet.net.Params {
		c.Parameters += p.Size()
	}
	if o.Landscape != nil && o.Landscape.Dimensions > o.Top.K {
		return nil, fmt.Errorf("a loss landscape of %d dimensions needs as many eigenvectors, not %d", o.Landscape.Dimensions, o.Top.K)
	}
	var vectors []kernels.Memory
	var err error
	if c.Eigenvalues, vectors, err = curvature.TopEigenvectors(h, o.Top); err != nil {
		return nil, err
	}
	defer free(vectors...)
	if o.Vectors {
		if c.Vectors, err = h.fleet.flat(vectors); err != nil {
			return nil, err
		}
	}
	if o.Landscape != nil {
		if c.Landscape, err = h.landscape(vectors, *o.Landscape); err != nil {
			return nil, err
		}
	}
	if o.Trace != nil {
		if c.Trace, err = curvature.EstimateTrace(h, *o.Trace); err != nil {
			return nil, err
		}
	}
	if o.Density != nil {
		if c.Density, err = curvature.EstimateDensity(h, *o.Density); err != nil {
			return nil, err
		}
	}
	c.HVPs = h.products
	return c, nil
}

// landscape samples the loss whose Hessian this is around the parameters. They stay as they are: the
// shifted ones take their place for the time of a loss.
func (h *hessian) landscape(directions []kernels.Memory, o curvature.LandscapeOptions) (*curvature.Landscape, error) {
	shifted, err := h.NewVector()
	if err != nil {
		return nil, err
	}
	defer shifted.Free()
	params := h.fleet.params
	return curvature.SampleLandscape(func(offsets ...float64) (float64, error) {
		if err := h.Axpby(1, params, 0, shifted); err != nil {
			return 0, err
		}
		for i, by := range offsets {
			if err := h.Axpby(by, directions[i], 1, shifted); err != nil {
				return 0, err
			}
		}
		h.fleet.params = shifted
		defer func() { h.fleet.params = params }()
		return h.loss()
	}, o)
}

// loss returns the mean loss over the samples, in leaves like those of a product.
func (h *hessian) loss() (float64, error) {
	j := &evaluation{on: h.on, indices: h.samples, kind: lossProgram, size: h.size, draw: methods.Draw{Seed: h.seed}}
	if h.kind == ghostHessianProgram {
		j.kind = ghostLossProgram
	}
	// The leaf takes the first seat, where a product may have left its primal pass.
	clear(h.primal)
	e, err := h.fleet.runEvaluation(j)
	return e.Loss, err
}
