package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"broadside/kernels"
)

// mirror is one device of each memory space as one device: what is allocated or written is so in every space, what is
// run is run in every space on its own memory, and what is read is read from the first. The spaces hold the same bits
// as long as they are told the same.
type mirror struct{ devices []kernels.Device }

// newMirror returns the devices as one; a single device is itself.
func newMirror(devices []kernels.Device) kernels.Device {
	if len(devices) == 1 {
		return devices[0]
	}
	return &mirror{devices}
}

// part returns what a space has of a memory; memory that is no mirror's is the space's own.
func part(m kernels.Memory, space int) kernels.Memory {
	if mm, ok := m.(*mirrored); ok {
		return mm.parts[space]
	}
	return m
}

// partOfBases points bases at what a space has of the memories.
func partOfBases(to, bases *[kernels.MaxBases]kernels.Memory, space int) {
	for i, m := range bases {
		to[i] = part(m, space)
	}
}

func (d *mirror) Name() string {
	names := make([]string, len(d.devices))
	for i, dev := range d.devices {
		names[i] = dev.Name()
	}
	if slices.Equal(names, slices.Repeat(names[:1], len(names))) {
		return fmt.Sprintf("%d memories of %s", len(names), names[0])
	}
	return strings.Join(names, ", ")
}

func (d *mirror) Space() string { return "the mirror of " + d.Name() }

// Close does nothing: the devices are closed on their own.
func (d *mirror) Close() error { return nil }

func (d *mirror) Workspace(k kernels.Kernel, s kernels.Shape) (int, error) {
	return d.devices[0].Workspace(k, s)
}

func (d *mirror) Alloc(cells int) (kernels.Memory, error) {
	return d.alloc(func(dev kernels.Device) (kernels.Memory, error) { return dev.Alloc(cells) })
}

func (d *mirror) AllocBytes(data []byte) (kernels.Memory, error) {
	return d.alloc(func(dev kernels.Device) (kernels.Memory, error) { return dev.AllocBytes(data) })
}

func (d *mirror) alloc(from func(kernels.Device) (kernels.Memory, error)) (kernels.Memory, error) {
	m := &mirrored{}
	for _, dev := range d.devices {
		p, err := from(dev)
		if err != nil {
			m.Free()
			return nil, err
		}
		m.parts = append(m.parts, p)
	}
	return m, nil
}

func (d *mirror) Prepare(calls []kernels.Call) (kernels.Pass, error) {
	p := &mirroredPass{}
	for _, dev := range d.devices {
		part, err := dev.Prepare(calls)
		if err != nil {
			p.Free()
			return nil, err
		}
		p.parts = append(p.parts, part)
	}
	p.bases = make([][kernels.MaxBases]kernels.Memory, len(p.parts))
	return p, nil
}

// Sync waits for all devices.
func (d *mirror) Sync() error {
	errs := make([]error, len(d.devices))
	for i, dev := range d.devices {
		errs[i] = kernels.Sync(dev)
	}
	return errors.Join(errs...)
}

// mirroredPass is a pass of every space.
type mirroredPass struct {
	parts []kernels.Pass
	bases [][kernels.MaxBases]kernels.Memory
}

func (p *mirroredPass) Run(bases *[kernels.MaxBases]kernels.Memory) error {
	for space, part := range p.parts {
		partOfBases(&p.bases[space], bases, space)
		if err := part.Run(&p.bases[space]); err != nil {
			return err
		}
	}
	return nil
}

func (p *mirroredPass) Free() {
	for _, part := range p.parts {
		part.Free()
	}
}

// mirrored is a memory of every space, all with the same contents unless a worker or a collective makes them differ.
type mirrored struct{ parts []kernels.Memory }

var _ kernels.Memory = (*mirrored)(nil)

func (m *mirrored) Len() int                              { return m.parts[0].Len() }
func (m *mirrored) ReadFloats(offset int, dst []float32)  { m.parts[0].ReadFloats(offset, dst) }
func (m *mirrored) ReadInts(offset int, dst []int32)      { m.parts[0].ReadInts(offset, dst) }
func (m *mirrored) ReadDoubles(offset int, dst []float64) { m.parts[0].ReadDoubles(offset, dst) }
func (m *mirrored) WriteFloats(offset int, src []float32) {
	for _, p := range m.parts {
		p.WriteFloats(offset, src)
	}
}

func (m *mirrored) WriteInts(offset int, src []int32) {
	for _, p := range m.parts {
		p.WriteInts(offset, src)
	}
}

func (m *mirrored) Slice(offset, n int) kernels.Memory {
	s := &mirrored{}
	for _, p := range m.parts {
		s.parts = append(s.parts, p.Slice(offset, n))
	}
	return s
}

func (m *mirrored) Free() { free(m.parts...) }
