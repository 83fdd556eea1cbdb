package ref

import (
	"errors"
	"fmt"

	"broadside/kernels"
)

// ErrBadShape is BS_BAD_SHAPE: a size is zero, negative or inconsistent.
var ErrBadShape = errors.New("bad shape")

// ErrBadArgument is BS_BAD_ARGUMENT: a required argument is missing or too short, or an index points outside.
var ErrBadArgument = errors.New("bad argument")

// Kind is what the cells of an argument hold.
type Kind int

// The kinds of arguments.
const (
	Float  Kind = iota // float
	Int                // int32 or uint32
	Double             // doubles, each in two cells
	Byte               // image memory, counted in bytes
)

// Role is what a kernel does with an argument.
type Role int

// The roles of arguments.
const (
	In    Role = iota // read, or not touched
	Out               // overwritten
	InOut             // read and changed: accumulated into, or updated in place
)

// Arg describes one argument of a kernel call.
type Arg struct {
	Name     string
	Kind     Kind
	Role     Role
	Optional bool // may be kernels.None
	Cells    int
}

func in(name string, cells int) Arg    { return Arg{Name: name, Cells: cells} }
func out(name string, cells int) Arg   { return Arg{Name: name, Role: Out, Cells: cells} }
func inOut(name string, cells int) Arg { return Arg{Name: name, Role: InOut, Cells: cells} }

func (a Arg) ints() Arg              { a.Kind = Int; return a }
func (a Arg) doubles() Arg           { a.Kind, a.Cells = Double, 2*a.Cells; return a }
func (a Arg) optional() Arg          { return a.optionalIf(true) }
func (a Arg) optionalIf(b bool) Arg  { a.Optional = b; return a }
func (a Arg) addingIf(flag bool) Arg { return a.roleIf(flag, InOut) }

func (a Arg) roleIf(flag bool, role Role) Arg {
	if flag {
		a.Role = role
	}
	return a
}

// Layout returns the arguments of a kernel for a shape, its workspace not counted. sets is the number
// of batch-norm parameter sets. The error wraps ErrBadShape.
func Layout(k kernels.Kernel, shape kernels.Shape, sets int) ([]Arg, error) {
	var args []Arg
	ok := false
	switch s := shape.(type) {
	case kernels.Conv2D:
		if ok = validConv2D(s); ok {
			args = conv2DLayout(k, s)
		}
	case kernels.BatchNorm:
		if ok = validBatchNorm(k, s) && sets > 0; ok {
			args = batchNormLayout(k, s, sets)
		}
	case kernels.Pool:
		if ok = validPool(s); ok {
			args = poolLayout(k, s)
		}
	case kernels.Vector:
		if ok = validVector(k, s); ok {
			args = vectorLayout(k, int(s.Count), s.B != 0)
		}
	case kernels.ClipShape, kernels.AGCShape, kernels.TrustShape, kernels.AdamShape:
		args, ok = stepLayout(k, shape)
	default:
		args, ok = singleLayout(k, shape)
	}
	if !ok {
		return nil, fmt.Errorf("%s%+v: %w", k, shape, ErrBadShape)
	}
	if args == nil {
		return nil, fmt.Errorf("%s takes no %T: %w", k, shape, ErrBadShape)
	}
	return args, nil
}

// singleLayout handles the shapes that belong to one kernel each.
func singleLayout(k kernels.Kernel, shape kernels.Shape) (args []Arg, ok bool) {
	switch s := shape.(type) {
	case kernels.DropoutShape:
		size := int(s.N) * int(s.Per)
		ok = positive(s.N, s.Per) && s.Layer >= 0 && s.Layer < 1<<16 && s.P >= 0 && s.P < 1
		switch k {
		case kernels.Dropout:
			args = []Arg{in("x", size), in("sample", int(s.N)).ints(), in("key", 4).ints(), out("y", size)}
		case kernels.ForwardGradient:
			args = []Arg{in("dy", size), in("sample", int(s.N)).ints(), in("key", 4).ints(), out("dx", size)}
		}
	case kernels.Softmax:
		ok = positive(s.N, s.Classes) && s.Smoothing >= 0 && s.Smoothing <= 1
		args = softmaxLayout(k, int(s.N), int(s.Classes))
	case kernels.AugmentShape:
		ok = positive(s.N, s.H, s.W, s.C, s.Images) && s.Pad >= 0 && s.Cutout >= 0
		if k == kernels.Augment {
			args = augmentLayout(s)
		}
	case kernels.PGD:
		n := int(s.Count)
		ok = n > 0 && s.Eps >= 0
		if k == kernels.PGDStep {
			args = []Arg{in("x", n), in("clean", n), in("grad", n), in("bounds", 2).optional(), out("out", n)}
		}
	case kernels.SGDShape:
		n := int(s.Count)
		ok = n > 0
		if k == kernels.SGD {
			args = []Arg{inOut("w", n), in("g", n), inOut("velocity", n).optionalIf(s.Momentum == 0), in("hyper", 3)}
		}
	case kernels.PhiloxShape:
		ok = s.Count > 0 && s.Distribution >= kernels.Bits && s.Distribution <= kernels.Rademacher
		if k == kernels.Philox {
			values := out("out", int(s.Count))
			if s.Distribution == kernels.Bits {
				values = values.ints()
			}
			args = []Arg{values}
		}
	case kernels.Fold:
		ok = positive(s.Ghosts, s.C)
		if k == kernels.BatchNormFold {
			args = []Arg{in("stats", int(s.Ghosts)*2*int(s.C)), inOut("running", 2*int(s.C))}
		}
	case kernels.Combine:
		ok = positive(s.Parts, s.C, s.Blocks) && s.Values > 0 && s.Stride/2 >= s.C && (s.Variances == 0 || int64(s.Parts)*s.Values > 1)
		if ok && k == kernels.BatchNormCombine {
			rows := (int(s.Parts) + int(s.Blocks) - 1) / int(s.Blocks)
			args = []Arg{in("rows", int(s.Blocks)*rows*int(s.Stride)), out("out", 2*int(s.C)),
				in("stats", 2*int(s.C)).optional().roleIf(s.Variances != 0, Out)}
		}
	}
	return args, ok
}

