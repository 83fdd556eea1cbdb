package vrsgd

import "testing"

func TestOptions(t *testing.T) {
	for _, gamma := range []float64{-0.1, 1.1} {
		if _, err := New(Options{Gamma: gamma}); err == nil {
			t.Errorf("gamma %g was accepted", gamma)
		}
	}
	m, err := New(Options{Gamma: 0.1})
	if err != nil || m.LeastRatio() != 0.1 {
		t.Errorf("gamma 0.1: least ratio %g, %v", m.LeastRatio(), err)
	}
}
