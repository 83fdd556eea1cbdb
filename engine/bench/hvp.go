package bench

import (
	"context"
)

// HVPResult is the cost of Hessian-vector products.
type HVPResult struct {
	Environment Environment `json:"environment"`
	Setting                 // the batch is the number of samples
	Devices     int         `json:"devices"`
	BatchNorm   string      `json:"batch_norm"`    // eval or ghost
	Reused      bool        `json:"primal_reused"` // a product needs no forward and backward pass of its own
	ProductMS   Spread      `json:"product_ms"`    // after the first, which also runs the primal pass
	GradientMS  Spread      `json:"gradient_ms"`   // of training on the same number of samples
	Ratio       Spread      `json:"ratio"`
}

// HVP measures Hessian-vector products over w.Batch samples and in turn with them training gradients. Where
// the leaf is left open the devices share the samples evenly, so that all work and none has a second leaf, which
// would have it repeat the primal pass.
func HVP(ctx context.Context, w Work, devices int, ghost bool) (*HVPResult, error) {
	if w.Leaf == 0 {
		n, err := w.devices(devices)
		if err != nil {
			return nil, err
		}
		w.Leaf = evenLeaf(w.Batch, n)
	}
	b, setting, err := w.open(devices)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	product, reused, err := b.Hessian(ghost)
	if err != nil {
		return nil, err
	}
	out := &HVPResult{Environment: environment(b.Device()), Setting: setting, Devices: b.Devices(), BatchNorm: "eval", Reused: reused}
	if ghost {
		out.BatchNorm = "ghost"
	}
	_, err = rounds(ctx, w, func(took [][]float64) {
		out.ProductMS, out.GradientMS, out.Ratio = milliseconds(took[0]), milliseconds(took[1]), ratios(took[0], took[1])
		w.report(out)
	}, product, b.Gradient)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// evenLeaf is the leaf that gives each device one, or all samples where they do not divide.
func evenLeaf(samples, devices int) int {
	if samples%devices == 0 {
		return samples / devices
	}
	return samples
}
