package ref

import "broadside/kernels"

// call runs the kernel. Layout has checked that the shape has the kernel's type.
func call(c kernels.Call, args *arguments) error {
	a := &args.cells
	switch s := c.Shape.(type) {
	case kernels.Conv2D:
		switch c.Kernel {
		case kernels.Conv2DForward:
			return conv2DForward(s, a[0], a[1], a[2], a[3])
		case kernels.Conv2DBackwardInput:
			return conv2DBackwardInput(s, a[0], a[1], a[2])
		default:
			return conv2DBackwardWeight(s, a[0], a[1], a[2], a[3])
		}
	case kernels.BatchNorm:
		return callBatchNorm(c.Kernel, s, a)
	case kernels.Pool:
		return callPool(c.Kernel, s, a)
	case kernels.Vector:
		return callVector(c.Kernel, s, a)
	case kernels.Softmax:
		if c.Kernel == kernels.SoftmaxXent {
			return softmaxXent(s, a[0], a[1], a[2], a[3], a[4], a[5], a[6])
		}
		return softmaxXentTangent(s, a[0], a[1], a[2], a[3])
	case kernels.Fold:
		return batchNormFold(s, a[0], a[1])
	case kernels.Combine:
		return batchNormCombine(s, a[0], a[1], a[2])
	case kernels.DropoutShape:
		if c.Kernel == kernels.ForwardGradient {
			return forwardGradient(s, a[0], a[1], a[2], a[3])
		}
		return dropout(s, a[0], a[1], a[2], a[3])
	case kernels.AugmentShape:
		return augment(s, args.bytes, a[1], a[2], a[3], a[4], a[5], a[6])
	case kernels.PGD:
		return pgdStep(s, a[0], a[1], a[2], a[3], a[4])
	case kernels.SGDShape:
		return sgd(s, a[0], a[1], a[2], a[3])
	case kernels.PhiloxShape:
		return philoxFill(s, a[0])
	case kernels.ClipShape:
		return clip(s, a[0], a[1])
	case kernels.AGCShape:
		return agc(s, a[0], a[1], a[2])
	case kernels.TrustShape:
		return trust(s, a[0], a[1], a[2], a[3], a[4])
	case kernels.AdamShape:
		return adam(s, a[0], a[1], a[2], a[3], a[4], a[5], a[6])
	}
	return ErrBadShape
}

func callBatchNorm(k kernels.Kernel, s kernels.BatchNorm, a *[kernels.MaxArgs][]float64) error {
	switch k {
	case kernels.BatchNormForward:
		return batchNormForward(s, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8])
	case kernels.BatchNormBackward:
		return batchNormBackward(s, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10])
	case kernels.BatchNormTangentForward:
		return batchNormTangentForward(s, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10])
	default:
		return batchNormTangentBackward(s, a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10],
			a[11], a[12], a[13], a[14])
	}
}

func callPool(k kernels.Kernel, s kernels.Pool, a *[kernels.MaxArgs][]float64) error {
	switch k {
	case kernels.MaxPoolForward:
		return maxPoolForward(s, a[0], a[1], a[2])
	case kernels.MaxPoolBackward:
		return maxPoolBackward(s, a[0], a[1], a[2])
	case kernels.MaxPoolTangent:
		return maxPoolTangent(s, a[0], a[1], a[2])
	case kernels.AvgPoolForward:
		return avgPoolForward(s, a[0], a[1])
	default:
		return avgPoolBackward(s, a[0], a[1])
	}
}

func callVector(k kernels.Kernel, s kernels.Vector, a *[kernels.MaxArgs][]float64) error {
	switch k {
	case kernels.ReLUForward:
		return reluForward(s, a[0], a[1])
	case kernels.ReLUBackward:
		return reluBackward(s, a[0], a[1], a[2])
	case kernels.Axpby:
		return axpby(s, a[0], a[1])
	case kernels.Add:
		return add(s, a[0], a[1], a[2])
	case kernels.Dot:
		return dotProduct(s, a[0], a[1], a[2])
	case kernels.Norm:
		return norm(s, a[0], a[1])
	case kernels.MulAdd:
		return mulAdd(s, a[0], a[1], a[2])
	case kernels.Median:
		return median(s, a[0], a[1], a[2])
	case kernels.SNR:
		return snr(s, a[0], a[1])
	default:
		return minMax(s, a[0], a[1])
	}
}
