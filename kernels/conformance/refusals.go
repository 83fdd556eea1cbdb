package conformance

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// sizeFields are the fields of shapes that must be positive.
var sizeFields = []string{"N", "H", "W", "C", "K", "R", "S", "StrideH", "StrideW", "Groups", "OH", "OW",
	"HW", "Ghost", "Per", "Classes", "Images", "Count", "Ghosts", "Parts", "Blocks", "Stride", "Values", "Units", "Fan"}

// badShapes returns shapes that must be refused, each one wrong field away from a good one.
func badShapes(k kernels.Kernel, good kernels.Shape) []kernels.Shape {
	var bad []kernels.Shape
	with := func(field string, value int64) {
		v := reflect.New(reflect.TypeOf(good)).Elem()
		v.Set(reflect.ValueOf(good))
		v.FieldByName(field).SetInt(value)
		bad = append(bad, v.Interface().(kernels.Shape))
	}
	v := reflect.ValueOf(good)
	for _, name := range sizeFields {
		if v.FieldByName(name).IsValid() {
			with(name, 0)
			with(name, -1)
		}
	}
	for _, name := range []string{"PadH", "PadW"} {
		if v.FieldByName(name).IsValid() {
			with(name, -1)
		}
	}
	switch s := good.(type) {
	case kernels.Conv2D:
		with("OH", int64(s.OH)+1)
		with("OW", int64(s.OW)+1)
		with("R", int64(s.H)+2*int64(s.PadH)+1)
		with("Groups", int64(s.C)+1)
		with("Precision", -1)
		with("Precision", int64(kernels.TF32)+1)
	case kernels.Pool:
		with("PadH", int64(s.R))
		with("PadW", int64(s.S))
		with("OH", int64(s.H)+int64(s.PadH)+1)
	case kernels.BatchNorm:
		if s.Frozen == 0 { // one element per channel has no variance
			bad = append(bad, kernels.BatchNorm{N: 1, HW: 1, C: s.C, Ghost: 1, ReLU: s.ReLU, Eps: s.Eps},
				kernels.BatchNorm{N: 3, HW: 1, C: s.C, Ghost: 2, ReLU: s.ReLU, Eps: s.Eps})
		}
		with("Synced", 2)
		frozen := s
		frozen.Frozen, frozen.Synced = 1, 1
		bad = append(bad, frozen)
		if k == kernels.BatchNormTangentForward || k == kernels.BatchNormTangentBackward {
			with("Synced", 1)
		}
	case kernels.Combine:
		with("Stride", 2*int64(s.C)-1)
		bad = append(bad, kernels.Combine{Parts: 1, C: s.C, Blocks: 1, Stride: s.Stride, Values: 1, Variances: 1})
	case kernels.AugmentShape:
		with("Pad", -1)
	case kernels.PhiloxShape:
		with("Distribution", 4)
	case kernels.TrustShape:
		with("Form", -1)
		with("Form", int64(kernels.TrustCurvature)+1)
		with("Place", -1)
		with("Place", int64(kernels.TrustLR)+1)
	}
	return append(bad, badNumbers(k, good)...)
}

// badNumbers are shapes with one wrong number that is no size.
func badNumbers(k kernels.Kernel, good kernels.Shape) (bad []kernels.Shape) {
	with := func(field string, values ...float64) {
		for _, value := range values {
			v := reflect.New(reflect.TypeOf(good)).Elem()
			v.Set(reflect.ValueOf(good))
			v.FieldByName(field).SetFloat(value)
			bad = append(bad, v.Interface().(kernels.Shape))
		}
	}
	switch k {
	case kernels.Median:
		with("A", -1, math.NaN())
	case kernels.SNR:
		with("A", 1, math.NaN())
		with("B", -0.1, 1.1, math.NaN())
	case kernels.Clip:
		with("Max", 0, -1, math.NaN())
		with("Eps", -1, math.NaN())
	case kernels.AGC:
		with("Lambda", 0, -1, math.NaN())
		with("Floor", -1, math.NaN())
	case kernels.Trust:
		with("WeightDecay", -1, math.NaN())
		with("Eps", -1, math.NaN())
		with("Low", -1, math.NaN())
		with("High", -1, math.NaN())
		with("WHigh", -1, math.NaN())
	case kernels.Adam:
		with("Beta1", -0.1, 1, math.NaN())
		with("Beta2", -0.1, 1, math.NaN())
		with("Eps", -1, math.NaN())
	}
	return bad
}

