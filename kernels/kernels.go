// Package kernels names Broadside's numeric kernels and says how to call them.
//
// A [Call] is one kernel with its shape and the places of its arguments; a [Device] runs lists of
// calls over its own memory. The kernels, their argument order and their formulae are stated once,
// in broadside.h; package ref computes them in float64 as the oracle for every implementation.
package kernels

import (
	"fmt"
	"slices"
)

// ABI is BS_ABI of broadside.h. A table with another number is refused when it is loaded.
const ABI = 4

// MaxArgs and MaxBases bound a call's arguments and a pass's base pointers.
const (
	MaxArgs  = 20
	MaxBases = 16
)

// Kernel identifies a kernel of the table, in the order of BS_KERNELS in broadside.h.
type Kernel int32

// The kernels; broadside.h documents their arguments.
const (
	Conv2DForward Kernel = iota
	Conv2DBackwardInput
	Conv2DBackwardWeight
	BatchNormForward
	BatchNormBackward
	BatchNormTangentForward
	BatchNormTangentBackward
	BatchNormFold
	BatchNormCombine
	ReLUForward
	ReLUBackward
	Axpby
	Add
	Dot
	Norm
	MinMax
	MaxPoolForward
	MaxPoolBackward
	MaxPoolTangent
	AvgPoolForward
	AvgPoolBackward
	Dropout
	ForwardGradient
	SoftmaxXent
	SoftmaxXentTangent
	Augment
	PGDStep
	SGD
	Philox
	MulAdd
	Median
	SNR
	Clip
	AGC
	Trust
	Adam
	KernelCount
)

var kernelInfo = [KernelCount]struct {
	name string
	args int
}{
	{"conv2d_forward", 4}, {"conv2d_backward_input", 3}, {"conv2d_backward_weight", 4},
	{"batchnorm_forward", 9}, {"batchnorm_backward", 11}, {"batchnorm_tangent_forward", 11},
	{"batchnorm_tangent_backward", 15}, {"batchnorm_fold", 2}, {"batchnorm_combine", 3}, {"relu_forward", 2}, {"relu_backward", 3},
	{"axpby", 2}, {"add", 3}, {"dot", 3}, {"norm", 2}, {"minmax", 2}, {"maxpool_forward", 3},
	{"maxpool_backward", 3}, {"maxpool_tangent", 3}, {"avgpool_forward", 2}, {"avgpool_backward", 2},
	{"dropout", 4}, {"forward_gradient", 4}, {"softmax_xent", 7}, {"softmax_xent_tangent", 4}, {"augment", 7}, {"pgd_step", 5},
	{"sgd", 4}, {"philox", 1}, {"muladd", 3}, {"median", 3}, {"snr", 2}, {"clip", 2}, {"agc", 3}, {"trust", 5}, {"adam", 7},
}

// String returns the kernel's name in the table.
func (k Kernel) String() string {
	if k < 0 || k >= KernelCount {
		return fmt.Sprintf("kernel(%d)", int32(k))
	}
	return kernelInfo[k].name
}

// Args returns how many arguments the kernel takes, its workspace not counted.
func (k Kernel) Args() int { return kernelInfo[k].args }

// Shape is one of the shape structs below. They have the memory layout of their C namesakes.
type Shape interface{ shape() }

// Precision says how the factors of a convolution's products are rounded; products and sums are not.
type Precision int32

// The precisions: not at all, to bfloat16, to tf32. broadside.h states them.
const (
	F32 Precision = iota
	BF16
	TF32
)

var precisionNames = []string{"f32", "bf16", "tf32"}

func (p Precision) String() string {
	if p < 0 || int(p) >= len(precisionNames) {
		return fmt.Sprintf("precision(%d)", int32(p))
	}
	return precisionNames[p]
}

// PrecisionNames returns the names of all precisions, in the order of their values.
func PrecisionNames() []string { return slices.Clone(precisionNames) }

// PrecisionNamed returns the precision of a name.
func PrecisionNamed(name string) (p Precision, ok bool) {
	i := slices.Index(precisionNames, name)
	return Precision(max(i, 0)), i >= 0
}

// Conv2D is the shape of a convolution: input [N][H][W][C], weights [K][R][S][C/Groups], output
// [N][OH][OW][K]. A linear layer is the case H = W = R = S = 1.
type Conv2D struct {
	N, H, W, C                   int32
	K, R, S                      int32
	StrideH, StrideW, PadH, PadW int32
	Groups                       int32
	OH, OW                       int32
	ReLU, Accumulate             int32
	Precision                    Precision
	_                            int32
}

// BatchNorm is the shape of a ghost batch normalisation over activations [N][HW][C].
type BatchNorm struct {
	N, HW, C, Ghost          int32
	Frozen, ReLU, Accumulate int32
	Synced                   int32
	Eps                      float64
}

// Ghosts returns the number of ghosts: N/Ghost, rounded up.
func (b BatchNorm) Ghosts() int { return int((b.N + b.Ghost - 1) / b.Ghost) }

// Pool is the shape of a max or average pooling.
type Pool struct {
	N, H, W, C, R, S                     int32
	StrideH, StrideW, PadH, PadW, OH, OW int32
	Accumulate, _                        int32
}

// DropoutShape is N samples of Per elements, dropped with probability P. ForwardGradient takes it too, with P 0.
type DropoutShape struct {
	N, Per, Layer, _ int32
	P                float64
}

// Softmax is the shape of the softmax cross-entropy over logits [N][Classes].
type Softmax struct {
	N, Classes int32
	Smoothing  float64
}

// AugmentShape says how N images [H][W][C] are gathered and augmented.
type AugmentShape struct {
	N, H, W, C                int32
	Pad, Flip, Cutout, Images int32
}

