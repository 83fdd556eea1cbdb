package pixels

import (
	"math"
	"slices"
)

// box is the part of a raster that is resized, in pixels and parts of them.
type box struct{ left, top, right, bottom float64 }

// resizer resizes rasters with an antialiased triangle filter, as Pillow does: first along rows, then along columns, with
// bytes in between, and weights in fixed point, so that the result has the same bits everywhere. (Pillow 13 takes the
// columns of some images first, which changes some pixels by one level.)
type resizer struct {
	across, down taps
	rows         []byte // resized along rows
}

// weightBits are the bits behind the point of a weight: a sum of products with bytes fits into 32 bits.
const weightBits = 22

// taps are which pixels make up each pixel of a result, and with what weights.
type taps struct {
	first, count []int // of the pixels, for each result
	most         int
	weights      []int32 // most for each result
	exact        []float64
}

// plan finds the taps of n results from the given one on, of `out` that the pixels from low to high are resized to.
// Weights outside of these pixels are left out.
func (t *taps) plan(low, high float64, out, from, n int) {
	scale := (high - low) / float64(out)
	reach := max(scale, 1)
	begin, end := int(math.Floor(low)), int(math.Ceil(high))
	t.most = 2*int(math.Ceil(reach)) + 1
	t.first, t.count = grow(t.first, n), grow(t.count, n)
	t.weights, t.exact = grow(t.weights, n*t.most), grow(t.exact, t.most)
	for i := range n {
		center := low + float64((float64(from+i)+0.5)*scale)
		first := max(int(center-reach+0.5), begin)
		count := min(int(center+reach+0.5), end) - first
		sum := 0.
		for k := range count {
			t.exact[k] = max(0, 1-math.Abs(float64((float64(first+k)-center+0.5)/reach)))
			sum += t.exact[k]
		}
		t.first[i], t.count[i] = first, count
		for k := range count {
			t.weights[i*t.most+k] = int32(math.Floor(0.5 + t.exact[k]/sum*(1<<weightBits)))
		}
	}
}

// grow returns a slice of n elements, of the same memory if it has room.
func grow[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }

// run resizes a box of a raster and fills dst with the square of the window.
func (r *resizer) run(dst []byte, size int, from *raster, w Window, b box) {
	r.across.plan(b.left, b.right, w.OutW, w.Left, size)
	r.down.plan(b.top, b.bottom, w.OutH, w.Top, size)
	first := r.down.first[0]
	end := first
	for i := range size {
		first, end = min(first, r.down.first[i]), max(end, r.down.first[i]+r.down.count[i])
	}
	r.rows = grow(r.rows, 3*size*(end-first))
	for y := first; y < end; y++ {
		r.across.alongRow(r.rows[3*size*(y-first):][:3*size], from.pixels[3*from.w*y:][:3*from.w])
	}
	for y := range size {
		r.down.alongColumns(dst[3*size*y:][:3*size], r.rows[3*size*(r.down.first[y]-first):], y)
	}
	if w.Mirror {
		mirror(dst, size)
	}
}

// alongRow resizes a row of pixels.
func (t *taps) alongRow(dst, src []byte) {
	for i := range len(dst) / 3 {
		red, green, blue := int32(1<<(weightBits-1)), int32(1<<(weightBits-1)), int32(1<<(weightBits-1))
		pixels := src[3*t.first[i]:]
		for k, weight := range t.weights[i*t.most:][:t.count[i]] {
			p := pixels[3*k : 3*k+3 : 3*k+3]
			red += weight * int32(p[0])
			green += weight * int32(p[1])
			blue += weight * int32(p[2])
		}
		dst[3*i], dst[3*i+1], dst[3*i+2] = clip(red), clip(green), clip(blue)
	}
}

// alongColumns makes row i of the result, of rows that begin with its first.
func (t *taps) alongColumns(dst, rows []byte, i int) {
	weights := t.weights[i*t.most:][:t.count[i]]
	for x := range dst {
		sum := int32(1 << (weightBits - 1))
		at := x
		for _, weight := range weights {
			sum += weight * int32(rows[at])
			at += len(dst)
		}
		dst[x] = clip(sum)
	}
}

// clip rounds a sum to a byte.
func clip(sum int32) byte { return byte(min(max(sum>>weightBits, 0), 255)) }

// mirror turns a square of pixels left to right.
func mirror(pixels []byte, size int) {
	for y := range size {
		row := pixels[3*size*y : 3*size*(y+1)]
		for i, j := 0, len(row)-3; i < j; i, j = i+3, j-3 {
			row[i], row[j] = row[j], row[i]
			row[i+1], row[j+1] = row[j+1], row[i+1]
			row[i+2], row[j+2] = row[j+2], row[i+2]
		}
	}
}
