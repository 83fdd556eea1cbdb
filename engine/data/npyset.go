package data

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"broadside/engine/internal/durable"
	"broadside/engine/npy"
)

// maxNPYClasses bounds the labels of .npy files: the classes are as many as the largest label says.
const maxNPYClasses = 100_000

// loadNPYPair reads a set from four files of NumPy. It has as many classes as its largest label says, and its own mean and
// deviation: nobody has published others.
func loadNPYPair(f folder, base Set, _ Spec) (*Pair, error) {
	a, b := base, base
	if err := loadNPY(f, &a, "x_train.npy", "y_train.npy"); err != nil {
		return nil, err
	}
	if err := loadNPY(f, &b, "x_test.npy", "y_test.npy"); err != nil {
		return nil, err
	}
	a.Classes = max(a.Classes, b.Classes)
	b.Classes = a.Classes
	mean, std := a.Moments()
	for c := range mean {
		if std[c] == 0 { // a channel that is the same everywhere stays so
			std[c] = 1
		}
		a.Mean, a.Std = append(a.Mean, float32(mean[c])), append(a.Std, float32(std[c]))
	}
	b.Mean, b.Std = a.Mean, a.Std
	return &Pair{Train: &a, Test: &b}, nil
}

func loadNPY(f folder, s *Set, images, labels string) error {
	h, raw, err := readNPY(f, images)
	if err != nil {
		return err
	}
	shape := h.Shape
	if len(shape) == 3 {
		shape = append(shape, 1)
	}
	if len(shape) != 4 || h.Type != "u1" {
		return fmt.Errorf("data file %s has type %s and shape %v; images are bytes (u1) of [N, H, W, C] or [N, H, W]", f.path(images), h.Type, h.Shape)
	}
	s.H, s.W, s.C, s.Images = shape[1], shape[2], shape[3], raw
	l, raw, err := readNPY(f, labels)
	if err != nil {
		return err
	}
	values, err := l.Ints(raw)
	if err != nil {
		return fmt.Errorf("data file %s %w", f.path(labels), err)
	}
	if len(l.Shape) == 0 || len(values) != l.Shape[0] || len(values) != shape[0] {
		return fmt.Errorf("data file %s has shape %v; the labels of %d images in %s have shape [%[3]d]", f.path(labels), l.Shape, shape[0], f.path(images))
	}
	s.Labels = make([]int32, len(values))
	for i, y := range values {
		if y < 0 || y >= maxNPYClasses {
			return fmt.Errorf("data file %s: label %d of image %d is outside 0 to %d", f.path(labels), y, i, maxNPYClasses-1)
		}
		s.Labels[i] = int32(y)
		s.Classes = max(s.Classes, int(y)+1)
	}
	return nil
}

// readNPY reads a file's array.
func readNPY(f folder, name string) (*npy.Header, []byte, error) {
	src, err := f.open(name)
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	h, err := npy.Read(src, src.limit)
	if err != nil {
		return nil, nil, fmt.Errorf("data file %s %w", src.path, err)
	}
	raw := make([]byte, h.Bytes())
	if _, err := io.ReadFull(src, raw); err != nil {
		return nil, nil, fmt.Errorf("data file %s is truncated: %w", src.path, err)
	}
	if err := atEnd(src); err != nil {
		return nil, nil, fmt.Errorf("data file %s: behind the array: %w", src.path, err)
	}
	return h, raw, nil
}

// WriteNPY writes the pair to the folder as the four files that the data set npy reads: images as bytes, [N, H, W] where
// they are grey and else [N, H, W, C], and labels as int64.
func (p *Pair) WriteNPY(dir string) error {
	if err := p.InMemory(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		set  *Set
	}{{"train", p.Train}, {"test", p.Test}} {
		if err := part.set.writeNPY(dir, part.name); err != nil {
			return err
		}
	}
	return nil
}

func (s *Set) writeNPY(dir, part string) error {
	shape := []int{s.Len(), s.H, s.W, s.C}
	if s.C == 1 {
		shape = shape[:3]
	}
	err := durable.Replace(filepath.Join(dir, "x_"+part+".npy"), func(w io.Writer) error { return npy.Write(w, shape, s.Images) })
	if err != nil {
		return err
	}
	labels := make([]int64, s.Len())
	for i, y := range s.Labels {
		labels[i] = int64(y)
	}
	return durable.Replace(filepath.Join(dir, "y_"+part+".npy"), func(w io.Writer) error { return npy.Write(w, []int{len(labels)}, labels) })
}