// badIndexes are the integer arguments that are checked, with the values that must be refused.
func badIndexes(k kernels.Kernel, good kernels.Shape) (name string, values []float64) {
	switch s := good.(type) {
	case kernels.Softmax:
		if k == kernels.SoftmaxXent {
			return "label", []float64{-1, float64(s.Classes)}
		}
	case kernels.AugmentShape:
		return "index", []float64{-1, float64(s.Images)}
	case kernels.Pool:
		if k == kernels.MaxPoolBackward || k == kernels.MaxPoolTangent {
			return "index", []float64{-1, float64(s.H * s.W)}
		}
	case kernels.BatchNorm:
		return "set", []float64{-1}
	}
	return "", nil
}

// checkRefusals checks that bad calls return an error and, but for bad indexes, write nothing.
func checkRefusals(r Reporter, dev kernels.Device, k kernels.Kernel) {
	r.Helper()
	p := refusalProblem(k)
	for _, shape := range badShapes(k, p.shape) {
		if _, err := ref.Layout(k, shape, 1); err == nil {
			r.Errorf("%s: the suite calls %+v bad, the oracle does not", k, shape)
		}
		if _, err := dev.Workspace(k, shape); err == nil {
			r.Errorf("%s: Workspace accepts the bad shape %+v", k, shape)
		}
		expectRefusal(r, dev, k, p, fmt.Sprintf("the bad shape %+v", shape), true, func(a *arena) { a.callShape = shape })
	}
	layout, err := ref.Layout(k, p.shape, max(1, p.sets))
	if err != nil {
		r.Errorf("%s: the problem is wrong: %v", k, err)
		return
	}
	for i, arg := range layout {
		if !arg.Optional {
			expectRefusal(r, dev, k, p, "a missing "+arg.Name, true, func(a *arena) { a.refs[i] = kernels.None })
		}
	}
	name, values := badIndexes(k, p.shape)
	for _, value := range values {
		expectRefusal(r, dev, k, p, fmt.Sprintf("%s %v", name, value), false, func(a *arena) {
			i := slices.IndexFunc(layout, func(arg ref.Arg) bool { return arg.Name == name })
			last := int(a.refs[i].Offset) + a.lengths[i] - 1
			a.memoryOf(i).WriteInts(last, []int32{int32(value)})
		})
	}
	expectRefusal(r, dev, k, p, "an argument too few", true, func(a *arena) { a.refs = a.refs[:len(layout)-1] })
}

// refusalProblem is a problem with every optional argument. For batch norm it masks by y, so that y
// is required.
func refusalProblem(k kernels.Kernel) problem {
	switch k {
	case kernels.BatchNormForward, kernels.BatchNormBackward, kernels.BatchNormTangentForward, kernels.BatchNormTangentBackward:
		return problem{shape: kernels.BatchNorm{N: 4, HW: 3, C: 5, Ghost: 2, ReLU: 1, Eps: 1e-5}, sets: 2}
	case kernels.SGD:
		return problem{shape: kernels.SGDShape{Count: 9, Momentum: 0.9}}
	case kernels.Conv2DForward, kernels.Conv2DBackwardInput, kernels.Conv2DBackwardWeight:
		return problem{shape: conv(2, 5, 6, 4, 8, 3, 3, 1, 1, 2)}
	case kernels.MaxPoolForward, kernels.MaxPoolBackward, kernels.MaxPoolTangent, kernels.AvgPoolForward, kernels.AvgPoolBackward:
		return problem{shape: pool(2, 5, 6, 3, 3, 3, 2, 2, 1, 1)}
	}
	p := problems(k)[0]
	return problem{shape: p.shape}
}

// expectRefusal breaks a good call and expects an error, and unchanged cells where untouched is set.
func expectRefusal(r Reporter, dev kernels.Device, k kernels.Kernel, p problem, what string, untouched bool, breakIt func(*arena)) {
	r.Helper()
	c, err := newCase(k, p, 0, false)
	if err != nil {
		r.Errorf("%s: the problem is wrong: %v", k, err)
		return
	}
	workspace, err := dev.Workspace(k, p.shape)
	if err != nil {
		r.Errorf("%s: workspace: %v", k, err)
		return
	}
	a, err := c.newArena(dev, workspace)
	if err != nil {
		r.Errorf("%s: %v", k, err)
		return
	}
	defer a.free()
	breakIt(a)
	before := a.bits()
	if err := a.call(); err == nil {
		r.Errorf("%s: %s is not refused", k, what)
	}
	if untouched && !slices.Equal(before, a.bits()) {
		r.Errorf("%s: %s is refused too late: cells were written", k, what)
	}
}

// bits returns all cells as they are.
func (a *arena) bits() []int32 {
	var all []int32
	for base, size := range a.cells[:a.used] {
		cells := make([]int32, size)
		a.bases[base].ReadInts(0, cells)
		all = append(all, cells...)
	}
	return all
}
