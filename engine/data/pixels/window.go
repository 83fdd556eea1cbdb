package pixels

import (
	"math"

	"broadside/engine/internal/portable"
	"broadside/kernels/philox"
)

// Window says what of an image becomes a sample: a part of it is resized, and a square cut out of that.
type Window struct {
	X, Y, W, H int  // the part
	OutW, OutH int  // what it is resized to
	Left, Top  int  // where in that the square begins
	Mirror     bool // the square is turned left to right
}

// shrink is how much smaller a JPEG may be decoded: by the largest of 8, 4, 2 and 1 that leaves at least twice the pixels
// that the window is resized to, so that resizing still smooths it.
func (w Window) shrink() int {
	for s := 8; s > 1; s /= 2 {
		if w.W >= 2*s*w.OutW && w.H >= 2*s*w.OutH {
			return s
		}
	}
	return 1
}

// Middle resizes the shorter side of a w x h image to `shorter` and takes the middle of size x size, as torchvision's
// Resize and CenterCrop do. size is at most shorter.
func Middle(w, h, shorter, size int) Window {
	out := Window{W: w, H: h, OutW: shorter, OutH: shorter}
	if w <= h {
		out.OutH = int(float64(shorter) * float64(h) / float64(w))
	} else {
		out.OutW = int(float64(shorter) * float64(w) / float64(h))
	}
	out.Left = int(math.RoundToEven(float64(out.OutW-size) / 2))
	out.Top = int(math.RoundToEven(float64(out.OutH-size) / 2))
	return out
}

// Draw keys what is random about a view of a sample.
type Draw struct {
	Seed                uint64
	Epoch, Sample, Copy uint32
}

// words are the random numbers of a block. Layer 0 of the purpose is that of the augmentation kernel, whose flips, shifts
// and cuts these are; crops and AutoAugment's choices have layers of their own.
func (d Draw) words(block, layer uint32) [4]uint32 {
	return philox.Philox4x32(philox.Key(d.Seed), philox.Counter(block, d.Sample, d.Epoch, philox.Augment, layer, d.Copy))
}

// The layers of random numbers that no kernel draws.
const (
	cropLayer   = 1
	policyLayer = 2
)

// Mirrored decides whether a sample is flipped.
func (d Draw) Mirrored() bool { return d.words(0, 0)[2]>>31 == 1 }

// Shift says by how many pixels a sample is moved up and to the left, at most pad either way.
func (d Draw) Shift(pad int) (up, left int) {
	r := d.words(0, 0)
	return philox.Below(r[0], 2*pad+1) - pad, philox.Below(r[1], 2*pad+1) - pad
}

// Cut is the first row and column of the square of a sample of h x w that is erased; a part of it may lie outside.
func (d Draw) Cut(h, w, side int) (row, column int) {
	r := d.words(1, 0)
	return philox.Below(r[0], h) - side/2, philox.Below(r[1], w) - side/2
}

// Policy are the words by which an AutoAugment policy edits a sample.
func (d Draw) Policy() [4]uint32 { return d.words(0, policyLayer) }

// The shapes that a random crop may have, and how often one is tried.
const (
	minRatio, maxRatio = 3. / 4, 4. / 3
	cropTries          = 10
)

// RandomCrop draws a part of a w x h image, of at least a share of its area and of a ratio from 3/4 to 4/3, and resizes it
// to size x size: torchvision's RandomResizedCrop. Where no draw fits, it takes the middle.
func RandomCrop(w, h, size int, minArea float64, d Draw) Window {
	return randomCrop(w, h, size, minArea, func(try uint32) [4]uint32 { return d.words(try, cropLayer) })
}

func randomCrop(w, h, size int, minArea float64, words func(try uint32) [4]uint32) Window {
	out := Window{OutW: size, OutH: size}
	area := float64(w) * float64(h)
	for try := range uint32(cropTries) {
		r := words(try)
		target := area * between(minArea, 1, r[0])
		ratio := portable.Exp(between(math.Log(minRatio), math.Log(maxRatio), r[1]))
		out.W = int(math.RoundToEven(math.Sqrt(target * ratio)))
		out.H = int(math.RoundToEven(math.Sqrt(target / ratio)))
		if out.W > 0 && out.W <= w && out.H > 0 && out.H <= h {
			out.Y, out.X = philox.Below(r[2], h-out.H+1), philox.Below(r[3], w-out.W+1)
			return out
		}
	}
	out.W, out.H = w, h
	switch ratio := float64(w) / float64(h); {
	case ratio < minRatio:
		out.H = max(1, int(math.RoundToEven(float64(w)/minRatio)))
	case ratio > maxRatio:
		out.W = max(1, int(math.RoundToEven(float64(h)*maxRatio)))
	}
	out.X, out.Y = (w-out.W)/2, (h-out.H)/2
	return out
}

// between returns a uniform draw.
func between(low, high float64, word uint32) float64 {
	return low + float64((high-low)*philox.Uniform(word))
}
