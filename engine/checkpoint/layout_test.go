package checkpoint

import (
	"reflect"
	"testing"
)

func TestToPyTorch(t *testing.T) {
	const k, r, s, c = 2, 3, 2, 4
	in := make([]float32, k*r*s*c)
	for i := range in {
		in[i] = float32(i)
	}
	out, err := ToPyTorch(in, k, r, s, c)
	if err != nil {
		t.Fatal(err)
	}
	for ki := range k {
		for ri := range r {
			for si := range s {
				for ci := range c {
					want := in[((ki*r+ri)*s+si)*c+ci]
					if got := out[((ki*c+ci)*r+ri)*s+si]; got != want {
						t.Fatalf("[%d][%d][%d][%d] is %g, want %g", ki, ci, ri, si, got, want)
					}
				}
			}
		}
	}
	back, err := FromPyTorch(out, k, r, s, c)
	if err != nil || !reflect.DeepEqual(back, in) {
		t.Errorf("there and back: %v, %v", back, err)
	}
}

func TestLayoutRefusesAWrongSize(t *testing.T) {
	if _, err := ToPyTorch(make([]float32, 5), 1, 2, 2, 2); err == nil {
		t.Error("ToPyTorch: no error")
	}
	if _, err := FromPyTorch(make([]float32, 4), -1, 2, 2, -1); err == nil {
		t.Error("FromPyTorch: no error")
	}
}
