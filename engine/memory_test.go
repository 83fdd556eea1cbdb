package engine

import (
	"strings"
	"testing"

	"broadside/engine/data"
	"broadside/kernels"
)

// smallDevice is a device of which little memory is left.
type smallDevice struct {
	kernels.Device
	free int64
}

func (d smallDevice) FreeMemory() (int64, bool) { return d.free, d.free >= 0 }

func TestCheckMemory(t *testing.T) {
	pair := &data.Pair{Train: synthetic(256, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	f := startTrainer(t, parseRecipe(t, smallText, "batch.size=128", "batch.leaf=128", "batch.ghost=128"), pair, 2, &tape{}).fleet
	need, err := f.need(128, 128, 128, 1)
	if err != nil {
		t.Fatal(err)
	}
	half, err := f.need(32, 32, 128, 1)
	if err != nil {
		t.Fatal(err)
	}
	real := f.homes[0]
	defer func() { f.homes[0] = real }()
	for _, c := range []struct {
		free int64
		want string // "" for none
	}{
		{-1, ""}, // nobody knows
		{need.total(2), ""},
		{need.total(2) - 1, "batch.leaf 64 would fit on 2 devices, with "},
		{half.total(2), "batch.leaf 32 would fit on 2 devices, with " + gigabytes(half.total(2))},
		{need.shared / 2, "no batch.leaf would fit"},
	} {
		f.homes[0] = smallDevice{real, c.free}
		err := f.checkMemory(128, 1)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d bytes free: %v, want an error with %q", c.free, err, c.want)
		}
		if c.want != "" && !strings.Contains(err.Error(), real.Name()+": training needs "+gigabytes(need.total(2))) {
			t.Errorf("%d bytes free: %v", c.free, err)
		}
	}
}

// What is planned is what is allocated.
func TestMemoryNeed(t *testing.T) {
	for _, method := range []string{"", "methods: [conadv: {}]", "methods: [pgd: {}]", "methods: [free: {}]"} {
		t.Run(method, func(t *testing.T) { checkMemoryNeed(t, method) })
	}
}

func checkMemoryNeed(t *testing.T, method string) {
	pair := &data.Pair{Train: synthetic(256, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(t, parseRecipe(t, smallText+method, "batch.size=128"), pair, 1, &tape{})
	if err := tr.computeLeaves(); err != nil {
		t.Fatal(err)
	}
	f := tr.fleet
	need, err := f.need(32, 16, 128, len(tr.updater.slots))
	if err != nil {
		t.Fatal(err)
	}
	shared := 0
	for _, m := range append(append(append([]kernels.Memory(nil), f.sums...), tr.updater.slots...), f.stats.blocks...) {
		shared += 4 * m.Len()
	}
	if p := f.pair; p != nil {
		for _, m := range append(append([]kernels.Memory{p.before}, p.slots[0].rows...), p.slots[1].rows...) {
			shared += 4 * m.Len()
		}
	}
	if p := f.persistent; p != nil {
		for _, m := range p.deltas.blocks {
			shared += 4 * m.Len()
		}
	}
	w := f.workers[0]
	if device := 4 * (w.seats[0].leaf.Len() + w.seats[0].arena.Len()); need.shared != int64(shared) || need.device != int64(device) {
		t.Errorf("need %+v; %d and %d bytes were allocated", need, shared, device)
	}
}
