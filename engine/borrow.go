package engine

import (
	"broadside/engine/data"
	"broadside/kernels"
)

// borrower is a device that reads the host's memory in place.
type borrower interface {
	BorrowBytes(data []byte) kernels.Memory
}

// imagesOn returns the images of a set for a device. Those of a mapped file are read in place where the device can, so that
// processes which train from one file share its pages; all others are copied.
func imagesOn(dev kernels.Device, set *data.Set) (kernels.Memory, error) {
	if b, ok := dev.(borrower); ok && set.Mapped {
		return b.BorrowBytes(set.Images), nil
	}
	return dev.AllocBytes(set.Images)
}
