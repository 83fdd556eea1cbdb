package data

import (
	"broadside/engine/data/autoaugment"
	"broadside/engine/data/pixels"
)

// View says how an image is prepared for training: what is random about it is drawn by the rest of the view and by the
// sample. The zero View is the middle of the image.
type View struct {
	Crop    bool    // a random part, resized
	MinArea float64 // of the image, that the part has at least
	Flip    bool    // left to right, at random

	// What follows is done by a [Painter], not by sources.

	Pad    int                 // pixels that an image in memory is moved by at most, each way
	Policy *autoaugment.Policy // that edits the image then, or nil
	Cutout int                 // side of a square that is erased in the end

	Seed        uint64
	Epoch, Copy int
}

// draw keys the view's random numbers for a sample.
func (v View) draw(sample int) pixels.Draw {
	return pixels.Draw{Seed: v.Seed, Epoch: uint32(v.Epoch), Sample: uint32(sample), Copy: uint32(v.Copy)}
}

// Source decodes images that are kept in files. Several goroutines may use it.
type Source interface {
	// Decode fills dst, [H][W][C] bytes, with an image, cropped and flipped as a view says. The same view has the same bits, whoever asks for it and
	// when, with the same decoder.
	Decode(dst []byte, image int, v View) error
	// Decoder says in words what decodes.
	Decoder() string
	// Bad is how many images could not be decoded so far, and the first reason.
	Bad() (count int, reason string)
	// Subset is the source of some of the images.
	Subset(images []int32) Source
}

// Streamed reports whether the set's images are decoded when they are wanted: it has none in memory.
func (s *Set) Streamed() bool { return s.Source != nil && s.Images == nil }
