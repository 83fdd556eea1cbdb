package clip

import (
	"math"
	"testing"

	"broadside/engine/optim"
)

func TestTransform(t *testing.T) {
	m, err := New(Options{MaxNorm: 5})
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Transform(); got != (optim.ClipNorm{Max: 5, Eps: 1e-6}) {
		t.Errorf("%+v", got)
	}
	for _, bad := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		if _, err := New(Options{MaxNorm: bad}); err == nil {
			t.Errorf("max_norm %v was accepted", bad)
		}
	}
}
