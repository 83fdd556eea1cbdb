package ref

import (
	"errors"
	"math"
	"testing"

	"broadside/kernels"
	"broadside/kernels/philox"
)

var poolShapes = []kernels.Pool{
	{N: 2, H: 4, W: 6, C: 3, R: 2, S: 2, StrideH: 2, StrideW: 2, OH: 2, OW: 3},
	{N: 1, H: 5, W: 5, C: 2, R: 3, S: 3, StrideH: 2, StrideW: 1, PadH: 1, PadW: 1, OH: 3, OW: 5},
}

func TestPoolBackward(t *testing.T) {
	for _, s := range poolShapes {
		layout, err := Layout(kernels.MaxPoolForward, s, 1)
		if err != nil {
			t.Fatal(err)
		}
		// A permutation, so that no two pixels are near a tie.
		x := make([]float64, layout[0].Cells)
		for i, v := range stream(3).Perm(len(x)) {
			x[i] = float64(v)
		}
		n := layout[1].Cells
		y, index, dy := make([]float64, n), make([]float64, n), normals(stream(4), n)
		maximum, average := make([]float64, len(x)), make([]float64, len(x))
		mustRun(t, kernels.MaxPoolForward, s, x, y, index)
		mustRun(t, kernels.MaxPoolBackward, s, dy, index, maximum)
		mustRun(t, kernels.AvgPoolBackward, s, dy, average)
		checkGradient(t, "maximum dx", func() float64 {
			mustRun(t, kernels.MaxPoolForward, s, x, y, make([]float64, n))
			return dot(y, dy)
		}, x, maximum)
		checkGradient(t, "average dx", func() float64 {
			mustRun(t, kernels.AvgPoolForward, s, x, y)
			return dot(y, dy)
		}, x, average)
		// The tangent is the transpose of the backward pass: <dy, T tx> = <T' dy, tx>.
		tx, ty := normals(stream(5), len(x)), make([]float64, n)
		mustRun(t, kernels.MaxPoolTangent, s, tx, index, ty)
		if got, want := dot(ty, dy), dot(maximum, tx); !near(got, want) {
			t.Errorf("maximum tangent: <dy, ty> = %v, <dx, tx> = %v", got, want)
		}
	}
}

func TestMaxPoolTakesTheFirstOfTies(t *testing.T) {
	s := kernels.Pool{N: 1, H: 2, W: 2, C: 1, R: 2, S: 2, StrideH: 1, StrideW: 1, OH: 1, OW: 1}
	y, index := make([]float64, 1), make([]float64, 1)
	mustRun(t, kernels.MaxPoolForward, s, []float64{-2, -1, -1, -1}, y, index)
	if y[0] != -1 || index[0] != 1 {
		t.Errorf("maximum %v at %v, want -1 at 1", y[0], index[0])
	}
}

func TestSoftmaxXent(t *testing.T) {
	for _, smoothing := range []float64{0, 0.1} {
		for _, weight := range [][]float64{nil, {0.5, 2, 0}} {
			s := kernels.Softmax{N: 3, Classes: 4, Smoothing: smoothing}
			rng := stream(6)
			z, tz, label := normals(rng, 12), normals(rng, 12), []float64{3, 0, 2}
			loss, correct, prob, dz := make([]float64, 3), make([]float64, 3), make([]float64, 12), make([]float64, 12)
			run := func(z []float64) {
				t.Helper()
				mustRun(t, kernels.SoftmaxXent, s, z, label, weight, loss, correct, prob, dz)
			}
			want := difference(func(h float64) []float64 {
				run(moved(z, h, tz))
				return append([]float64(nil), dz...)
			})
			run(z)
			grad, tdz := append([]float64(nil), dz...), make([]float64, 12)
			mustRun(t, kernels.SoftmaxXentTangent, s, prob, weight, tz, tdz)
			same(t, "tdlogits", tdz, want)
			checkGradient(t, "dlogits", func() float64 {
				run(z)
				return loss[0] + loss[1] + loss[2]
			}, z, grad)
		}
	}
}

