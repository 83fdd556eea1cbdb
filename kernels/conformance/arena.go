package conformance

import (
	"fmt"
	"math"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// guardCells lie in front of every argument and behind the last; guardValue is what they hold.
const (
	guardCells = 32
	guardValue = -777.25
)

// sharedBase is the memory of all cells, where they are not apart.
const sharedBase kernels.Base = 0

// An arena is a case laid out in a device's memory: guard, argument, guard, argument, ..., guard. All cells lie
// in one memory, images in another. Where apart is set, every argument has a memory of its own that ends with it.
type arena struct {
	dev       kernels.Device
	apart     bool
	layout    []ref.Arg
	refs      []kernels.Ref // of the arguments, then the workspace
	lengths   []int         // cells from each offset that belong to the argument
	bases     [kernels.MaxBases]kernels.Memory
	cells     [kernels.MaxBases]int // of each base
	used      kernels.Base          // bases in use
	callShape kernels.Shape
	kernel    kernels.Kernel
}

// An apartDevice is a device whose arenas are apart.
type apartDevice struct{ kernels.Device }

// newArena places and fills the arguments of a case, with NaN in `workspace` cells of scratch.
func (c *testCase) newArena(dev kernels.Device, workspace int) (*arena, error) {
	a := &arena{dev: dev, layout: c.layout, callShape: c.problem.shape, kernel: c.kernel}
	if d, ok := dev.(apartDevice); ok {
		a.dev, a.apart = d.Device, true
	} else {
		a.newBase(guardCells) // the shared one
	}
	for i, arg := range c.layout {
		switch {
		case arg.Kind == ref.Byte && c.images != nil:
			a.add(kernels.Ref{Base: a.newBase(0)}, 0)
		case c.values[i] == nil:
			a.add(kernels.None, 0)
		case c.problem.alias == arg.Name:
			a.add(a.refs[c.aliasOf], arg.Cells)
		default:
			a.place(arg, c.aligned)
		}
	}
	scratch := ref.Arg{Name: "workspace", Cells: workspace}
	if workspace > 0 {
		a.place(scratch, c.aligned)
	} else {
		a.add(kernels.None, 0)
	}
	return a, a.fill(c, garbage(scratch))
}

func (a *arena) add(at kernels.Ref, length int) {
	a.refs = append(a.refs, at)
	a.lengths = append(a.lengths, length)
}

// newBase returns a base that is not in use, with so many cells for now.
func (a *arena) newBase(cells int) kernels.Base {
	a.used++
	a.cells[a.used-1] = cells
	return a.used - 1
}

// place puts an argument behind a guard: at a multiple of 16 cells, or else at an offset that is none
// (even for a double, whose address must be a multiple of 8 bytes).
func (a *arena) place(arg ref.Arg, aligned bool) {
	base := sharedBase
	if a.apart {
		base = a.newBase(0)
	}
	offset := (a.cells[base] + 15) / 16 * 16
	if !aligned {
		offset += 1 + len(a.refs)%7
		if arg.Kind == ref.Double {
			offset += offset % 2
		}
	}
	a.add(kernels.Ref{Base: base, Offset: int64(offset)}, arg.Cells)
	a.cells[base] = offset + arg.Cells
	if !a.apart {
		a.cells[base] += guardCells
	}
}

// memoryOf returns the memory of argument i.
func (a *arena) memoryOf(i int) kernels.Memory { return a.bases[a.refs[i].Base] }

func (a *arena) fill(c *testCase, scratch []float64) error {
	for base, cells := range a.cells[:a.used] {
		var err error
		if cells == 0 {
			a.bases[base], err = a.dev.AllocBytes(c.images)
		} else {
			a.bases[base], err = a.dev.Alloc(cells)
		}
		if err != nil {
			a.free()
			return fmt.Errorf("allocating %d cells, or else %d bytes: %w", cells, len(c.images), err)
		}
		guards := make([]float32, cells)
		for i := range guards {
			guards[i] = guardValue
		}
		a.bases[base].WriteFloats(0, guards)
	}
	for i, arg := range c.layout {
		if c.values[i] == nil || arg.Name == c.problem.alias {
			continue
		}
		switch m, offset := a.memoryOf(i), int(a.refs[i].Offset); {
		case arg.Kind == ref.Int:
			m.WriteInts(offset, toInts(c.values[i]))
		case arg.Kind == ref.Double && arg.Role == ref.In:
			writeDoubles(m, offset, c.values[i])
		default:
			m.WriteFloats(offset, toFloats(c.values[i]))
		}
	}
	if len(scratch) > 0 {
		a.memoryOf(len(c.layout)).WriteFloats(int(a.refs[len(c.layout)].Offset), toFloats(scratch))
	}
	return nil
}

// writeDoubles writes doubles, each in the first of its two cells as the oracle has them.
func writeDoubles(m kernels.Memory, offset int, cells []float64) {
	if m, ok := m.(*ref.Memory); ok {
		m.WriteFloats64(offset, cells)
		return
	}
	ints := make([]int32, len(cells))
	for i := 0; i < len(cells); i += 2 {
		bits := math.Float64bits(cells[i])
		ints[i], ints[i+1] = int32(uint32(bits)), int32(bits>>32)
	}
	m.WriteInts(offset, ints)
}

func toFloats(v []float64) []float32 {
	out := make([]float32, len(v))
	for i := range v {
		out[i] = float32(v[i])
	}
	return out
}

func toInts(v []float64) []int32 {
	out := make([]int32, len(v))
	for i := range v {
		out[i] = int32(uint32(int64(v[i]))) // the bits of a uint32 too
	}
	return out
}

// run lays the case out on the device and runs it. The caller frees the arena.
func (c *testCase) run(dev kernels.Device) (*arena, error) {
	workspace, err := dev.Workspace(c.kernel, c.problem.shape)
	if err != nil {
		return nil, fmt.Errorf("workspace: %w", err)
	}
	a, err := c.newArena(dev, workspace)
	if err != nil {
		return nil, err
	}
	if err := a.call(); err != nil {
		a.free()
		return nil, err
	}
	return a, nil
}

// call prepares and runs the arena's call.
func (a *arena) call() error {
	pass, err := a.dev.Prepare([]kernels.Call{{Kernel: a.kernel, Shape: a.callShape, Args: a.refs}})
	if err != nil {
		return err
	}
	defer pass.Free()
	if err := pass.Run(&a.bases); err != nil {
		return err
	}
	return kernels.Sync(a.dev)
}

func (a *arena) free() {
	for _, m := range a.bases {
		if m != nil {
			m.Free()
		}
	}
}

// read returns the values of an argument: its cells, or the doubles in them.
func (a *arena) read(i int) []float64 {
	m, offset := a.memoryOf(i), int(a.refs[i].Offset)
	switch a.layout[i].Kind {
	case ref.Double:
		values := make([]float64, a.lengths[i]/2)
		m.ReadDoubles(offset, values)
		return values
	case ref.Int:
		ints := make([]int32, a.lengths[i])
		m.ReadInts(offset, ints)
		return widen(ints)
	}
	floats := make([]float32, a.lengths[i])
	m.ReadFloats(offset, floats)
	return widen(floats)
}

// readExact reads an argument of an arena of package ref in full precision; integers as int32.
func (a *arena) readExact(i int) []float64 {
	if a.layout[i].Kind != ref.Float {
		return a.read(i)
	}
	values := make([]float64, a.lengths[i])
	a.memoryOf(i).(*ref.Memory).ReadFloats64(int(a.refs[i].Offset), values)
	return values
}

func widen[T int32 | float32](v []T) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out
}

// guardsKept reports a changed cell outside all arguments and the workspace.
func (a *arena) guardsKept() error {
	for base, size := range a.cells[:a.used] {
		cells := make([]float32, size)
		a.bases[base].ReadFloats(0, cells)
		for i, at := range a.refs {
			if int(at.Base) != base || size == 0 {
				continue
			}
			for j := range a.lengths[i] {
				cells[int(at.Offset)+j] = guardValue
			}
		}
		for i, v := range cells {
			if v != guardValue {
				return fmt.Errorf("the kernel wrote outside its arguments: cell %d, %s", i, a.nearest(kernels.Base(base), i))
			}
		}
	}
	return nil
}

// nearest names the argument whose end lies closest in front of a cell.
func (a *arena) nearest(base kernels.Base, cell int) string {
	name, end := "before the first argument", 0
	for i, at := range a.refs {
		last := int(at.Offset) + a.lengths[i]
		if at.Base == base && last <= cell && last > end {
			label := "the workspace"
			if i < len(a.layout) {
				label = a.layout[i].Name
			}
			name, end = fmt.Sprintf("%d cells behind %s", cell-last+1, label), last
		}
	}
	return name
}
