package engine

import (
	"math"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/curvature"
	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/optim"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// goldenBlock is of a tensor l: the eigenvalue of largest magnitude of its block H_ll of the Hessian, and for the
// direction d, whose fill is named "d." and the tensor, d_l d_l, d_l (Hd)_l and d_l H_ll d_l.
type goldenBlock struct{ Top, Square, Product, Block float64 }

// blockTrainer is a trainer of a golden network on a batch of all its samples, with the golden direction as the sum of
// its gradients, in the tensors that it is wanted in.
func blockTrainer(t *testing.T, model, method string, samples int, device kernels.Device, wanted func(tensor string) bool) *trainer {
	t.Helper()
	set := goldenSet(samples)
	r := parseRecipe(t, smallText+"methods: ["+method+"]\n", "model.name="+model, "data.augment=[]", "train.label_smoothing=0", "batch={size: 8, leaf: 8, ghost: 8}")
	tr := startTrainerOn(t, r, &data.Pair{Train: set, Test: set}, []kernels.Device{device}, Options{}, &tape{})
	fillNetwork(tr.fleet)
	d := make([]float32, tr.fleet.net.ParamCells())
	for _, p := range tr.fleet.net.Params {
		if wanted(p.Name) {
			copy(d[p.Offset:], fill("d."+p.Name, p.Size(), -1, 1))
		}
	}
	tr.fleet.sums[0].WriteFloats(0, d)
	return tr
}

// The step sizes of layerwise are those of the whole Hessian's product with the gradient, which sees the other tensors.
// For a gradient of one tensor alone that is the tensor's exact block: PyTorch has both from the whole matrix.
func TestLayerwiseAgainstPyTorchsBlocks(t *testing.T) {
	g := loadCurvature(t)
	const method = "layerwise: {probe_samples: 56, delta: 0, min: 1.0e-9, max: 1.0e+9, average: 0}"
	sizes := func(model string, wanted func(string) bool) func(tensor string) float64 {
		tr := blockTrainer(t, model, method, g.Samples.Matrix, ref.New(), wanted)
		m := tr.methods[0].Method
		if err := m.(methods.UpdateEnder).UpdateEnd(control{tr}, methods.Update{Samples: 1}); err != nil {
			t.Fatal(err)
		}
		rule, err := m.(methods.Stepper).Rule(optim.SGD{})
		if err != nil {
			t.Fatal(err)
		}
		return rule.(optim.Given).Curvature
	}
	for model, cases := range g.Matrix {
		if cases[0].Ghost != 0 {
			t.Fatal("the first case is not by the running statistics")
		}
		apart := 0.0
		together := sizes(model, func(string) bool { return true })
		for name, want := range cases[0].Tensors {
			alone := sizes(model, func(tensor string) bool { return tensor == name })
			near(t, model+": the curvature of "+name, together(name), math.Abs(want.Product)/want.Square, 1e-6)
			near(t, model+": the block of "+name, alone(name), math.Abs(want.Block)/want.Square, 1e-6)
			apart = max(apart, math.Abs(want.Product-want.Block)/math.Abs(want.Block))
		}
		if apart < 0.1 {
			t.Errorf("%s: the product is the block in all tensors: nothing tells them apart", model)
		}
	}
}

// The top eigenvalues of the tensors' blocks are PyTorch's.
func TestBlockEigenvaluesAgainstPyTorch(t *testing.T) {
	g := loadCurvature(t)
	for model, cases := range g.Matrix {
		tr := blockTrainer(t, model, "", g.Samples.Matrix, devicetest.Open(t, 1)[0], func(string) bool { return false })
		found, err := control{tr}.BlockEigenvalues(methods.Probe{Samples: g.Samples.Matrix,
			Options: curvature.Options{MaxIterations: 500, Tolerance: 1e-9}}, map[graph.Role]bool{graph.Beta: true})
		if err != nil {
			t.Fatal(err)
		}
		want := cases[0].Tensors
		if len(found) != len(want)-1 {
			t.Errorf("%s: %d tensors of %d, less one of a role that was left out", model, len(found), len(want))
		}
		for _, e := range found { // a norm's guard, 1e-6, makes the vector shorter: 2e-6 of any eigenvalue
			near(t, model+": "+e.Tensor, e.Value, want[e.Tensor].Top, 2.1e-6+1e-6*math.Abs(want[e.Tensor].Top))
		}
		if tr.at.HVPs < len(found) || tr.at.Probes != 1 {
			t.Errorf("%d products, %d probes", tr.at.HVPs, tr.at.Probes)
		}
	}
}