// By hand: logits 0 and log 3 have probabilities 1/4 and 3/4; huge logits do not overflow.
func TestSoftmaxByHand(t *testing.T) {
	s := kernels.Softmax{N: 2, Classes: 2, Smoothing: 0.5}
	loss, correct, prob := make([]float64, 2), make([]float64, 2), make([]float64, 4)
	mustRun(t, kernels.SoftmaxXent, s, []float64{0, math.Log(3), 5000, -5000}, []float64{0, 0}, nil, loss, correct, prob, nil)
	if want := -0.75*math.Log(0.25) - 0.25*math.Log(0.75); !near(loss[0], want) || !near(prob[1], 0.75) || correct[0] != 0 {
		t.Errorf("loss %v, probability %v, correct %v; want %v, 0.75, 0", loss[0], prob[1], correct[0], want)
	}
	if !near(loss[1], 2500) || correct[1] != 1 {
		t.Errorf("loss %v, correct %v; want 2500, 1", loss[1], correct[1])
	}
}

func TestReLUBackward(t *testing.T) {
	s := kernels.Vector{Count: 50}
	x, dy := normals(stream(8), 50), normals(stream(9), 50)
	for i, v := range x {
		x[i] = v + math.Copysign(1e-3, v) // away from the kink
	}
	y, dx := make([]float64, 50), make([]float64, 50)
	mustRun(t, kernels.ReLUForward, s, x, y)
	mustRun(t, kernels.ReLUBackward, s, y, dy, dx)
	checkGradient(t, "dx", func() float64 {
		mustRun(t, kernels.ReLUForward, s, x, y)
		return dot(y, dy)
	}, x, dx)
}

func TestVectorKernels(t *testing.T) {
	nan := math.NaN()
	y := []float64{nan, 3}
	mustRun(t, kernels.Axpby, kernels.Vector{Count: 1, A: 2}, []float64{5}, y)
	mustRun(t, kernels.Axpby, kernels.Vector{Count: 1, A: 2, B: 3}, []float64{5}, y[1:])
	if y[0] != 10 || y[1] != 19 {
		t.Errorf("axpby gave %v, want [10 19]", y)
	}
	x, out := []float64{3, -4}, make([]float64, 2)
	mustRun(t, kernels.Norm, kernels.Vector{Count: 2}, x, out)
	if out[0] != 5 {
		t.Errorf("norm gave %v, want 5", out[0])
	}
	mustRun(t, kernels.MinMax, kernels.Vector{Count: 2}, x, out)
	if out[0] != -4 || out[1] != 3 {
		t.Errorf("minmax gave %v, want [-4 3]", out)
	}
}

// By hand, for one parameter; the velocity starts at 1.
func TestSGDByHand(t *testing.T) {
	for _, c := range []struct{ nesterov, gain, w, v float64 }{
		{0, 1, 10 - 0.1*(0.9+2+1), 3.9}, {1, 1, 10 - 0.1*(3+0.9*3.9), 3.9}, {0, 2, 10 - 0.1*(0.9+2*(2+1)), 6.9},
	} {
		s := kernels.SGDShape{Count: 1, Nesterov: int32(c.nesterov), Momentum: 0.9, WeightDecay: 0.1}
		w, v := []float64{10}, []float64{1}
		mustRun(t, kernels.SGD, s, w, []float64{4}, v, []float64{0.1, 0.5, c.gain})
		if !near(w[0], c.w) || !near(v[0], c.v) {
			t.Errorf("nesterov %v, gain %v: w = %v, v = %v; want %v, %v", c.nesterov, c.gain, w[0], v[0], c.w, c.v)
		}
	}
}

