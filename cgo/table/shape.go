package table

// #include "broadside.h"
import "C"

import (
	"fmt"
	"unsafe"

	"broadside/kernels"
)

// putShape copies a shape into its C union. It fails if the kernel takes another kind of shape.
func putShape(to *C.bs_shape, k kernels.Kernel, s kernels.Shape) error {
	if k < 0 || k >= kernels.KernelCount {
		return fmt.Errorf("%s: no such kernel", k)
	}
	ok := false
	switch k {
	case kernels.Conv2DForward, kernels.Conv2DBackwardInput, kernels.Conv2DBackwardWeight:
		ok = put[kernels.Conv2D](to, s)
	case kernels.BatchNormForward, kernels.BatchNormBackward,
		kernels.BatchNormTangentForward, kernels.BatchNormTangentBackward:
		ok = put[kernels.BatchNorm](to, s)
	case kernels.BatchNormFold:
		ok = put[kernels.Fold](to, s)
	case kernels.BatchNormCombine:
		ok = put[kernels.Combine](to, s)
	case kernels.ReLUForward, kernels.ReLUBackward, kernels.Axpby, kernels.Add, kernels.Dot, kernels.Norm, kernels.MinMax,
		kernels.MulAdd, kernels.Median, kernels.SNR:
		ok = put[kernels.Vector](to, s)
	case kernels.MaxPoolForward, kernels.MaxPoolBackward, kernels.MaxPoolTangent,
		kernels.AvgPoolForward, kernels.AvgPoolBackward:
		ok = put[kernels.Pool](to, s)
	case kernels.Dropout, kernels.ForwardGradient:
		ok = put[kernels.DropoutShape](to, s)
	case kernels.SoftmaxXent, kernels.SoftmaxXentTangent:
		ok = put[kernels.Softmax](to, s)
	case kernels.Augment:
		ok = put[kernels.AugmentShape](to, s)
	case kernels.PGDStep:
		ok = put[kernels.PGD](to, s)
	case kernels.SGD:
		ok = put[kernels.SGDShape](to, s)
	case kernels.Philox:
		ok = put[kernels.PhiloxShape](to, s)
	case kernels.Clip:
		ok = put[kernels.ClipShape](to, s)
	case kernels.AGC:
		ok = put[kernels.AGCShape](to, s)
	case kernels.Trust:
		ok = put[kernels.TrustShape](to, s)
	case kernels.Adam:
		ok = put[kernels.AdamShape](to, s)
	}
	if !ok {
		return fmt.Errorf("%s does not take a shape of type %T", k, s)
	}
	return nil
}

// put copies a shape of type T, which has the layout of its C namesake, and reports whether s is one.
func put[T kernels.Shape](to *C.bs_shape, s kernels.Shape) bool {
	shape, ok := s.(T)
	if ok {
		*(*T)(unsafe.Pointer(to)) = shape
	}
	return ok
}

// layouts lists each Go type with the size of its C namesake.
func layouts() map[string][2]uintptr {
	return map[string][2]uintptr{
		"bs_conv2d":    {unsafe.Sizeof(kernels.Conv2D{}), C.sizeof_bs_conv2d},
		"bs_batchnorm": {unsafe.Sizeof(kernels.BatchNorm{}), C.sizeof_bs_batchnorm},
		"bs_pool":      {unsafe.Sizeof(kernels.Pool{}), C.sizeof_bs_pool},
		"bs_dropout":   {unsafe.Sizeof(kernels.DropoutShape{}), C.sizeof_bs_dropout},
		"bs_softmax":   {unsafe.Sizeof(kernels.Softmax{}), C.sizeof_bs_softmax},
		"bs_augment":   {unsafe.Sizeof(kernels.AugmentShape{}), C.sizeof_bs_augment},
		"bs_vector":    {unsafe.Sizeof(kernels.Vector{}), C.sizeof_bs_vector},
		"bs_pgd":       {unsafe.Sizeof(kernels.PGD{}), C.sizeof_bs_pgd},
		"bs_sgd":       {unsafe.Sizeof(kernels.SGDShape{}), C.sizeof_bs_sgd},
		"bs_philox":    {unsafe.Sizeof(kernels.PhiloxShape{}), C.sizeof_bs_philox},
		"bs_fold":      {unsafe.Sizeof(kernels.Fold{}), C.sizeof_bs_fold},
		"bs_combine":   {unsafe.Sizeof(kernels.Combine{}), C.sizeof_bs_combine},
		"bs_clip":      {unsafe.Sizeof(kernels.ClipShape{}), C.sizeof_bs_clip},
		"bs_agc":       {unsafe.Sizeof(kernels.AGCShape{}), C.sizeof_bs_agc},
		"bs_trust":     {unsafe.Sizeof(kernels.TrustShape{}), C.sizeof_bs_trust},
		"bs_adam":      {unsafe.Sizeof(kernels.AdamShape{}), C.sizeof_bs_adam},
	}
}
