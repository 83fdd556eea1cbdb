package kernels

// Peer is a device that works side by side with others of its kind, whose spaces are others.
type Peer interface {
	Device
	// Copy copies n cells to memory from memory, of any spaces of this kind of device. A device that queues its work
	// queues it.
	Copy(to Memory, toOffset int, from Memory, fromOffset, n int) error
	// Fork returns another device of the same space, whose work goes on beside this one's.
	Fork() (Device, error)
}
