package agc

import (
	"math"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/kernels"
)

// A convolution is clipped by rows of its fan-in, a vector as a whole, the final linear layer only if asked.
func TestUnits(t *testing.T) {
	params := []graph.Param{
		{Name: "conv.weight", Role: graph.Weight, K: 8, R: 3, S: 3, C: 4},
		{Name: "bn.weight", Role: graph.Gamma, K: 8, R: 1, S: 1, C: 1, Offset: 288},
		{Name: "fc.weight", Role: graph.Weight, Linear: true, K: 10, R: 1, S: 1, C: 8, Offset: 304},
		{Name: "fc.bias", Role: graph.Bias, K: 10, R: 1, S: 1, C: 1, Offset: 384},
	}
	want := []kernels.AGCShape{{Units: 8, Fan: 36}, {Units: 1, Fan: 8}, {Units: 10, Fan: 8}, {Units: 1, Fan: 10}}
	info, _ := methods.Lookup("agc")
	for _, head := range []bool{false, true} {
		o := *info.Options().(*Options)
		o.Head = head
		m, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		calls := m.Transform().Calls(params, nil)
		n := 2
		if head {
			n = 4
		}
		if len(calls) != n {
			t.Fatalf("head %t: %d calls, want %d", head, len(calls), n)
		}
		for i, c := range calls {
			want[i].Lambda, want[i].Floor = 0.01, 1e-3
			if c.Shape != want[i] {
				t.Errorf("%s: %+v, want %+v", params[i].Name, c.Shape, want[i])
			}
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{Lambda: 0}, {Lambda: 1, Floor: -1}, {Lambda: math.NaN()}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
