package ref

import (
	"fmt"

	"broadside/kernels"
)

// Device runs the oracle's kernels over float64 memory. The zero Device is not for use: see [New].
type Device struct{}

var _ kernels.Device = (*Device)(nil)

// New returns the float64 device.
func New() *Device { return &Device{} }

// Name returns "ref (float64)".
func (*Device) Name() string { return "ref (float64)" }

// Space returns "ref".
func (*Device) Space() string { return "ref" }

// Close does nothing: the garbage collector frees the device's memory.
func (*Device) Close() error { return nil }

// Workspace returns 0: these kernels need no scratch. It refuses a bad shape.
func (*Device) Workspace(k kernels.Kernel, s kernels.Shape) (int, error) {
	_, err := Layout(k, s, 1)
	return 0, err
}

// Alloc returns zeroed memory.
func (*Device) Alloc(cells int) (kernels.Memory, error) {
	if cells < 0 {
		return nil, fmt.Errorf("allocating %d cells: %w", cells, ErrBadArgument)
	}
	return &Memory{cells: make([]float64, cells)}, nil
}

// AllocBytes returns image memory holding a copy of data.
func (*Device) AllocBytes(data []byte) (kernels.Memory, error) {
	return &Memory{bytes: append([]byte(nil), data...)}, nil
}

// Prepare checks argument counts and returns a pass.
func (*Device) Prepare(calls []kernels.Call) (kernels.Pass, error) {
	for i, c := range calls {
		if c.Kernel < 0 || c.Kernel >= kernels.KernelCount {
			return nil, fmt.Errorf("call %d: no such kernel as %s: %w", i, c.Kernel, ErrBadArgument)
		}
		if n := c.Kernel.Args(); len(c.Args) != n && len(c.Args) != n+1 {
			return nil, fmt.Errorf("call %d, %s: %d arguments, want %d and a workspace: %w", i, c.Kernel, len(c.Args), n, ErrBadArgument)
		}
		for _, a := range c.Args {
			if a.Base >= kernels.MaxBases {
				return nil, fmt.Errorf("call %d, %s: base %d of %d: %w", i, c.Kernel, a.Base, kernels.MaxBases, ErrBadArgument)
			}
		}
	}
	return &pass{calls: append([]kernels.Call(nil), calls...)}, nil
}

type pass struct{ calls []kernels.Call }

// Run runs the calls in order.
func (p *pass) Run(bases *[kernels.MaxBases]kernels.Memory) error {
	for i, c := range p.calls {
		if err := run(c, bases); err != nil {
			return fmt.Errorf("call %d, %s: %w", i, c, err)
		}
	}
	return nil
}

// Free does nothing: the garbage collector frees the pass.
func (*pass) Free() {}

// run checks one call's arguments against its layout and calls the kernel.
func run(c kernels.Call, bases *[kernels.MaxBases]kernels.Memory) error {
	layout, err := Layout(c.Kernel, c.Shape, 1)
	if err != nil {
		return err
	}
	var args arguments
	for i, a := range layout {
		if c.Args[i].IsNone() {
			if !a.Optional {
				return fmt.Errorf("%s is missing: %w", a.Name, ErrBadArgument)
			}
			continue
		}
		if err := args.resolve(i, a, c.Args[i], bases); err != nil {
			return fmt.Errorf("%s: %w", a.Name, err)
		}
	}
	trimSets(c, layout, &args)
	return call(c, &args)
}

// arguments are a call's arguments as slices: from their first cell to the end of their memory.
type arguments struct {
	cells [kernels.MaxArgs][]float64
	bytes []byte
}

func (args *arguments) resolve(i int, a Arg, at kernels.Ref, bases *[kernels.MaxBases]kernels.Memory) error {
	m, ok := bases[at.Base].(*Memory)
	if !ok {
		return fmt.Errorf("base %d holds %T, not memory of %s: %w", at.Base, bases[at.Base], (*Device)(nil).Name(), ErrBadArgument)
	}
	have := m.Len()
	if a.Kind == Byte {
		have = len(m.bytes)
	}
	if at.Offset < 0 || at.Offset+int64(a.Cells) > int64(have) {
		return fmt.Errorf("%d cells at %d are outside the memory of %d: %w", a.Cells, at.Offset, have, ErrBadArgument)
	}
	if a.Kind == Byte {
		args.bytes = m.bytes[at.Offset:]
	} else {
		args.cells[i] = m.cells[at.Offset:]
	}
	return nil
}

// trimSets shortens the arguments of batch norm that hold one row per parameter set to the sets that
// the shortest of them has room for, so that the kernel can refuse a set that lies outside.
func trimSets(c kernels.Call, layout []Arg, args *arguments) {
	s, ok := c.Shape.(kernels.BatchNorm)
	if !ok {
		return
	}
	two, err := Layout(c.Kernel, c.Shape, 2)
	if err != nil {
		return
	}
	perSet := func(i int) int { return two[i].Cells - layout[i].Cells }
	sets := int(^uint(0) >> 1)
	for i := range layout {
		if n := perSet(i); n > 0 && args.cells[i] != nil {
			sets = min(sets, len(args.cells[i])/n)
		}
	}
	for i := range layout {
		if n := perSet(i); n == int(s.C) && args.cells[i] != nil {
			args.cells[i] = args.cells[i][:sets*n]
		}
	}
}

// Memory is memory of float64 cells, or of bytes for images.
type Memory struct {
	cells []float64
	bytes []byte
}

var _ kernels.Memory = (*Memory)(nil)

// Len returns the number of cells.
func (m *Memory) Len() int { return len(m.cells) }

// Floats returns the cells themselves, in full precision.
func (m *Memory) Floats() []float64 { return m.cells }

// WriteFloats64 writes src in full precision.
func (m *Memory) WriteFloats64(offset int, src []float64) {
	copy(m.cells[offset:offset+len(src)], src)
}

// ReadFloats64 reads dst in full precision.
func (m *Memory) ReadFloats64(offset int, dst []float64) {
	copy(dst, m.cells[offset:offset+len(dst)])
}

// WriteFloats writes src.
func (m *Memory) WriteFloats(offset int, src []float32) {
	for i, cells := 0, m.cells[offset:offset+len(src)]; i < len(src); i++ {
		cells[i] = float64(src[i])
	}
}

// ReadFloats reads dst, rounded to float32.
func (m *Memory) ReadFloats(offset int, dst []float32) {
	for i, v := range m.cells[offset : offset+len(dst)] {
		dst[i] = float32(v)
	}
}

// WriteInts writes src.
func (m *Memory) WriteInts(offset int, src []int32) {
	for i, cells := 0, m.cells[offset:offset+len(src)]; i < len(src); i++ {
		cells[i] = float64(src[i])
	}
}

// ReadInts reads dst; a uint32 is read as the int32 of the same bits.
func (m *Memory) ReadInts(offset int, dst []int32) {
	for i, v := range m.cells[offset : offset+len(dst)] {
		dst[i] = int32(word32(v))
	}
}

// ReadDoubles reads results of Dot or Norm: the first of the two cells of each holds it.
func (m *Memory) ReadDoubles(offset int, dst []float64) {
	cells := m.cells[offset : offset+2*len(dst)]
	for i := range dst {
		dst[i] = cells[2*i]
	}
}

// Slice returns the n cells at offset.
func (m *Memory) Slice(offset, n int) kernels.Memory {
	return &Memory{cells: m.cells[offset : offset+n : offset+n]}
}

// Free does nothing: the garbage collector frees the memory.
func (m *Memory) Free() {}