func positive(sizes ...int32) bool {
	for _, size := range sizes {
		if size <= 0 {
			return false
		}
	}
	return true
}

func validConv2D(s kernels.Conv2D) bool {
	if !positive(s.N, s.H, s.W, s.C, s.K, s.R, s.S, s.StrideH, s.StrideW, s.Groups, s.OH, s.OW) {
		return false
	}
	if s.Precision < kernels.F32 || s.Precision > kernels.TF32 {
		return false
	}
	fits := func(in, kernel, stride, pad, out int32) bool {
		return pad >= 0 && in+2*pad >= kernel && out == (in+2*pad-kernel)/stride+1
	}
	return s.C%s.Groups == 0 && s.K%s.Groups == 0 &&
		fits(s.H, s.R, s.StrideH, s.PadH, s.OH) && fits(s.W, s.S, s.StrideW, s.PadW, s.OW)
}

func conv2DLayout(k kernels.Kernel, s kernels.Conv2D) []Arg {
	x := int(s.N) * int(s.H) * int(s.W) * int(s.C)
	w := int(s.K) * int(s.R) * int(s.S) * int(s.C/s.Groups)
	y := int(s.N) * int(s.OH) * int(s.OW) * int(s.K)
	add := s.Accumulate != 0
	switch k {
	case kernels.Conv2DForward:
		return []Arg{in("x", x), in("w", w), in("bias", int(s.K)).optional(), out("y", y).addingIf(add)}
	case kernels.Conv2DBackwardInput:
		return []Arg{in("dy", y), in("w", w), out("dx", x).addingIf(add)}
	case kernels.Conv2DBackwardWeight:
		return []Arg{in("x", x), in("dy", y), inOut("dw", w), inOut("dbias", int(s.K)).optional()}
	}
	return nil
}

// validBatchNorm refuses, in train mode, a ghost with one element per channel: its variance is 0 and
// its unbiased variance does not exist. A synced call only has a part of the values.
func validBatchNorm(k kernels.Kernel, s kernels.BatchNorm) bool {
	if !positive(s.N, s.HW, s.C, s.Ghost) || s.Eps < 0 {
		return false
	}
	if s.Synced != 0 {
		return s.Synced == 1 && s.Frozen == 0 && (k == kernels.BatchNormForward || k == kernels.BatchNormBackward)
	}
	last := int64(s.N) - int64(s.Ghosts()-1)*int64(s.Ghost)
	return s.Frozen != 0 || last*int64(s.HW) > 1
}

func batchNormLayout(k kernels.Kernel, s kernels.BatchNorm, sets int) []Arg {
	size, c, ghosts := int(s.N)*int(s.HW)*int(s.C), int(s.C), s.Ghosts()
	addX, addRes := s.Accumulate&1 != 0, s.Accumulate&2 != 0
	x, mask := in("x", size), in("y", size).optionalIf(s.ReLU == 0)
	set := in("set", ghosts).ints().optional()
	perSet := func(name string) Arg { return in(name, sets*c) }
	perGhost := func(name string) Arg { return in(name, ghosts*2*c) }
	sum := func(name string) Arg { return inOut(name, sets*c) }
	switch k {
	case kernels.BatchNormForward:
		return []Arg{x, perSet("gamma"), perSet("beta"), in("residual", size).optional(), set,
			in("running", sets*2*c).optionalIf(s.Frozen == 0), in("y", size).optionalIf(s.Synced != 0).roleIf(s.Synced == 0, Out),
			out("saved", ghosts*2*c), perGhost("stats").optional().roleIf(s.Frozen == 0 && s.Synced == 0, Out)}
	case kernels.BatchNormBackward:
		return []Arg{x, mask, in("dy", size), perSet("gamma"), set, perGhost("saved"),
			out("dx", size).optional().addingIf(addX), out("dresidual", size).optional().addingIf(addRes),
			sum("dgamma").optional().roleIf(s.Synced != 0, In), sum("dbeta").optional().roleIf(s.Synced != 0, In),
			perGhost("sums").roleIf(s.Synced == 0, Out)}
	case kernels.BatchNormTangentForward:
		return []Arg{x, mask, perSet("gamma"), set, perGhost("saved"), in("tx", size), perSet("tgamma"),
			perSet("tbeta"), in("tresidual", size).optional(), out("ty", size), out("tsaved", ghosts*2*c)}
	case kernels.BatchNormTangentBackward:
		return []Arg{x, mask, in("dy", size), perSet("gamma"), set, perGhost("saved"), perGhost("sums"),
			in("tx", size), perGhost("tsaved"), in("tdy", size), perSet("tgamma"),
			out("tdx", size).optional().addingIf(addX), out("tdresidual", size).optional().addingIf(addRes),
			sum("hgamma"), sum("hbeta")}
	}
	return nil
}

