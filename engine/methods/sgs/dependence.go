package sgs

import (
	"math"
	"math/bits"
	"runtime"
	"sync"

	"broadside/engine/methods"
)

// dependence measures how much the pixels of a layer's input depend on their neighbours, by the joint histograms of the
// input and its shifts. All inputs are read twice: bound finds the ranges of the histograms, count fills them. Counts and
// ranges do not depend on the order of what is read.
type dependence struct {
	layer  methods.Layer
	drop   bool     // the diagonal, and pairs with a zero
	shifts [][2]int // by rows and columns: half of the kernel's places, the other half is theirs mirrored
	joint  []joint  // [channel][shift]
}

// joint is the joint histogram of pixels and those a shift away.
type joint struct {
	n         int64
	low, high [2]float32 // of the pixels, and of those a shift away
	bins      int
	counts    []int64 // [bins][bins]; nil until the ranges are known
}

func newDependence(l methods.Layer, drop bool) *dependence {
	d := &dependence{layer: l, drop: drop}
	for y := -(l.R / 2); y <= 0; y++ {
		for x := -(l.S / 2); x <= l.S/2 && (y < 0 || x < 0); x++ {
			d.shifts = append(d.shifts, [2]int{y, x})
		}
	}
	d.joint = make([]joint, l.C*len(d.shifts))
	return d
}

// bound takes inputs [samples][H][W][C] into the ranges of the histograms.
func (d *dependence) bound(x []float32) { d.each(x, (*joint).bound) }

// count takes the same inputs into the histograms.
func (d *dependence) count(x []float32) { d.each(x, (*joint).count) }

// each does something for all rows of every channel and shift. Channels are spread over the cores.
func (d *dependence) each(x []float32, do func(j *joint, row, shifted []float32, drop bool)) {
	l := d.layer
	h, w := l.H+2*l.PadH, l.W+2*l.PadW
	var all sync.WaitGroup
	cores := runtime.GOMAXPROCS(0)
	for core := range cores {
		all.Go(func() {
			plane := make([]float32, h*w) // of a channel, with its padding
			for c := core; c < l.C; c += cores {
				for sample := 0; sample < len(x); sample += l.H * l.W * l.C {
					d.take(plane, x[sample:], c)
					for i, s := range d.shifts {
						for row := max(0, -s[0]); row < h-max(0, s[0]); row++ {
							at, away := plane[row*w:(row+1)*w], plane[(row+s[0])*w:(row+s[0]+1)*w]
							do(&d.joint[c*len(d.shifts)+i], at[max(0, -s[1]):w-max(0, s[1])], away[max(0, s[1]):w-max(0, -s[1])], d.drop)
						}
					}
				}
			}
		})
	}
	all.Wait()
}

// take copies a sample's channel into the plane, whose border stays 0.
func (d *dependence) take(plane, x []float32, c int) {
	l := d.layer
	w := l.W + 2*l.PadW
	for row := range l.H {
		to := plane[(row+l.PadH)*w+l.PadW:][:l.W]
		for i := range to {
			to[i] = x[(row*l.W+i)*l.C+c]
		}
	}
}

func (j *joint) bound(row, shifted []float32, drop bool) {
	for i, x := range row {
		y := shifted[i]
		if drop && (x == 0 || y == 0) {
			continue
		}
		if j.n == 0 {
			j.low, j.high = [2]float32{x, y}, [2]float32{x, y}
		}
		j.n++
		j.low[0], j.high[0] = min(j.low[0], x), max(j.high[0], x)
		j.low[1], j.high[1] = min(j.low[1], y), max(j.high[1], y)
	}
}

func (j *joint) count(row, shifted []float32, drop bool) {
	if j.n == 0 {
		return
	}
	if j.counts == nil {
		j.bins = 1 + bits.Len64(uint64(j.n-1)) // 1 + ceil(log2 n)
		j.counts = make([]int64, j.bins*j.bins)
	}
	var low, scale [2]float64
	for k := range low {
		low[k] = float64(j.low[k])
		if span := float64(j.high[k]) - low[k]; span > 0 {
			scale[k] = float64(j.bins) / span
		}
	}
	for i, x := range row {
		y := shifted[i]
		if drop && (x == 0 || y == 0) {
			continue
		}
		a, b := j.bin((float64(x)-low[0])*scale[0]), j.bin((float64(y)-low[1])*scale[1])
		j.counts[a*j.bins+b]++
	}
}

// bin is that of a place in the range. The largest value is in the last bin, and so is what is not finite.
func (j *joint) bin(at float64) int {
	if at < float64(j.bins) {
		return int(at)
	}
	return j.bins - 1
}

// measure returns the normalised mutual information, NaN where there is no entropy to share.
func (j *joint) measure(drop bool) float64 {
	of, away := make([]int64, j.bins), make([]int64, j.bins)
	for a := range j.bins {
		if drop && j.n > 0 {
			j.counts[a*j.bins+a] = 0
		}
		for b := range j.bins {
			n := j.counts[a*j.bins+b]
			of[a] += n
			away[b] += n
		}
	}
	both := entropy(j.counts)
	return (entropy(of) + entropy(away) - both) / both
}

// entropy is that of a histogram, in bits.
func entropy(counts []int64) (h float64) {
	total := 0.0
	for _, n := range counts {
		total += float64(n)
	}
	for _, n := range counts {
		if n > 0 {
			p := float64(n) / total
			h -= p * math.Log2(p)
		}
	}
	return h
}

// scales returns the factors [R][S] of the kernel, unless the inputs tell nothing.
func (d *dependence) scales(k float64) ([]float32, bool) {
	places := d.layer.R * d.layer.S
	mean := make([]float64, places)
	mean[places/2] = 1
	sum := 1.0
	for i := range d.shifts { // the places before the middle, in their order
		total, channels := 0.0, 0.0
		for c := range d.layer.C {
			nmi := d.joint[c*len(d.shifts)+i].measure(d.drop)
			if math.IsNaN(nmi) && d.drop {
				nmi = 0
			}
			if !math.IsNaN(nmi) {
				total += k * nmi / ((k-1)*nmi + 1)
				channels++
			}
		}
		mean[i] = total / channels
		mean[places-1-i] = mean[i]
		sum += 2 * mean[i]
	}
	out := make([]float32, places)
	for i, v := range mean {
		out[i] = float32(v * float64(places) / sum)
		if f := float64(out[i]); math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, false
		}
	}
	return out, true
}
