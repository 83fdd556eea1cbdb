// Package autoaugment applies AutoAugment's learned policies to images of bytes (Cubuk, Zoph, Mane, Vasudevan, Le 2019,
// "AutoAugment: learning augmentation strategies from data", arXiv 1805.09501).
//
// A policy is 25 sub-policies. Of an image one is drawn, and each of its two operations is done with a probability of its
// own. Policies, magnitudes and pixels are those of torchvision's AutoAugment on Pillow's images: the nearest pixel is
// taken, and what comes from outside of the image is black.
package autoaugment

import (
	"math"

	"broadside/kernels/philox"
)

// Op is an operation on an image.
type Op uint8

// The operations. Those from ShearX to Sharpness take either sign.
const (
	ShearX Op = iota
	ShearY
	TranslateX
	TranslateY
	Rotate
	Brightness
	Color
	Contrast
	Sharpness
	Posterize
	Solarize
	AutoContrast
	Equalize
	Invert
)

// signed reports whether the operation has two directions, of which one is drawn.
func (o Op) signed() bool { return o <= Sharpness }

// step is an operation of a sub-policy.
type step struct {
	op          Op
	probability float64
	level       int // of the magnitude, from 0 to 9
}

// Policy is sub-policies to draw from.
type Policy struct{ subs [25][2]step }

// levels is how many magnitudes an operation has.
const levels = 10

// magnitude is what a level means for images of a size: a slope, pixels, degrees, a change of the factor 1, bits to keep,
// the least byte to invert.
func (o Op) magnitude(level, h, w int) float64 {
	const share = 150. / 331 // of a side, that an image is moved at most
	switch o {
	case ShearX, ShearY:
		return between(0, 0.3, level)
	case TranslateX:
		return between(0, share*float64(w), level)
	case TranslateY:
		return between(0, share*float64(h), level)
	case Rotate:
		return between(0, 30, level)
	case Brightness, Color, Contrast, Sharpness:
		return between(0, 0.9, level)
	case Posterize:
		return 8 - math.RoundToEven(float64(level)*4/(levels-1))
	case Solarize:
		return between(255, 0, level)
	}
	return 0
}

// between is a level of those evenly spaced from low to high, in single precision, counted from the nearer end and rounded
// once, as PyTorch does it.
func between(low, high float64, level int) float64 {
	a, b := float32(low), float32(high)
	step := (b - a) / (levels - 1)
	if level < levels/2 {
		return float64(float32(float64(a) + float64(float64(step)*float64(level))))
	}
	return float64(float32(float64(b) - float64(float64(step)*float64(levels-1-level))))
}

// Apply draws a sub-policy of a policy by random words, and does its operations to an image.
func (e *Editor) Apply(image []byte, p *Policy, words [4]uint32) {
	sub := &p.subs[philox.Below(words[0], len(p.subs))]
	for i, s := range sub {
		if philox.Uniform(words[1+i]) < s.probability {
			e.do(image, s, words[3]>>(31-i)&1 == 1)
		}
	}
}

// do does a step, in the direction of less or of more.
func (e *Editor) do(image []byte, s step, less bool) {
	m := s.op.magnitude(s.level, e.h, e.w)
	if less && s.op.signed() {
		m = -m
	}
	e.edit(image, s.op, m)
}
