package batchaug

import (
	"math"
	"slices"
	"testing"

	"broadside/engine/methods"
)

func TestCopies(t *testing.T) {
	for copies, ok := range map[int]bool{-1: false, 0: false, 1: true, 40: true, 256: true, 257: false} {
		m, err := New(Options{Copies: copies})
		if (err == nil) != ok || ok && m.(methods.Copier).Copies() != copies {
			t.Errorf("%d copies: %v", copies, err)
		}
	}
	if _, err := New(Options{Copies: 1, AdaptGradNorm: -1}); err == nil {
		t.Error("adapt_grad_norm -1 was accepted")
	}
}

// The factor is that of the last measurement, which the first update and every third after it have.
func TestAdapting(t *testing.T) {
	if m, err := New(Options{Copies: 2}); err != nil {
		t.Fatal(err)
	} else if _, ok := m.(methods.CopyScaler); ok {
		t.Error("without adapt_grad_norm the gradient is scaled")
	}
	m, err := New(Options{Copies: 2, AdaptGradNorm: 3})
	if err != nil {
		t.Fatal(err)
	}
	a := m.(*Adapting)
	var measured []int
	for update := 1; update <= 8; update++ {
		if a.MeasuresCopies(update) {
			measured = append(measured, update)
		}
	}
	if !slices.Equal(measured, []int{1, 4, 7}) {
		t.Errorf("updates %v are measured; want 1, 4, 7", measured)
	}
	for _, c := range []struct {
		each []float64
		all  float64
		want float64
	}{{[]float64{3, 5}, 2, 2}, {[]float64{0, 0}, 0, 2}, {[]float64{math.NaN(), 1}, 1, 2}, {[]float64{1, 1}, 1, 1}} {
		a.ReadCopies(c.each, c.all)
		if a.Factor() != c.want {
			t.Errorf("factor %v after %v and %v; want %v", a.Factor(), c.each, c.all, c.want)
		}
	}
}
