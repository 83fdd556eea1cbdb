package engine

import (
	"fmt"

	"broadside/engine/graph"
)

// memoryNeed is what training is going to allocate in one memory, in bytes.
type memoryNeed struct {
	shared int64 // gradient sums, optimiser state, batch statistics
	device int64 // of each device, or with batch.sync_bn of each leaf: its samples and activations
}

func (n memoryNeed) total(seats int) int64 { return n.shared + int64(seats)*n.device }

// measured is a device that knows how much memory is left.
type measured interface {
	FreeMemory() (bytes int64, ok bool)
}

// need returns what training with a leaf size needs in each memory, for an update of so many samples.
func (f *fleet) need(leaf, ghost, batch, slots int) (memoryNeed, error) {
	l := graph.Leaf{Capacity: leaf, In: f.net.Input}
	options := graph.Options{N: leaf, Ghost: ghost, Sync: f.syncBN, Smoothing: f.smooth, Precision: f.precision, ParamGrads: true}
	p, err := graph.Compile(f.net, l, f.persistent.key(programKey{}).persistentOptions(options), f.homes[0])
	if err != nil {
		return memoryNeed{}, err
	}
	arena, statsCells, row := p.ArenaCells, p.StatsCells, syncRow(p)
	for _, a := range f.attacks {
		o := programKey{attack: a.Attack, train: a.TrainMode}.attackOptions(graph.Options{N: min(a.Samples, leaf), Ghost: min(ghost, a.Samples), Precision: f.precision})
		if p, err = graph.Compile(f.net, l, o, f.homes[0]); err != nil {
			return memoryNeed{}, err
		}
		arena = max(arena, p.ArenaCells)
	}
	const cell = 4
	staged := 0
	if f.train.streams() || f.test.streams() {
		staged = ceilDiv(leaf*f.train.set.ImageBytes(), cell) + leaf
	}
	params := int64(f.net.ParamCells()) * int64(f.lanes/f.ranks+slots)
	leaves := ceilDiv(batch, leaf)
	stats := int64(statsCells) * int64(leaves*f.views())
	if f.syncBN {
		stats = int64(statsCells) + int64(row)*int64(1+ceilDiv(leaves, f.ranks)*f.ranks)
	}
	return memoryNeed{shared: cell * (params + stats + f.pair.cells(f, leaf, leaves) + f.persistent.cells(f, leaf, leaves)), device: cell * int64(l.Cells()+arena+staged)}, nil
}

// checkMemory refuses training for which there is not enough memory, before anything of it is allocated, and says what
// leaf would fit. All processes agree.
func (f *fleet) checkMemory(batch, slots int) error {
	var err error
	for i := range f.homes {
		if err == nil {
			err = f.checkMemoryOf(i, batch, slots)
		}
	}
	return f.agree(err)
}

func (f *fleet) workersOf(home int) (n int) {
	for _, w := range f.workers {
		if w.home == home {
			n++
		}
	}
	return n
}

// seats is how many leaves a memory holds at a time: one of each device, or with batch.sync_bn all of an update.
func (f *fleet) seats(home, batch int) (n int) {
	if !f.syncBN {
		return f.workersOf(home)
	}
	for _, w := range f.workers {
		own := 0
		for i := range batch / f.leaf.Capacity {
			if f.owns(w, i) {
				own++
			}
		}
		if w.home == home {
			n += max(own, 1)
		}
	}
	return n
}

func (f *fleet) checkMemoryOf(number, batch, slots int) error {
	home := f.homes[number]
	m, ok := home.(measured)
	if !ok {
		return nil
	}
	free, ok := m.FreeMemory()
	if !ok {
		return nil
	}
	leaf, seats := f.leaf.Capacity, f.seats(number, batch)
	need, err := f.need(leaf, min(f.ghost, leaf), batch, slots)
	if err != nil || need.total(seats) <= free {
		return err
	}
	what, advice := "devices", f.advice
	if f.syncBN {
		what, advice = fmt.Sprintf("leaves of a batch of %d (batch.sync_bn)", batch), f.syncAdvice
	}
	return fmt.Errorf("%s: training needs %s, %s for each of %d %s and %s that they share, and %s are free: %s", home.Name(),
		gigabytes(need.total(seats)), gigabytes(need.device), seats, what, gigabytes(need.shared), gigabytes(free),
		advice(number, free, batch, slots))
}

// syncAdvice says which batch would fit into the free memory.
func (f *fleet) syncAdvice(home int, free int64, batch, slots int) string {
	leaf := f.leaf.Capacity
	for size := batch / leaf / 2 * leaf; size > 0; size = size / leaf / 2 * leaf {
		need, err := f.need(leaf, leaf, size, slots)
		if total := need.total(f.seats(home, size)); err == nil && total <= free {
			return fmt.Sprintf("a batch of %d would fit, with %s", size, gigabytes(total))
		}
	}
	return "no batch would fit"
}

// advice says how to make training fit into the free memory.
func (f *fleet) advice(home int, free int64, batch, slots int) string {
	for devices := f.workersOf(home); devices > 0; devices-- {
		for leaf := f.leaf.Capacity; leaf > 1 && leaf%2 == 0; {
			leaf /= 2
			if need, err := f.need(leaf, min(f.ghost, leaf), batch, slots); err == nil && need.total(devices) <= free {
				return fmt.Sprintf("batch.leaf %d would fit on %d devices, with %s", leaf, devices, gigabytes(need.total(devices)))
			}
		}
	}
	return "no batch.leaf would fit"
}

// gigabytes writes a number of bytes for people.
func gigabytes(bytes int64) string {
	if bytes < 1e8 {
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(bytes)/1e9)
}