// validPool requires every window to hold a pixel of the image.
func validPool(s kernels.Pool) bool {
	if !positive(s.N, s.H, s.W, s.C, s.R, s.S, s.StrideH, s.StrideW, s.OH, s.OW) {
		return false
	}
	fits := func(in, kernel, stride, pad, out int32) bool {
		return pad >= 0 && pad < kernel && (out-1)*stride-pad < in
	}
	return fits(s.H, s.R, s.StrideH, s.PadH, s.OH) && fits(s.W, s.S, s.StrideW, s.PadW, s.OW)
}

func poolLayout(k kernels.Kernel, s kernels.Pool) []Arg {
	x, y := int(s.N)*int(s.H)*int(s.W)*int(s.C), int(s.N)*int(s.OH)*int(s.OW)*int(s.C)
	index := in("index", y).ints()
	dx := out("dx", x).addingIf(s.Accumulate != 0)
	switch k {
	case kernels.MaxPoolForward:
		return []Arg{in("x", x), out("y", y), out("index", y).ints()}
	case kernels.MaxPoolBackward:
		return []Arg{in("dy", y), index, dx}
	case kernels.MaxPoolTangent:
		return []Arg{in("tx", x), index, out("ty", y)}
	case kernels.AvgPoolForward:
		return []Arg{in("x", x), out("y", y)}
	case kernels.AvgPoolBackward:
		return []Arg{in("dy", y), dx}
	}
	return nil
}

func validVector(k kernels.Kernel, s kernels.Vector) bool {
	switch k {
	case kernels.Median:
		return s.Count > 0 && s.A >= 0
	case kernels.SNR:
		return s.Count > 0 && s.A >= 2 && s.B >= 0 && s.B <= 1
	}
	return s.Count > 0
}

// vectorLayout: keeps is true where the old output counts (B != 0).
func vectorLayout(k kernels.Kernel, n int, keeps bool) []Arg {
	double := out("out", 1).doubles()
	switch k {
	case kernels.ReLUForward:
		return []Arg{in("x", n), out("y", n)}
	case kernels.ReLUBackward:
		return []Arg{in("y", n), in("dy", n), out("dx", n).addingIf(keeps)}
	case kernels.Axpby:
		return []Arg{in("x", n), out("y", n).addingIf(keeps)}
	case kernels.Add:
		return []Arg{in("x", n), in("z", n), out("y", n)}
	case kernels.Dot, kernels.Median:
		return []Arg{in("x", n), in("z", n), double}
	case kernels.MulAdd:
		return []Arg{in("x", n), in("z", n), out("y", n).addingIf(keeps)}
	case kernels.SNR:
		return []Arg{inOut("g", n), in("square", n)}
	case kernels.Norm:
		return []Arg{in("x", n), double}
	case kernels.MinMax:
		return []Arg{in("x", n), out("out", 2)}
	}
	return nil
}

func softmaxLayout(k kernels.Kernel, n, classes int) []Arg {
	size := n * classes
	switch k {
	case kernels.SoftmaxXent:
		return []Arg{in("logits", size), in("label", n).ints(), in("weight", n).optional(), out("loss", n),
			out("correct", n), out("prob", size), out("dlogits", size).optional()}
	case kernels.SoftmaxXentTangent:
		return []Arg{in("prob", size), in("weight", n).optional(), in("tlogits", size), out("tdlogits", size)}
	}
	return nil
}

func augmentLayout(s kernels.AugmentShape) []Arg {
	image := int(s.H) * int(s.W) * int(s.C)
	return []Arg{{Name: "images", Kind: Byte, Cells: int(s.Images) * image}, in("labels", int(s.Images)).ints(),
		in("index", int(s.N)).ints(), in("key", 4).ints(), in("normal", 2*int(s.C)),
		out("x", int(s.N)*image), out("label", int(s.N)).ints()}
}