// Vector is Count elements and two scalars.
type Vector struct {
	Count int64
	A, B  float64
}

// PGD is a projected sign-gradient step over Count elements.
type PGD struct {
	Count     int64
	Step, Eps float64
}

// SGDShape is an SGD update of Count parameters.
type SGDShape struct {
	Count                 int64
	Nesterov, _           int32
	Momentum, WeightDecay float64
}

// TrustForm says what a tensor's ratio is made of.
type TrustForm int32

// The forms of the Trust kernel; broadside.h has their formulae.
const (
	TrustOne TrustForm = iota
	TrustNorms
	TrustCurvature
)

// TrustPlace says what a tensor's ratio multiplies.
type TrustPlace int32

// The places of the Trust kernel's ratio: the gain together with the learning rate, so that the velocity sums steps;
// the gain; the learning rate.
const (
	TrustGainLR TrustPlace = iota
	TrustGain
	TrustLR
)

// TrustShape makes step sizes for Count tensors.
type TrustShape struct {
	Count                         int32
	Form                          TrustForm
	Place                         TrustPlace
	Mean, LARC, _                 int32
	Coefficient, WeightDecay, Eps float64
	Low, High                     float64
	WHigh                         float64
}

// ClipShape bounds the norm of the mean gradient by Max.
type ClipShape struct{ Max, Eps float64 }

// AGCShape clips the gradients of Units rows of Fan weights.
type AGCShape struct {
	Units, Fan    int32
	Lambda, Floor float64
}

// AdamShape is Adam's direction for Count parameters.
type AdamShape struct {
	Count                          int64
	Beta1, Beta2, Eps, WeightDecay float64
}

// Distribution is what the Philox kernel makes of its random words.
type Distribution int32

// The distributions of the Philox kernel.
const (
	Bits Distribution = iota
	Uniform
	Normal
	Rademacher
)

// PhiloxShape is Count random elements of one counter stream.
type PhiloxShape struct {
	Count                           int64
	Distribution                    Distribution
	_                               int32
	Key0, Key1, Ctr1, Ctr2, Ctr3, _ uint32
}

// Combine is the statistics of Parts calls over Values values per channel each, in Blocks blocks of rows of Stride cells.
type Combine struct {
	Parts, C, Blocks, Stride int32
	Values                   int64
	Variances, _             int32
}

// Fold is Ghosts statistics of C channels folded into running statistics.
type Fold struct {
	Ghosts, C int32
	Momentum  float64
}

func (Conv2D) shape()       {}
func (BatchNorm) shape()    {}
func (Pool) shape()         {}
func (DropoutShape) shape() {}
func (Softmax) shape()      {}
func (AugmentShape) shape() {}
func (Vector) shape()       {}
func (PGD) shape()          {}
func (SGDShape) shape()     {}
func (PhiloxShape) shape()  {}
func (Fold) shape()         {}
func (Combine) shape()      {}
func (TrustShape) shape()   {}
func (ClipShape) shape()    {}
func (AGCShape) shape()     {}
func (AdamShape) shape()    {}

// Base numbers one of the memories a pass is run with.
type Base int32

// Ref is a place: Offset cells behind base Base (bytes behind it for image memory).
type Ref struct {
	Base   Base
	Offset int64
}

// None is the NULL argument.
var None = Ref{Base: -1}

// IsNone reports whether the reference is NULL.
func (r Ref) IsNone() bool { return r.Base < 0 }

// At returns the place offset cells further on.
func (r Ref) At(offset int) Ref { return Ref{r.Base, r.Offset + int64(offset)} }

// Call is one kernel call. Args are in the order broadside.h gives; an optional last one beyond
// Kernel.Args() is the workspace.
type Call struct {
	Kernel Kernel
	Shape  Shape
	Args   []Ref
}

// String describes the call for error messages.
func (c Call) String() string { return fmt.Sprintf("%s%+v", c.Kernel, c.Shape) }

// Device runs kernels over memory of its own. Its methods may be called from any goroutine; a
// [Pass] and a [Memory] belong to one goroutine at a time.
type Device interface {
	// Name describes the device, as in "cpu (avx2)".
	Name() string
	// Space names the device's memory. Devices of one space can use each other's memory.
	Space() string
	// Alloc returns zeroed memory of the given number of cells.
	Alloc(cells int) (Memory, error)
	// AllocBytes returns memory holding a copy of the bytes, for images.
	AllocBytes(data []byte) (Memory, error)
	// Workspace returns the cells of scratch that a kernel needs for a shape.
	Workspace(k Kernel, s Shape) (int, error)
	// Prepare readies calls to be run many times. It checks argument counts.
	Prepare(calls []Call) (Pass, error)
	// Close frees the device. Memory and passes are freed on their own.
	Close() error
}

// Pass is a list of calls ready to run in one crossing to the device.
type Pass interface {
	// Run runs the calls over the given memories, indexed by Base; entries that no call uses may be
	// nil. It allocates nothing. An error names the call that failed.
	Run(bases *[MaxBases]Memory) error
	// Free releases the pass.
	Free()
}

// Memory is device memory. Offsets and lengths count cells. Reads and writes outside it panic: they
// are programming errors.
type Memory interface {
	Len() int
	WriteFloats(offset int, src []float32)
	ReadFloats(offset int, dst []float32)
	WriteInts(offset int, src []int32)
	ReadInts(offset int, dst []int32)
	// ReadDoubles reads results of Dot or Norm, each of which fills two cells.
	ReadDoubles(offset int, dst []float64)
	// Slice returns the n cells at offset as a memory, which is good until this one is freed. To Free it does nothing.
	Slice(offset, n int) Memory
	Free()
}
