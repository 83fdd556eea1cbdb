package engine

import (
	"fmt"

	"broadside/engine/graph"
	"broadside/kernels"
)

// memoryNeed is what training is going to allocate in one memory, in bytes.
type memoryNeed struct {
	shared int64 // gradient sums, optimiser state, batch statistics
	device int64 // of each device: a leaf and its activations
}

func (n memoryNeed) total(devices int) int64 { return n.shared + int64(devices)*n.device }

// measured is a device that knows how much memory is left.
type measured interface {
	FreeMemory() (bytes int64, ok bool)
}

// need returns what training with a leaf size needs in each memory, for an update of so many samples.
func (f *fleet) need(leaf, ghost, batch, slots int) (memoryNeed, error) {
	l := graph.Leaf{Capacity: leaf, In: f.net.Input}
	p, err := graph.Compile(f.net, l, f.persistent.key(programKey{}).persistentOptions(graph.Options{N: leaf, Ghost: ghost, Smoothing: f.smooth, Precision: f.precision, ParamGrads: true}), f.homes[0])
	if err != nil {
		return memoryNeed{}, err
	}
	arena, statsCells := p.ArenaCells, p.StatsCells
	for _, a := range f.attacks {
		o := programKey{attack: a.Attack, train: a.TrainMode}.attackOptions(graph.Options{N: min(a.Samples, leaf), Ghost: min(ghost, a.Samples), Precision: f.precision})
		if p, err = graph.Compile(f.net, l, o, f.homes[0]); err != nil {
			return memoryNeed{}, err
		}
		arena = max(arena, p.ArenaCells)
	}
	const cell = 4
	params := int64(f.net.ParamCells()) * int64(f.lanes/f.ranks+slots)
	leaves := ceilDiv(batch, leaf)
	stats := int64(statsCells) * int64(leaves*f.views())
	return memoryNeed{shared: cell * (params + stats + f.pair.cells(f, leaf, leaves) + f.persistent.cells(f, leaf, leaves)), device: cell * int64(l.Cells()+arena)}, nil
}

// checkMemory refuses training for which there is not enough memory, before anything of it is allocated, and says what
// leaf would fit. All processes agree.
func (f *fleet) checkMemory(batch, slots int) error {
	var err error
	for i, home := range f.homes {
		if err == nil {
			err = f.checkMemoryOf(home, f.workersOf(i), batch, slots)
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

func (f *fleet) checkMemoryOf(home kernels.Device, devices, batch, slots int) error {
	m, ok := home.(measured)
	if !ok {
		return nil
	}
	free, ok := m.FreeMemory()
	if !ok {
		return nil
	}
	leaf := f.leaf.Capacity
	need, err := f.need(leaf, min(f.ghost, leaf), batch, slots)
	if err != nil || need.total(devices) <= free {
		return err
	}
	return fmt.Errorf("%s: training needs %s, %s for each of %d devices and %s that they share, and %s are free: %s", home.Name(),
		gigabytes(need.total(devices)), gigabytes(need.device), devices, gigabytes(need.shared), gigabytes(free),
		f.advice(free, devices, batch, slots))
}

// advice says how to make training fit into the free memory.
func (f *fleet) advice(free int64, devices, batch, slots int) string {
	for ; devices > 0; devices-- {
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
