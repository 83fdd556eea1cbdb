package cafo

import (
	"errors"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// squares are the sums that least squares need. Leaf after leaf is added, so that the bits depend on the order of the
// samples alone.
type squares struct {
	features, classes int
	n                 int
	xx                *mat.SymDense // X'X, upper triangle
	xy                *mat.Dense    // X'Y
	x                 []float64     // a leaf
}

func newSquares(features, classes int) *squares {
	return &squares{features: features, classes: classes, xx: mat.NewSymDense(features, nil), xy: mat.NewDense(features, classes, nil)}
}

// block is the side of the blocks of X'X that are computed as whole matrix products, which use all cores.
const block = 1024

// add takes in the features [samples][features] of a leaf.
func (s *squares) add(x []float32, labels []int32) {
	s.x = s.x[:0]
	for _, v := range x {
		s.x = append(s.x, float64(v))
	}
	f, xx := s.features, s.xx.RawSymmetric()
	columns := func(from int) blas64.General {
		return blas64.General{Rows: len(labels), Cols: min(block, f-from), Stride: f, Data: s.x[from:]}
	}
	for i := 0; i < f; i += block {
		for j := i; j < f; j += block {
			a, b := columns(i), columns(j)
			to := blas64.General{Rows: a.Cols, Cols: b.Cols, Stride: xx.Stride, Data: xx.Data[i*xx.Stride+j:]}
			blas64.Gemm(blas.Trans, blas.NoTrans, 1, a, b, 1, to)
		}
	}
	for i, label := range labels {
		for k, v := range s.x[i*f : (i+1)*f] {
			s.xy.Set(k, int(label), s.xy.At(k, int(label))+v)
		}
	}
	s.n += len(labels)
}

// fit is the weight [classes][features] of a head, and its mean squared error.
type fit struct {
	values []float32
	mse    float64
}

// solve returns the weight of least (|X w - Y|^2 / n + ridge |w|^2). The sums are used up.
func (s *squares) solve(ridge float64) (fit, error) {
	total := ridge * float64(s.n)
	for i := range s.features {
		s.xx.SetSym(i, i, s.xx.At(i, i)+total)
	}
	var factor mat.Cholesky
	var w mat.Dense
	if !factor.Factorize(s.xx) || factor.SolveTo(&w, s.xy) != nil {
		return fit{}, errors.New("the features depend on each other so much that their products are singular: methods.cafo.ridge must be larger")
	}
	out := fit{values: make([]float32, 0, s.features*s.classes)}
	gain, size := 0.0, 0.0 // W.X'Y, |W|^2
	for c := range s.classes {
		for i := range s.features {
			v := w.At(i, c)
			gain += v * s.xy.At(i, c)
			size += v * v
			out.values = append(out.values, float32(v))
		}
	}
	// |X W - Y|^2 = n - 2 W.X'Y + W.X'X W, and X'X W = X'Y - n ridge W.
	out.mse = (float64(s.n) - gain - total*size) / float64(s.n*s.classes)
	return out, nil
}