func TestPGDStepByHand(t *testing.T) {
	s := kernels.PGD{Count: 5, Step: 0.3, Eps: 0.25}
	out := make([]float64, 5)
	mustRun(t, kernels.PGDStep, s, []float64{1, 1, 1.2, 1, 2}, []float64{1, 1, 1, 1, 2}, []float64{7, -7, 1e-30, 0, 1}, []float64{0.8, 2.1}, out)
	for i, want := range []float64{1.25, 0.8, 1.25, 1, 2.1} {
		if !near(out[i], want) {
			t.Errorf("out[%d] = %v, want %v", i, out[i], want)
		}
	}
}

func TestDropout(t *testing.T) {
	const n, per = 3, 4000
	x, y := make([]float64, n*per), make([]float64, n*per)
	for i := range x {
		x[i] = 1
	}
	s := kernels.DropoutShape{N: n, Per: per, Layer: 5, P: 0.25}
	mustRun(t, kernels.Dropout, s, x, []float64{7, 8, 7}, []float64{1, 2, 3, 4}, y)
	dropped := 0
	for i, v := range y {
		switch {
		case v == 0:
			dropped++
		case v != 1/0.75:
			t.Fatalf("y[%d] = %v", i, v)
		}
	}
	// Binomial: 5 standard deviations of 2/3 of the draws, for samples 0 and 2 are the same.
	if mean, sd := 0.25*n*per, math.Sqrt(2*per*0.25*0.75)*1.5; math.Abs(float64(dropped)-mean) > 5*sd {
		t.Errorf("%d of %d dropped", dropped, n*per)
	}
	for i := range per {
		if y[i] != y[2*per+i] {
			t.Fatal("the mask of a sample depends on its place")
		}
	}
	word := philox.Philox4x32([2]uint32{1, 2}, [4]uint32{1, 8, 3, 2<<24 | 5<<8 | 4})[2]
	if keep := philox.Uniform(word) >= 0.25; (y[per+6] != 0) != keep {
		t.Error("element 6 of sample 8 does not follow word 2 of block 1")
	}
}

func TestAugment(t *testing.T) {
	s := kernels.AugmentShape{N: 40, H: 5, W: 4, C: 2, Pad: 1, Flip: 1, Cutout: 3, Images: 40}
	image := 5 * 4 * 2
	images, labels, index := make([]byte, 40*image), make([]float64, 40), make([]float64, 40)
	for i := range images {
		images[i] = byte(1 + i%251)
	}
	for i := range labels {
		labels[i], index[i] = float64(i*i), float64(39-i)
	}
	x, label := make([]float64, len(images)), make([]float64, 40)
	normal := []float64{0.5, 0.25, 4, 8}
	if err := augment(s, images, labels, index, []float64{9, 8, 7, 6}, normal, x, label); err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		id := 39 - i
		w := philox.Philox4x32([2]uint32{9, 8}, [4]uint32{0, uint32(id), 7, 1<<24 | 6})
		cut := philox.Philox4x32([2]uint32{9, 8}, [4]uint32{1, uint32(id), 7, 1<<24 | 6})
		dy, dx := int(uint64(w[0])*3>>32), int(uint64(w[1])*3>>32)
		cy, cx := int(uint64(cut[0])*5>>32), int(uint64(cut[1])*4>>32)
		for row := range 5 {
			for col := range 4 {
				r, q := row+dy-1, col
				if w[2]>>31 == 1 {
					q = 3 - col
				}
				q += dx - 1
				for ch := range 2 {
					want := 0.0
					if row < cy-1 || row > cy+1 || col < cx-1 || col > cx+1 {
						if r >= 0 && r < 5 && q >= 0 && q < 4 {
							want = float64(images[id*image+(r*4+q)*2+ch]) / 255
						}
						want = (want - normal[ch]) * normal[2+ch]
					}
					if got := x[i*image+(row*4+col)*2+ch]; got != want {
						t.Fatalf("image %d row %d column %d channel %d: %v, want %v", id, row, col, ch, got, want)
					}
				}
			}
		}
		if label[i] != float64(id*id) {
			t.Errorf("label %v of image %d", label[i], id)
		}
	}
}

