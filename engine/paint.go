package engine

import (
	"fmt"
	"unsafe"

	"broadside/engine/data"
	"broadside/kernels"
)

// AutoAugment edits images on the host, ahead of the workers that gather them: such leaves come from a stream, also where
// the images are in a device's memory. All others are gathered there as ever.

// paints reports whether leaves with an augmentation come from the set's stream.
func (r *resident) paints(a augmentation) bool {
	return r.streams() && (r.images == nil || a.policy != nil)
}

// paintFor starts a stream of the training set's images, if an augmentation wants one.
func (f *fleet) paintFor(a augmentation) error {
	r := f.train
	if a.policy == nil || r.streams() {
		return nil
	}
	set := r.onHost()
	if err := kernels.Sync(f.dev); err != nil {
		return fmt.Errorf("reading the images of %s: %w", set.Name, err)
	}
	r.stream = newStream(set, r.mean, len(f.workers), f.leaf.Capacity)
	return nil
}

// onHost is the set with its images, which are read back unless they lie in a file that is mapped.
func (r *resident) onHost() *data.Set {
	s := r.set
	if s.Images == nil {
		m := part(r.images, 0)
		cells := make([]int32, m.Len())
		m.ReadInts(0, cells)
		s.Images = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(cells))), s.Len()*s.ImageBytes())
	}
	return &s
}

// checkPaint refuses images that no policy can edit.
func checkPaint(a augmentation, s *data.Set) error {
	if a.policy != nil && s.C != 1 && s.C != 3 {
		return fmt.Errorf("autoaugment edits images of 1 channel or of 3 colours, and %s has %d channels", s.Name, s.C)
	}
	return nil
}
