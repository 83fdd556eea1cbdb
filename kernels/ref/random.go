package ref

import (
	"fmt"

	"broadside/kernels"
	"broadside/kernels/philox"
)

// word32 reads a cell that holds a uint32, or an int32 of the same bits.
func word32(cell float64) uint32 { return uint32(int64(cell)) }

// A drawKey is the key argument of augment and dropout.
type drawKey struct {
	seed        [2]uint32
	epoch, copy uint32
}

func drawKeyOf(key []float64) drawKey {
	return drawKey{[2]uint32{word32(key[0]), word32(key[1])}, word32(key[2]), word32(key[3])}
}

func (k drawKey) block(block, sample, purpose, layer uint32) [4]uint32 {
	return philox.Philox4x32(k.seed, philox.Counter(block, sample, k.epoch, purpose, layer, k.copy))
}

// dropout zeroes elements with probability p and scales the others by 1/(1-p) (Srivastava et al. 2014).
func dropout(s kernels.DropoutShape, x, sample, key, y []float64) error {
	k := drawKeyOf(key)
	per := int(s.Per)
	for i := range int(s.N) {
		var words [4]uint32
		for e := range per {
			if e%4 == 0 {
				words = k.block(uint32(e/4), word32(sample[i]), philox.Dropout, uint32(s.Layer))
			}
			v := 0.0
			if philox.Uniform(words[e%4]) >= s.P {
				v = x[i*per+e] / (1 - s.P)
			}
			y[i*per+e] = v
		}
	}
	return nil
}

// forwardGradient projects each sample's gradient on a random direction of its own (Ren et al. 2023).
func forwardGradient(s kernels.DropoutShape, dy, sample, key, dx []float64) error {
	k, per := drawKeyOf(key), int(s.Per)
	u := make([]float64, per)
	for i := range int(s.N) {
		for e := range u {
			words := k.block(uint32(e/4), word32(sample[i]), philox.Direction, uint32(s.Layer))
			u[e] = 1 - 2*float64(words[e%4]>>31)
		}
		derivative := 0.0
		for e, v := range u {
			derivative += dy[i*per+e] * v
		}
		for e, v := range u {
			dx[i*per+e] = derivative * v
		}
	}
	return nil
}

// philoxFill fills out with random elements of one counter stream.
func philoxFill(s kernels.PhiloxShape, out []float64) error {
	var words [4]uint32
	for i := range int(s.Count) {
		if i%4 == 0 {
			words = philox.Philox4x32([2]uint32{s.Key0, s.Key1}, [4]uint32{uint32(i / 4), s.Ctr1, s.Ctr2, s.Ctr3})
		}
		word := words[i%4]
		switch s.Distribution {
		case kernels.Bits:
			out[i] = float64(word)
		case kernels.Uniform:
			out[i] = philox.Uniform(word)
		case kernels.Normal:
			z := [2]float64{}
			z[0], z[1] = philox.Normal2(words[i%4&^1], words[i%4|1])
			out[i] = z[i%2]
		case kernels.Rademacher:
			out[i] = 1
			if word>>31 == 1 {
				out[i] = -1
			}
		}
	}
	return nil
}

// augment gathers images and applies the random crop, flip and cutout (DeVries and Taylor 2017)
// that broadside.h describes; x = (byte/255 - mean) (1/std).
func augment(s kernels.AugmentShape, images []byte, labels, index, key, normal, x, label []float64) error {
	for i, id := range index[:s.N] {
		if id < 0 || id >= float64(s.Images) {
			return fmt.Errorf("index %v of sample %d, of %d images: %w", id, i, s.Images, ErrBadArgument)
		}
	}
	k := drawKeyOf(key)
	h, w, c := int(s.H), int(s.W), int(s.C)
	for i := range int(s.N) {
		id := int(index[i])
		label[i] = labels[id]
		view := viewOf(s, k, uint32(id))
		for row := range h {
			for col := range w {
				for ch := range c {
					v := 0.0
					if !view.cut(row, col) {
						pixel := 0.0
						if r, q := view.source(row, col, w); r >= 0 && r < h && q >= 0 && q < w {
							pixel = float64(images[((id*h+r)*w+q)*c+ch])
						}
						v = (pixel/255 - normal[ch]) * normal[c+ch]
					}
					x[((i*h+row)*w+col)*c+ch] = v
				}
			}
		}
	}
	return nil
}

// A view is how one image is cropped, flipped and cut out.
type view struct {
	rowShift, colShift              int
	flip                            bool
	cutTop, cutBottom, cutL, cutEnd int
}

func viewOf(s kernels.AugmentShape, k drawKey, sample uint32) view {
	words := k.block(0, sample, philox.Augment, 0)
	pad := int(s.Pad)
	v := view{rowShift: philox.Below(words[0], 2*pad+1) - pad, colShift: philox.Below(words[1], 2*pad+1) - pad,
		flip: s.Flip != 0 && words[2]>>31 == 1}
	if side := int(s.Cutout); side > 0 {
		words = k.block(1, sample, philox.Augment, 0)
		v.cutTop = philox.Below(words[0], int(s.H)) - side/2
		v.cutL = philox.Below(words[1], int(s.W)) - side/2
		v.cutBottom, v.cutEnd = v.cutTop+side, v.cutL+side
	}
	return v
}

// source returns the pixel that is shown at (row, col) of an image w wide; it may be outside.
func (v view) source(row, col, w int) (int, int) {
	if v.flip {
		col = w - 1 - col
	}
	return row + v.rowShift, col + v.colShift
}

// cut reports whether the cutout covers the pixel (row, col) of the result.
func (v view) cut(row, col int) bool {
	return row >= v.cutTop && row < v.cutBottom && col >= v.cutL && col < v.cutEnd
}
