package engine

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// calibrated returns the running statistics of the test network "mlp" after a calibration, and its trainer.
func calibrated(t *testing.T, devices []kernels.Device) (*trainer, []float32) {
	t.Helper()
	set := synthetic(5*16*8+3, 4, 1, 4) // more leaves than are kept at a time, and some samples
	r := parseRecipe(t, smallText, "model.name=mlp", "batch.leaf=16", "batch.ghost=8", "data.augment=none", "batch.lanes=4")
	tr := startTrainerOn(t, r, &data.Pair{Train: set, Test: set}, devices, Options{}, &tape{})
	tr.fleet.state.WriteFloats(0, slices.Repeat([]float32{7}, tr.fleet.net.StateCells()))
	if err := tr.fleet.recalibrate(augmentation{}, 11, 2); err != nil {
		t.Fatal(err)
	}
	return tr, read(tr.fleet.state)
}

// The running statistics are the means over ghosts of the means and unbiased variances of what the layer sees.
func TestRecalibration(t *testing.T) {
	tr, got := calibrated(t, []kernels.Device{ref.New()})
	f := tr.fleet
	cells, set := read(f.params), synthetic(5*16*8+3, 4, 1, 4)
	weight, bias := f.net.Params[0], f.net.Params[1]
	order, err := data.NewSampler(set.Len(), 8, 11)
	if err != nil {
		t.Fatal(err)
	}
	const channels, ghosts = 7, 5 * 16
	want, ghost := make([]float64, 2*channels), make([]int32, 8)
	for i := range ghosts {
		order.Leaf(2, i, ghost)
		for c := range channels {
			var z [8]float64
			mean := 0.0
			for k, sample := range ghost {
				z[k] = float64(cells[bias.Offset+c])
				for p := range 16 {
					z[k] += float64(cells[weight.Offset+16*c+p]) * float64(set.Images[int(sample)*16+p]) / 255
				}
				mean += z[k] / 8
			}
			want[c] += mean / ghosts
			for _, v := range z {
				want[channels+c] += (v - mean) * (v - mean) / 7 / ghosts
			}
		}
	}
	for i, v := range want {
		near(t, fmt.Sprint("statistic ", i), float64(got[f.net.Norms[0].Offset+i]), v, 1e-6*(1+math.Abs(v)))
	}
}

// Every rank has the same statistics, whatever the devices.
func TestRecalibrationOnManyDevices(t *testing.T) {
	_, want := calibrated(t, devicetest.Open(t, 1))
	for name, devices := range map[string][]kernels.Device{"3 devices": devicetest.Open(t, 3),
		"2 memories of 2 devices": devicetest.OpenApart(t, 2, 2), "4 memories": devicetest.OpenApart(t, 4, 1)} {
		tr, got := calibrated(t, devices)
		for rank := range tr.fleet.homes {
			if !slices.Equal(got, want) || !slices.Equal(read(part(tr.fleet.state, rank)), want) {
				t.Errorf("%s: other statistics", name)
			}
		}
	}
}
