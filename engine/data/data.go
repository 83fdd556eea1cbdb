// Package data holds image sets and deals out the order in which training visits them.
//
// A set stays in memory as the bytes of its files, in NHWC order; augmentation and normalisation
// happen in the kernels, so nothing is decoded per step. Sets of JPEG and PNG files are decoded when they are
// loaded or, where each epoch crops them anew, while training goes on. [Open] loads a set by name, [Sampler]
// shuffles it.
package data

import "fmt"

// Set is a labelled image set. It is read-only once loaded and may be shared.
type Set struct {
	Name       string   // what it is, as in "cifar10 train"
	Images     []byte   // [Len][H][W][C], 0 to 255; nil: Source has them
	Labels     []int32  // [Len], each in [0, Classes)
	H, W, C    int      // pixels, pixels, channels
	Classes    int      // number of classes
	ClassNames []string // [Classes], or nil
	Source     Source   // of images in files, or nil
	Mapped     bool     // Images is a mapped file, which lasts as long as the process and has bytes behind it
	Mean, Std  []float32
	// Mean and Std are [C], of pixels scaled to [0, 1]: the constants the literature normalises with.
}

// Pair is a training set and the test set that goes with it. Both have the same image shape and classes.
type Pair struct {
	Train, Test *Set
}

// Len returns the number of images.
func (s *Set) Len() int { return len(s.Labels) }

// ImageBytes returns the size of one image in bytes.
func (s *Set) ImageBytes() int { return s.H * s.W * s.C }

// Image returns image i as [H][W][C] bytes. It shares the set's memory.
func (s *Set) Image(i int) []byte {
	n := s.ImageBytes()
	return s.Images[i*n : (i+1)*n : (i+1)*n]
}

// Check reports the first way in which the set contradicts itself: an empty or odd shape, images and
// labels that differ in number, a label out of range.
func (s *Set) Check() error {
	if s.H <= 0 || s.W <= 0 || s.C <= 0 || s.Classes <= 0 {
		return fmt.Errorf("%s: shape %dx%dx%d with %d classes: all must be positive", s.Name, s.H, s.W, s.C, s.Classes)
	}
	if s.Len() == 0 {
		return fmt.Errorf("%s: the set has no images", s.Name)
	}
	if want := s.Len() * s.ImageBytes(); len(s.Images) != want && !s.Streamed() {
		return fmt.Errorf("%s: %d image bytes for %d labels of %dx%dx%d; want %d bytes",
			s.Name, len(s.Images), s.Len(), s.H, s.W, s.C, want)
	}
	if len(s.Mean) != s.C || len(s.Std) != s.C {
		return fmt.Errorf("%s: %d means and %d standard deviations for %d channels", s.Name, len(s.Mean), len(s.Std), s.C)
	}
	if s.ClassNames != nil && len(s.ClassNames) != s.Classes {
		return fmt.Errorf("%s: %d class names for %d classes", s.Name, len(s.ClassNames), s.Classes)
	}
	for c, std := range s.Std {
		if !(std > 0) {
			return fmt.Errorf("%s: standard deviation %g of channel %d is not positive", s.Name, std, c)
		}
	}
	for i, y := range s.Labels {
		if y < 0 || int(y) >= s.Classes {
			return fmt.Errorf("%s: label %d of image %d is outside 0 to %d", s.Name, y, i, s.Classes-1)
		}
	}
	return nil
}

// Check checks both sets and that they fit each other.
func (p *Pair) Check() error {
	if err := p.Train.Check(); err != nil {
		return err
	}
	if err := p.Test.Check(); err != nil {
		return err
	}
	a, b := p.Train, p.Test
	if a.H != b.H || a.W != b.W || a.C != b.C {
		return fmt.Errorf("%s has images of %dx%dx%d but %s of %dx%dx%d: they must agree",
			a.Name, a.H, a.W, a.C, b.Name, b.H, b.W, b.C)
	}
	if a.Classes != b.Classes {
		return fmt.Errorf("%s has %d classes but %s has %d: they must agree", a.Name, a.Classes, b.Name, b.Classes)
	}
	return nil
}
