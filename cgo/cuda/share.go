//go:build cuda

package cuda

import (
	"fmt"

	"gorgonia.org/cu"

	"broadside/kernels"
)

// What follows is for libraries of NVIDIA's that queue work of their own on a GPU.

// GPU describes the device's GPU.
func (d *Device) GPU() GPU { return d.gpu }

// Use calls work with the device's stream, on a thread that has the GPU's context. Nothing else is queued meanwhile.
// It fails if the device has failed.
func (d *Device) Use(work func(stream cu.Stream) error) error {
	return d.use(func() error { return work(d.stream) })
}

// Bind gives the calling thread, to which its goroutine is locked, the GPU's context.
func (d *Device) Bind() error {
	if err := cu.SetCurrentContext(d.context); err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	return nil
}

// Address returns where n cells at offset of a memory lie. The memory is one of the device's GPU.
func (d *Device) Address(m kernels.Memory, offset, n int) (uintptr, error) {
	own, ok := m.(*memory)
	switch {
	case !ok || own.device.gpu.Ordinal != d.gpu.Ordinal:
		return 0, fmt.Errorf("%s: it is memory of another device", d.name)
	case offset < 0 || n < 0 || offset > own.cells-n:
		return 0, fmt.Errorf("%s: cells [%d, %d) of a memory of %d cells", d.name, offset, offset+n, own.cells)
	}
	return uintptr(own.span(offset, n)), nil
}
