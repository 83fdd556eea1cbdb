package ref

import (
	"fmt"
	"math"

	"broadside/kernels"
)

// softmaxXent computes the softmax cross-entropy against smoothed targets (Szegedy et al. 2016):
//
//	loss_i = weight_i * -sum_j target_ij log prob_ij, dlogits = weight (prob - target)
//
// correct is 1 where the first largest logit is the label's.
func softmaxXent(s kernels.Softmax, logits, label, weight, loss, correct, prob, dlogits []float64) error {
	classes := int(s.Classes)
	for i, l := range label[:s.N] {
		if l < 0 || int(l) >= classes {
			return fmt.Errorf("label %v of sample %d, of %d classes: %w", l, i, classes, ErrBadArgument)
		}
	}
	for i := range int(s.N) {
		z, y := logits[i*classes:(i+1)*classes], int(label[i])
		logSum := logSumExp(z)
		scale, best, sample := weightOf(weight, i), 0, 0.0
		for j, zj := range z {
			target := s.Smoothing / float64(classes)
			if j == y {
				target += 1 - s.Smoothing
			}
			p := math.Exp(zj - logSum)
			sample -= target * (zj - logSum)
			prob[i*classes+j] = p
			put(dlogits, i*classes+j, scale*(p-target), false)
			if zj > z[best] {
				best = j
			}
		}
		loss[i], correct[i] = scale*sample, 0
		if best == y {
			correct[i] = 1
		}
	}
	return nil
}

// logSumExp returns log sum exp(z), shifted by the largest so that nothing overflows.
func logSumExp(z []float64) float64 {
	largest := z[0]
	for _, v := range z {
		largest = max(largest, v)
	}
	sum := 0.0
	for _, v := range z {
		sum += math.Exp(v - largest)
	}
	return largest + math.Log(sum)
}

func weightOf(weight []float64, i int) float64 {
	if weight == nil {
		return 1
	}
	return weight[i]
}

// softmaxXentTangent: R{dlogits} = weight prob (tlogits - sum prob tlogits); the targets are constants.
func softmaxXentTangent(s kernels.Softmax, prob, weight, tlogits, tdlogits []float64) error {
	classes := int(s.Classes)
	for i := range int(s.N) {
		p, t := prob[i*classes:(i+1)*classes], tlogits[i*classes:(i+1)*classes]
		mean := dot(p, t)
		for j := range p {
			tdlogits[i*classes+j] = weightOf(weight, i) * p[j] * (t[j] - mean)
		}
	}
	return nil
}