func TestPhiloxDistributions(t *testing.T) {
	draw := func(d kernels.Distribution) []float64 {
		out := make([]float64, 10)
		mustRun(t, kernels.Philox, kernels.PhiloxShape{Count: 10, Distribution: d, Key0: 1, Key1: 2, Ctr1: 3, Ctr2: 4, Ctr3: 5}, out)
		return out
	}
	bits, uniform, normal, signs := draw(kernels.Bits), draw(kernels.Uniform), draw(kernels.Normal), draw(kernels.Rademacher)
	for i, b := range bits {
		word := philox.Philox4x32([2]uint32{1, 2}, [4]uint32{uint32(i / 4), 3, 4, 5})[i%4]
		if b != float64(word) || uniform[i] != float64(word>>8)/(1<<24) || signs[i] != 1-2*float64(word>>31) {
			t.Errorf("element %d: bits %v, uniform %v, sign %v of word %x", i, b, uniform[i], signs[i], word)
		}
		u1, u2 := (math.Floor(bits[i&^1]/256)+0.5)/(1<<24), (math.Floor(bits[i|1]/256)+0.5)/(1<<24)
		want := math.Sqrt(-2*math.Log(u1)) * math.Cos(2*math.Pi*(u2-float64(i%2)/4)) // sin a = cos(a - pi/2)
		if !near(normal[i], want) {
			t.Errorf("normal %d = %v, want %v", i, normal[i], want)
		}
	}
}

func TestRefusals(t *testing.T) {
	one := []float64{1}
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"zero count":     {tryRun(kernels.Add, kernels.Vector{}, one, one, one), ErrBadShape},
		"other shape":    {tryRun(kernels.Add, kernels.Fold{Ghosts: 1, C: 1}, one, one, one), ErrBadShape},
		"missing":        {tryRun(kernels.Add, kernels.Vector{Count: 1}, one, nil, one), ErrBadArgument},
		"short":          {tryRun(kernels.Add, kernels.Vector{Count: 2}, one, one, one), ErrBadArgument},
		"argument count": {tryRun(kernels.Add, kernels.Vector{Count: 1}, one, one), ErrBadArgument},
		"label": {tryRun(kernels.SoftmaxXent, kernels.Softmax{N: 1, Classes: 1}, one, one, nil, one, one, one, nil),
			ErrBadArgument},
		"index": {tryRun(kernels.MaxPoolTangent, kernels.Pool{N: 1, H: 1, W: 1, C: 1, R: 1, S: 1, StrideH: 1, StrideW: 1, OH: 1, OW: 1},
			one, one, []float64{0}), ErrBadArgument},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: got error %v, want %v", name, c.err, c.want)
		}
	}
}

func TestMemoryRoundTrips(t *testing.T) {
	m, err := New().Alloc(4)
	if err != nil {
		t.Fatal(err)
	}
	m.WriteFloats(0, []float32{1.5})
	m.WriteInts(1, []int32{-7})
	m.(*Memory).WriteFloats64(2, []float64{0.1, 3e9})
	floats, ints, cells, doubles := make([]float32, 1), make([]int32, 1), make([]float64, 1), make([]float64, 1)
	m.ReadFloats(0, floats)
	m.ReadInts(1, ints)
	m.(*Memory).ReadFloats64(2, cells)
	m.ReadDoubles(2, doubles)
	if floats[0] != 1.5 || ints[0] != -7 || cells[0] != 0.1 || doubles[0] != 0.1 {
		t.Errorf("read %v, %v, %v, %v", floats, ints, cells, doubles)
	}
	if m.ReadInts(3, ints); uint32(ints[0]) != 3000000000 {
		t.Errorf("the word 3e9 was read as %d", uint32(ints[0]))
	}
}
