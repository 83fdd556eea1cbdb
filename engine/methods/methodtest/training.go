// Package methodtest plays a training for the tests of methods.
package methodtest

import (
	"cmp"
	"fmt"
	"math"

	"broadside/engine/curvature"
	"broadside/engine/methods"
)

// Training is a training without a network. What it does not answer panics, unless a test embeds it and does.
type Training struct {
	methods.Training
	EpochsDone, EpochsWanted, UpdatesDone int
	SampleCount, LeafSize                 int
	BaseSize, BatchSize                   int
	Largest                               int // batch; 0: any
	Seen                                  int64
	LR                                    float64 // product of all changes
	Carry                                 methods.Carry
	Triggers                              []string  // of growth: epoch:trigger:size
	Eigenvalues                           []float64 // of each epoch; the last one repeats
	Probes                                int
}

// New returns a training of 50,000 samples in leaves of 128, at a batch of 128.
func New(epochs int) *Training {
	return &Training{EpochsWanted: epochs, SampleCount: 50000, LeafSize: 128, BaseSize: 128, BatchSize: 128, LR: 1}
}

// Epoch returns EpochsDone, Epochs EpochsWanted, Updates UpdatesDone.
func (f *Training) Epoch() int { return f.EpochsDone }

// Epochs returns EpochsWanted.
func (f *Training) Epochs() int { return f.EpochsWanted }

// Updates returns UpdatesDone.
func (f *Training) Updates() int { return f.UpdatesDone }

// Samples returns SampleCount.
func (f *Training) Samples() int { return f.SampleCount }

// SamplesSeen returns Seen.
func (f *Training) SamplesSeen() int64 { return f.Seen }

// Leaf returns LeafSize.
func (f *Training) Leaf() int { return f.LeafSize }

// Batch returns BatchSize.
func (f *Training) Batch() int { return f.BatchSize }

// BaseBatch returns BaseSize.
func (f *Training) BaseBatch() int { return f.BaseSize }

// Seed returns 1.
func (f *Training) Seed() uint64 { return 1 }

// LargestBatch returns Largest.
func (f *Training) LargestBatch() int { return cmp.Or(f.Largest, math.MaxInt) }

// ScaleLR multiplies LR.
func (f *Training) ScaleLR(factor float64, _ string) error {
	f.LR *= factor
	return nil
}

// SetBatch sets BatchSize and Carry and notes the trigger.
func (f *Training) SetBatch(size int, c methods.Carry, trigger string) error {
	f.BatchSize, f.Carry = size, c
	f.Triggers = append(f.Triggers, fmt.Sprintf("%d:%s:%d", f.EpochsDone, trigger, size))
	return nil
}

// TopEigenvalue counts the probe and returns the epoch's eigenvalue.
func (f *Training) TopEigenvalue(methods.Probe) (curvature.Eigenvalue, error) {
	f.Probes++
	return curvature.Eigenvalue{Value: f.Eigenvalues[min(f.EpochsDone, len(f.Eigenvalues))-1]}, nil
}
