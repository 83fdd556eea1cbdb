package conformance

import (
	"math"

	"broadside/kernels"
)

// stepProblems are those of the kernels that step rules are made of.
func stepProblems(k kernels.Kernel) (list []problem) {
	switch k {
	case kernels.Clip: // norm and scale lie between 1/2 and 3/2: clipped, on both sides of the bound, and not
		for _, maximum := range []float64{1e-3, 0.25, 0.9, 1, 3} {
			list = append(list, problem{shape: kernels.ClipShape{Max: maximum, Eps: 1e-6}}, problem{shape: kernels.ClipShape{Max: maximum}})
		}
	case kernels.AGC:
		for _, size := range [][2]int32{{1, 1}, {1, 7}, {3, 9}, {16, 27}, {5, 64}, {10, 100}, {2, 1000}, {70, 33}, {1, 4099}} {
			for _, lambda := range []float64{0.01, 0.9, 1.1} {
				list = append(list, problem{shape: kernels.AGCShape{Units: size[0], Fan: size[1], Lambda: lambda, Floor: 1e-3}})
			}
		}
		list = append(list, problem{shape: kernels.AGCShape{Units: 4, Fan: 5, Lambda: 0.5, Floor: 100}})
	case kernels.Trust:
		return trustProblems()
	}
	for _, n := range counts {
		switch k {
		case kernels.MulAdd:
			for _, ab := range [][2]float64{{1, 1}, {2, 0}, {-0.5, 2}, {1, -1}} {
				list = append(list, problem{shape: kernels.Vector{Count: n, A: ab[0], B: ab[1]}, exact: true})
			}
			list = append(list, problem{shape: kernels.Vector{Count: n, A: 0.1, B: 0.9}}, problem{shape: kernels.Vector{Count: n, A: 1}, exact: true, alias: "y", of: "x"})
		case kernels.Median:
			list = append(list, problem{shape: kernels.Vector{Count: n}, exact: true}, problem{shape: kernels.Vector{Count: n, A: 1e-3}},
				problem{shape: kernels.Vector{Count: n, B: 1}, exact: true})
		case kernels.SNR:
			list = append(list, problem{shape: kernels.Vector{Count: n, A: 8, B: 0.1}}, problem{shape: kernels.Vector{Count: n, A: 2}},
				problem{shape: kernels.Vector{Count: n, A: 16, B: 1}})
		case kernels.Adam:
			s := kernels.AdamShape{Count: n, Beta1: 0.9, Beta2: 0.999, Eps: 1e-6, WeightDecay: 0.01}
			list = append(list, problem{shape: s}, problem{shape: s, alias: "u", of: "g"}, problem{shape: kernels.AdamShape{Count: n, Eps: 1e-8}})
		}
	}
	return list
}

// trustProblems are every form at every place, with every option.
func trustProblems() (list []problem) {
	for _, count := range []int32{1, 2, 7, 33, 300} {
		for place := kernels.TrustGainLR; place <= kernels.TrustLR; place++ {
			one := kernels.TrustShape{Count: count, Place: place}
			lars := kernels.TrustShape{Count: count, Form: kernels.TrustNorms, Place: place, Coefficient: 1e-3, WeightDecay: 5e-4,
				High: math.Inf(1), WHigh: math.Inf(1)}
			larc, lamb, tight := lars, lars, lars
			larc.LARC, larc.Coefficient, larc.Eps = 1, 0.7, 1e-8
			lamb.Coefficient, lamb.WeightDecay, lamb.WHigh, lamb.Mean = 1, 0, 1, 1
			tight.Coefficient, tight.Low, tight.High = 1, 0.9, 1.1
			curved := kernels.TrustShape{Count: count, Form: kernels.TrustCurvature, Place: place, Coefficient: 1e-3, WeightDecay: 5e-4, High: 1}
			sure := curved
			sure.WeightDecay, sure.Eps, sure.Mean = 0, 1e-12, 1
			list = append(list, problem{shape: lars}, problem{shape: one, absent: []string{"w", "g", "dot"}})
			for _, s := range []kernels.TrustShape{lars, larc, lamb, tight} {
				list = append(list, problem{shape: s, absent: []string{"dot"}})
			}
			list = append(list, problem{shape: curved, absent: []string{"w", "dot"}}, problem{shape: sure, absent: []string{"w", "dot"}})
		}
	}
	return list
}
