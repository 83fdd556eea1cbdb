package conformance

import (
	"fmt"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// guardCells lie in front of every argument and behind the last; guardValue is what they hold.
const (
	guardCells = 32
	guardValue = -777.25
)

// The bases of a call: all cells in one memory, images in another.
const (
	cellBase kernels.Base = iota
	imageBase
)

// An arena is a case laid out in a device's memory: guard, argument, guard, argument, ..., guard.
type arena struct {
	dev       kernels.Device
	layout    []ref.Arg
	refs      []kernels.Ref // of the arguments, then the workspace
	lengths   []int         // cells from each offset that belong to the argument
	bases     [kernels.MaxBases]kernels.Memory
	cells     int
	callShape kernels.Shape
	kernel    kernels.Kernel
}

// newArena places and fills the arguments of a case, with NaN in `workspace` cells of scratch.
func (c *testCase) newArena(dev kernels.Device, workspace int) (*arena, error) {
	a := &arena{dev: dev, layout: c.layout, callShape: c.problem.shape, kernel: c.kernel, cells: guardCells}
	for i, arg := range c.layout {
		switch {
		case arg.Kind == ref.Byte && c.images != nil:
			a.add(kernels.Ref{Base: imageBase}, 0)
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

// place puts an argument behind a guard: at a multiple of 16 cells, or else at an offset that is none
// (even for a double, whose address must be a multiple of 8 bytes).
func (a *arena) place(arg ref.Arg, aligned bool) {
	offset := (a.cells + 15) / 16 * 16
	if !aligned {
		offset += 1 + len(a.refs)%7
		if arg.Kind == ref.Double {
			offset += offset % 2
		}
	}
	a.add(kernels.Ref{Base: cellBase, Offset: int64(offset)}, arg.Cells)
	a.cells = offset + arg.Cells + guardCells
}

func (a *arena) fill(c *testCase, scratch []float64) error {
	m, err := a.dev.Alloc(a.cells)
	if err != nil {
		return fmt.Errorf("allocating %d cells: %w", a.cells, err)
	}
	a.bases[cellBase] = m
	guards := make([]float32, a.cells)
	for i := range guards {
		guards[i] = guardValue
	}
	m.WriteFloats(0, guards)
	for i, arg := range c.layout {
		if c.values[i] == nil || arg.Name == c.problem.alias {
			continue
		}
		if arg.Kind == ref.Int {
			m.WriteInts(int(a.refs[i].Offset), toInts(c.values[i]))
		} else {
			m.WriteFloats(int(a.refs[i].Offset), toFloats(c.values[i]))
		}
	}
	if len(scratch) > 0 {
		m.WriteFloats(int(a.refs[len(c.layout)].Offset), toFloats(scratch))
	}
	if c.images != nil {
		if a.bases[imageBase], err = a.dev.AllocBytes(c.images); err != nil {
			a.free()
			return fmt.Errorf("allocating %d bytes: %w", len(c.images), err)
		}
	}
	return nil
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

// read returns the cells of an argument; a double is one value.
func (a *arena) read(i int) []float64 {
	m, offset := a.bases[cellBase], int(a.refs[i].Offset)
	switch a.layout[i].Kind {
	case ref.Double:
		return []float64{m.ReadDouble(offset)}
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
	a.bases[cellBase].(*ref.Memory).ReadFloats64(int(a.refs[i].Offset), values)
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
	cells := make([]float32, a.cells)
	a.bases[cellBase].ReadFloats(0, cells)
	for i, at := range a.refs {
		if at.IsNone() || at.Base != cellBase {
			continue
		}
		for j := range a.lengths[i] {
			cells[int(at.Offset)+j] = guardValue
		}
	}
	for i, v := range cells {
		if v != guardValue {
			return fmt.Errorf("the kernel wrote outside its arguments: cell %d, %s", i, a.nearest(i))
		}
	}
	return nil
}

// nearest names the argument whose end lies closest in front of a cell.
func (a *arena) nearest(cell int) string {
	name, end := "before the first argument", 0
	for i, at := range a.refs {
		last := int(at.Offset) + a.lengths[i]
		if at.Base == cellBase && last <= cell && last > end {
			label := "the workspace"
			if i < len(a.layout) {
				label = a.layout[i].Name
			}
			name, end = fmt.Sprintf("%d cells behind %s", cell-last+1, label), last
		}
	}
	return name
}
