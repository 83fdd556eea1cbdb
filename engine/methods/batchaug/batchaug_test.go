package batchaug

import "testing"

func TestCopies(t *testing.T) {
	for copies, ok := range map[int]bool{-1: false, 0: false, 1: true, 40: true, 256: true, 257: false} {
		m, err := New(Options{Copies: copies})
		if (err == nil) != ok || ok && m.Copies() != copies {
			t.Errorf("%d copies: %v", copies, err)
		}
	}
}
