package ref

import "broadside/kernels"

// stepLayout handles the shapes of the kernels that step rules are made of.
func stepLayout(k kernels.Kernel, shape kernels.Shape) (args []Arg, ok bool) {
	hyper := in("hyper", 3)
	switch s := shape.(type) {
	case kernels.ClipShape:
		ok = s.Max > 0 && s.Eps >= 0
		if k == kernels.Clip {
			args = []Arg{in("norm", 1).doubles(), inOut("hyper", 3)}
		}
	case kernels.AGCShape:
		ok = positive(s.Units, s.Fan) && s.Lambda > 0 && s.Floor >= 0
		if k == kernels.AGC {
			size := int(s.Units) * int(s.Fan)
			args = []Arg{in("w", size), inOut("g", size), hyper}
		}
	case kernels.TrustShape:
		n := int(s.Count)
		ok = validTrust(s)
		if k == kernels.Trust {
			args = []Arg{in("w", n).doubles().optionalIf(s.Form != kernels.TrustNorms), in("g", n).doubles().optionalIf(s.Form == kernels.TrustOne),
				in("dot", n).doubles().optional(), hyper, out("out", 3*n)}
		}
	case kernels.AdamShape:
		n := int(s.Count)
		ok = n > 0 && s.Beta1 >= 0 && s.Beta1 < 1 && s.Beta2 >= 0 && s.Beta2 < 1 && s.Eps >= 0
		if k == kernels.Adam {
			args = []Arg{in("w", n), in("g", n), inOut("m", n), inOut("square", n), hyper, in("correction", 2), out("u", n)}
		}
	}
	return args, ok
}

func validTrust(s kernels.TrustShape) bool {
	return positive(s.Count) && s.Form >= kernels.TrustOne && s.Form <= kernels.TrustCurvature &&
		s.Place >= kernels.TrustGainLR && s.Place <= kernels.TrustLR &&
		s.WeightDecay >= 0 && s.Eps >= 0 && s.Low >= 0 && s.High >= s.Low && s.WHigh >= 0
}
