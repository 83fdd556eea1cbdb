package data

import (
	"fmt"
	"math"
)

// InMemory returns an error unless all images of the set are in memory.
func (s *Set) InMemory() error {
	if want := s.Len() * s.ImageBytes(); len(s.Images) != want {
		return fmt.Errorf("%s has %d bytes of %d images in memory, where all %d are needed", s.Name, len(s.Images), s.Len(), want)
	}
	return nil
}

// InMemory returns an error unless all images of both sets are in memory.
func (p *Pair) InMemory() error {
	if err := p.Train.InMemory(); err != nil {
		return err
	}
	return p.Test.InMemory()
}

// ClassCounts returns how many images every class has.
func (s *Set) ClassCounts() []int {
	counts := make([]int, s.Classes)
	for _, y := range s.Labels {
		counts[y]++
	}
	return counts
}

// Moments returns, of a set that is in memory, the mean and the standard deviation of each channel over all pixels, which are scaled to [0, 1]. They are
// taken from exact counts, so they do not depend on an order of summation.
func (s *Set) Moments() (mean, std []float64) {
	mean, std = make([]float64, s.C), make([]float64, s.C)
	counts := make([][256]uint64, s.C)
	for i := 0; i < len(s.Images); i += s.C {
		for c, v := range s.Images[i : i+s.C] {
			counts[c][v]++
		}
	}
	pixels := float64(len(s.Images) / s.C)
	for c := range counts {
		var sum, squares uint64
		for v, n := range counts[c] {
			sum += uint64(v) * n
			squares += uint64(v) * uint64(v) * n
		}
		m := float64(sum) / pixels
		mean[c] = m / 255
		std[c] = math.Sqrt(max(float64(squares)/pixels-m*m, 0)) / 255
	}
	return mean, std
}
