package kernels

// Queued is a device that does what it is told later. Run returns once the calls are queued, in order; an index
// that points outside, or a failure of the device, is found when they run and comes out of Sync. Reads of memory
// wait for the work queued before them, and writes to memory take their place in the queue.
type Queued interface {
	Device
	// Sync waits until the device is idle and returns the first error of what ran since the last Sync. What was
	// read since then is worth nothing if there is one.
	Sync() error
	// Follow makes what is queued from now on wait for all that another device of the same kind has been given so
	// far. It does not wait itself.
	Follow(other Device) error
}

// Sync waits until a device has done all it was told, and returns what went wrong. A device that does not queue
// has done it and has said so.
func Sync(d Device) error {
	if q, ok := d.(interface{ Sync() error }); ok {
		return q.Sync()
	}
	return nil
}

// Follow makes what a device is told from now on come after all that another has been told so far.
func Follow(d, other Device) error {
	if q, ok := d.(Queued); ok && d != other {
		return q.Follow(other)
	}
	return nil
}

// LateReader is memory of a device that queues, read in the order of the queue.
type LateReader interface {
	// ReadFloatsLater fills dst from the cells at offset by the next Sync of the device.
	ReadFloatsLater(offset int, dst []float32)
}

// ReadFloatsLater fills dst from the cells at offset, by the next Sync of the memory's device at the latest.
func ReadFloatsLater(m Memory, offset int, dst []float32) {
	if late, ok := m.(LateReader); ok {
		late.ReadFloatsLater(offset, dst)
		return
	}
	m.ReadFloats(offset, dst)
}
