package engine

import (
	"fmt"

	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/kernels"
)

// staged is where a leaf that comes from a stream lies in a device's memory before it is gathered.
type staged struct {
	images, labels kernels.Memory
	order          []int32 // 0, 1, 2, ...
	classes        []int32
}

// gatherStaged has the leaf's images decoded, brings them to the device and gathers them by a pass.
func (w *worker) gatherStaged(r *resident, p kernels.Pass, v data.View, indices []int32) error {
	if err := w.stage(r); err != nil {
		return err
	}
	slot, err := r.stream.take(w.id, v, indices)
	if err != nil {
		return err
	}
	s := &w.staged
	s.images.WriteInts(0, slot.cells[:ceilDiv(len(indices)*r.set.ImageBytes(), 4)])
	r.stream.give(slot)
	s.classes = s.classes[:0]
	for _, i := range indices {
		s.classes = append(s.classes, r.set.Labels[i])
	}
	s.labels.WriteInts(0, s.classes)
	at := int(w.fleet.leaf.Index().Offset)
	w.leaf.WriteInts(at, s.order[:len(indices)])
	w.bind(r)
	w.bases[graph.ImageBase], w.bases[graph.LabelBase] = s.images, s.labels
	if err := p.Run(&w.bases); err != nil {
		return err
	}
	w.leaf.WriteInts(at, indices) // what else is random is keyed by the sample
	return nil
}

// stage makes room for a leaf.
func (w *worker) stage(r *resident) (err error) {
	n := w.fleet.leaf.Capacity
	if w.staged.images != nil {
		return nil
	}
	images, err := w.dev.Alloc(ceilDiv(n*r.set.ImageBytes(), 4))
	if err != nil {
		return fmt.Errorf("%s: allocating the images of a leaf: %w", w.dev.Name(), err)
	}
	labels, err := w.dev.Alloc(n)
	if err != nil {
		images.Free()
		return fmt.Errorf("%s: allocating the labels of a leaf: %w", w.dev.Name(), err)
	}
	w.staged = staged{images: images, labels: labels, order: firstSamples(n), classes: make([]int32, 0, n)}
	return nil
}
