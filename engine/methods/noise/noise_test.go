package noise

import (
	"math"
	"slices"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

func weigh(t *testing.T, batch int, o Options, d methods.Draw, samples []int32) []float32 {
	t.Helper()
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	f := methodtest.New(1)
	f.BatchSize = batch
	weights := make([]float32, len(samples))
	m.Weigh(f, d, samples, weights)
	return weights
}

// n draws have a mean within 5 sigma/sqrt(n) and a variance within 5 sigma^2 sqrt(2/n) of theirs, but for 1 in 10^6.
func TestMeanAndVariance(t *testing.T) {
	const n = 50000
	samples := make([]int32, n)
	for i := range samples {
		samples[i] = int32(i)
	}
	for batch, want := range map[int]float64{128: .5, 1024: 4} {
		var sum, square float64
		for _, w := range weigh(t, batch, Options{Variance: .5, BaseBatch: 128}, methods.Draw{Seed: 1}, samples) {
			sum += float64(w)
			square += (float64(w) - 1) * (float64(w) - 1)
		}
		if math.Abs(sum/n-1) > 5*math.Sqrt(want/n) || math.Abs(square/n-want) > 5*want*math.Sqrt(2./n) {
			t.Errorf("batch %d: mean %g, variance %g; want 1 and %g", batch, sum/n, square/n, want)
		}
	}
}

// A sample's factor depends on the draw and the sample, not on its place.
func TestFactorsBelongToSamples(t *testing.T) {
	o := Options{Variance: 1, BaseBatch: 128}
	d := methods.Draw{Seed: 1, Epoch: 2, Copy: 3}
	first := weigh(t, 128, o, d, []int32{4, 5, 6})
	if back := weigh(t, 128, o, d, []int32{6, 5, 4}); first[0] != back[2] || first[1] != back[1] || first[2] != back[0] {
		t.Errorf("%v, and reversed %v", first, back)
	}
	for _, other := range []methods.Draw{{Seed: 2, Epoch: 2, Copy: 3}, {Seed: 1, Epoch: 3, Copy: 3}, {Seed: 1, Epoch: 2, Copy: 2}} {
		if slices.Equal(first, weigh(t, 128, o, other, []int32{4, 5, 6})) {
			t.Errorf("%+v draws as %+v", other, d)
		}
	}
}

func TestRefusesBadOptions(t *testing.T) {
	for _, o := range []Options{{-1, 128}, {math.Inf(1), 128}, {math.NaN(), 128}, {1, 0}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
