// Package philox is Broadside's source of random numbers: the counter-based generator Philox4x32-10
// of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
//
// A draw is a pure function of (seed, purpose, epoch, sample, layer, copy) and of its place in the
// stream, so nothing depends on the number of devices, on timing or on the order of other draws. The
// kernels that draw (augment, dropout, philox) use the same key and counter; see broadside.h.
package philox

import (
	"math"
	"math/bits"
)

// The purposes of random numbers: streams of different purposes never meet.
const (
	Augment = 1 // crops, flips and cutouts of images
	Dropout = 2 // dropout masks
	Shuffle = 3 // the order of samples in an epoch
	Init    = 4 // initial parameters
	Probe   = 5 // probe vectors of curvature estimates
	Attack  = 6 // random starts of adversarial perturbations
	Weight  = 7 // weights of samples
	Select  = 8 // choice of samples
)

// The multipliers and Weyl increments of Philox4x32.
const (
	multiplier0, multiplier1 = 0xD2511F53, 0xCD9E8D57
	weyl0, weyl1             = 0x9E3779B9, 0xBB67AE85
)

// Philox4x32 returns the four words of one block: ten rounds of Philox4x32.
func Philox4x32(key [2]uint32, ctr [4]uint32) [4]uint32 {
	for range 10 {
		hi0, lo0 := bits.Mul32(multiplier0, ctr[0])
		hi1, lo1 := bits.Mul32(multiplier1, ctr[2])
		ctr = [4]uint32{hi1 ^ ctr[1] ^ key[0], lo1, hi0 ^ ctr[3] ^ key[1], lo0}
		key[0] += weyl0
		key[1] += weyl1
	}
	return ctr
}

// Key returns the key of a seed: its low word, then its high word.
func Key(seed uint64) [2]uint32 { return [2]uint32{uint32(seed), uint32(seed >> 32)} }

// Counter returns the counter of a block, as broadside.h lays it out. layer is below 1<<16 and copy
// below 1<<8.
func Counter(block, sample, epoch, purpose, layer, copy uint32) [4]uint32 {
	return [4]uint32{block, sample, epoch, purpose<<24 | layer<<8 | copy}
}

// Uniform returns the top 24 bits of the word as a number in [0, 1). A float32 holds it exactly.
func Uniform(word uint32) float64 { return float64(word>>8) * 0x1p-24 }

// Below returns a draw in [0, m) from one word: (word * m) >> 32. Its bias is at most m / 2^32; the
// augmentation kernel uses it because it must draw a fixed number of words.
func Below(word uint32, m int) int { return int(uint64(word) * uint64(m) >> 32) }

// Normal2 returns two independent standard normal numbers by the Box-Muller transform.
func Normal2(word0, word1 uint32) (z0, z1 float64) {
	u1 := (float64(word0>>8) + 0.5) * 0x1p-24
	u2 := (float64(word1>>8) + 0.5) * 0x1p-24
	radius := math.Sqrt(-2 * math.Log(u1))
	sin, cos := math.Sincos(2 * math.Pi * u2)
	return radius * cos, radius * sin
}
