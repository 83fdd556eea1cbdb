package kernels

// HostMemory is memory that the host reads and writes where it lies. It is none of Go's: it does not move, and its
// address may be given to C, which may keep it until Free.
type HostMemory interface {
	Memory
	// Floats returns the n cells at offset, in place.
	Floats(offset, n int) []float32
}
