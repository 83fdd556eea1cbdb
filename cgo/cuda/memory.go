//go:build cuda

package cuda

import (
	"fmt"
	"math"
	"unsafe"

	"gorgonia.org/cu"

	"broadside/kernels"
)

// cellBytes is the size of a cell.
const cellBytes = 4

// memory is a block of a GPU's memory. What the host does to it goes through its device's stream.
type memory struct {
	device *Device
	at     cu.DevicePtr // 0 after Free
	bytes  int
	cells  int
	part   bool // of a memory that frees it
}

var _ kernels.Memory = (*memory)(nil)
var _ kernels.LateReader = (*memory)(nil)

// Alloc returns zeroed memory of the given number of cells, aligned to 256 bytes.
func (d *Device) Alloc(cells int) (kernels.Memory, error) {
	if cells < 0 || cells > math.MaxInt/cellBytes {
		return nil, fmt.Errorf("%s: allocating %d cells: no such size", d.name, cells)
	}
	m, err := d.alloc(cells * cellBytes)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// AllocBytes returns memory holding a copy of the bytes. Its Len is rounded up to whole cells.
func (d *Device) AllocBytes(data []byte) (kernels.Memory, error) {
	m, err := d.alloc(len(data))
	if err != nil {
		return nil, err
	}
	if err := d.use(func() error { return d.staging.write(d.stream, m.at, data) }); err != nil {
		m.Free()
		return nil, fmt.Errorf("%s: copying %d bytes: %w", d.name, len(data), err)
	}
	return m, nil
}

// alloc returns zeroed memory of at least the given number of bytes, in whole cells.
func (d *Device) alloc(bytes int) (*memory, error) {
	cells := bytes/cellBytes + (bytes%cellBytes+cellBytes-1)/cellBytes
	size := int64(max(cells, 1)) * cellBytes
	m := &memory{device: d, bytes: bytes, cells: cells}
	err := d.use(func() (err error) {
		if m.at, err = cu.MemAlloc(size); err != nil {
			if free, total, e := cu.MemInfo(); e == nil {
				err = fmt.Errorf("%w: %.2f of %.2f GiB are free", err, float64(free)/(1<<30), float64(total)/(1<<30))
			}
			return err
		}
		return cu.MemsetD8Async(m.at, 0, size, d.stream)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: allocating %d bytes: %w", d.name, bytes, err)
	}
	return m, nil
}

// FreeMemory returns how many bytes of the GPU's memory are free.
func (d *Device) FreeMemory() (bytes int64, ok bool) {
	err := d.use(func() (err error) { bytes, _, err = cu.MemInfo(); return err })
	return bytes, err == nil
}

// use does work with the device, unless it has failed.
func (d *Device) use(work func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return d.failed
	}
	return d.inContext(work)
}

// Len returns the number of cells.
func (m *memory) Len() int { return m.cells }

// Free gives the memory back, once all that its device was told is done. A second Free does nothing; any other use
// panics.
func (m *memory) Free() {
	d := m.device
	if m.at == 0 || m.part {
		m.at, m.bytes, m.cells = 0, 0, 0
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed && d.failed == nil {
		d.wait()
		d.fail("freeing memory", d.inContext(func() error { return cu.MemFree(m.at) }))
	}
	m.at, m.bytes, m.cells = 0, 0, 0
}

// Slice returns the n cells at offset.
func (m *memory) Slice(offset, n int) kernels.Memory {
	return &memory{device: m.device, at: m.span(offset, n), bytes: n * cellBytes, cells: n, part: true}
}

// Copy queues a copy of n cells between memories of GPUs, this one or others.
func (d *Device) Copy(to kernels.Memory, toOffset int, from kernels.Memory, fromOffset, n int) error {
	target, ok := to.(*memory)
	source, ok2 := from.(*memory)
	if !ok || !ok2 {
		return fmt.Errorf("%s: copying %d cells: memory of another kind of device", d.name, n)
	}
	t, s := target.span(toOffset, n), source.span(fromOffset, n)
	if n == 0 {
		return nil
	}
	err := d.use(func() error {
		for _, m := range []*memory{target, source} {
			if err := d.reach(m.device); err != nil {
				return err
			}
		}
		return cu.MemcpyPeerAsync(t, target.device.context, s, source.device.context, int64(n)*cellBytes, d.stream)
	})
	if err != nil {
		return fmt.Errorf("%s: copying %d cells from %s: %w", d.name, n, source.device.name, err)
	}
	return nil
}

// span returns where n cells at offset lie. It panics outside the memory.
func (m *memory) span(offset, n int) cu.DevicePtr {
	if offset < 0 || n < 0 || n > m.cells || offset > m.cells-n {
		panic(fmt.Sprintf("cuda: cells [%d, %d) of a memory of %d cells", offset, offset+n, m.cells))
	}
	return m.at + cu.DevicePtr(offset*cellBytes)
}

// bytesOf returns the cells of a slice as bytes.
func bytesOf[T float32 | int32 | float64](s []T) []byte {
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(one)))
}

// write queues a copy of src to the cells at offset. An error comes out of the device's next Run or Sync.
func write[T float32 | int32](m *memory, offset int, src []T) {
	to, d := m.span(offset, len(src)), m.device
	if err := d.use(func() error { return d.staging.write(d.stream, to, bytesOf(src)) }); err != nil {
		d.mu.Lock()
		d.fail("writing memory", err)
		d.mu.Unlock()
	}
}

// read fills dst from the cells at offset, once all that was queued before is done.
func read[T float32 | int32 | float64](m *memory, offset int, dst []T) {
	bytes, d := bytesOf(dst), m.device
	from := m.span(offset, len(bytes)/cellBytes)
	if len(dst) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return
	}
	err := d.inContext(func() error {
		return cu.MemcpyDtoHAsync(unsafe.Pointer(&dst[0]), from, int64(len(bytes)), d.stream)
	})
	if err != nil {
		d.fail("reading memory", err)
		return
	}
	d.wait()
}

// WriteFloats copies src to the cells at offset.
func (m *memory) WriteFloats(offset int, src []float32) { write(m, offset, src) }

// ReadFloats fills dst from the cells at offset.
func (m *memory) ReadFloats(offset int, dst []float32) { read(m, offset, dst) }

// WriteInts copies src to the cells at offset.
func (m *memory) WriteInts(offset int, src []int32) { write(m, offset, src) }

// ReadInts fills dst from the cells at offset.
func (m *memory) ReadInts(offset int, dst []int32) { read(m, offset, dst) }

// ReadDoubles fills dst from the cells at offset, two for each.
func (m *memory) ReadDoubles(offset int, dst []float64) { read(m, offset, dst) }

// ReadFloatsLater fills dst from the cells at offset by the next Sync of the device.
func (m *memory) ReadFloatsLater(offset int, dst []float32) {
	from, d := m.span(offset, len(dst)), m.device
	d.mu.Lock()
	queued := d.failed != nil
	if !queued {
		err := d.inContext(func() (err error) {
			queued, err = d.late.queue(d.stream, dst, from)
			return err
		})
		d.fail("reading memory", err)
		queued = queued || err != nil
	}
	d.mu.Unlock()
	if !queued { // there is no room
		read(m, offset, dst)
	}
}
