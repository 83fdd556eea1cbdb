package engine

import (
	"fmt"
	"slices"
	"testing"

	cgocpu "broadside/cgo/cpu"
	"broadside/engine/data"
	"broadside/kernels"
)

// countingDevice notes how many threads it was given.
type countingDevice struct {
	kernels.Device
	threads int
}

func (d *countingDevice) SetThreads(n int) error { d.threads = n; return nil }

func TestIdleDevicesLendTheirCores(t *testing.T) {
	for _, v := range []struct {
		devices, first, leaves int
		want                   []int
	}{
		{1, 0, 1, []int{1}},
		{3, 0, 1, []int{3, 1, 1}},
		{5, 0, 2, []int{3, 2, 1, 1, 1}},
		{4, 0, 3, []int{2, 1, 1, 1}},
		{4, 0, 4, []int{1, 1, 1, 1}},
		{2, 0, 7, []int{1, 1}},
		{4, 3, 2, []int{2, 1, 1, 2}}, // the rest of an update: leaves 3 and 4
	} {
		f := &fleet{lanes: 8, ranks: 1}
		for i := range v.devices {
			f.workers = append(f.workers, &worker{fleet: f, place: i, peers: v.devices, dev: &countingDevice{}})
		}
		if err := f.spread(&leaves{first: v.first, results: results{loss: make([]float64, v.leaves)}}); err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, w := range f.workers {
			got = append(got, w.dev.(*countingDevice).threads)
		}
		if !slices.Equal(got, v.want) {
			t.Errorf("%+v: threads %v", v, got)
		}
	}
}

// A step of one leaf has the same bits on one device and on several, whose cores share the leaf's kernels.
func TestOneLeafOnManyDevicesHasTheSameBits(t *testing.T) {
	pair := &data.Pair{Train: synthetic(6*32, 16, 3, 4), Test: synthetic(20, 16, 3, 4)}
	train := func(devices int) []float32 {
		r := parseRecipe(t, smallText, "batch.size=32", "batch.leaf=32", "batch.ghost=32", "data.augment=[]")
		tr := startTrainer(t, r, pair, devices, &tape{})
		for step := range 6 {
			if err := tr.computeLeaves(); err != nil {
				t.Fatal(err)
			}
			if err := tr.update(); err != nil {
				t.Fatal(err)
			}
			if threads := tr.fleet.dev.(*cgocpu.Device).Threads(); threads != devices {
				t.Fatalf("step %d on %d devices: the first has %d threads", step, devices, threads)
			}
		}
		e, err := tr.fleet.evaluate(tr.fleet.test)
		if err != nil {
			t.Fatal(err)
		}
		return append(read(tr.fleet.params), float32(e.Loss))
	}
	want := train(1)
	for _, devices := range []int{2, 4} {
		if err := sameFloats(train(devices), want); err != nil {
			t.Errorf("%d devices: %v", devices, err)
		}
	}
}

func sameFloats(got, want []float32) error {
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("number %d is %g, want %g", i, got[i], want[i])
		}
	}
	return nil
}
