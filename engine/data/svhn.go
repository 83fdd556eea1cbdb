package data

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// SVHN's images have CIFAR's shape. Its files are MAT-files with an array X of [32, 32, 3, N] bytes in MATLAB's order, the
// first index fastest, and the labels y, 1 to 10, where 10 is the digit 0.
const (
	svhnSide   = 32
	svhnPixels = svhnSide * svhnSide
	svhnImage  = 3 * svhnPixels
	svhnDigits = 10
)

// The constants that published training code normalises SVHN with.
var svhnMean, svhnStd = []float32{0.4377, 0.4438, 0.4728}, []float32{0.1980, 0.2010, 0.1970}

// svhnSet is an entry of the registry whose training set is read from the given files.
func svhnSet(name, title, files string, train ...string) dataset {
	return dataset{Info: Info{Name: name, Title: title, Files: files},
		load: func(f folder, base Set, _ Spec) (*Pair, error) { return loadSVHNPair(f, base, train) },
		base: Set{Classes: svhnDigits, ClassNames: digitNames, Mean: svhnMean, Std: svhnStd, H: svhnSide, W: svhnSide, C: 3}}
}

func loadSVHNPair(f folder, base Set, train []string) (*Pair, error) {
	a, b := base, base
	for _, name := range train {
		if err := appendSVHN(&a, f, name); err != nil {
			return nil, err
		}
	}
	err := appendSVHN(&b, f, "test_32x32.mat")
	return &Pair{Train: &a, Test: &b}, err
}

// appendSVHN appends the images and labels of a file to a set.
func appendSVHN(s *Set, f folder, name string) error {
	src, err := f.open(name)
	if err != nil {
		return err
	}
	defer src.Close()
	images, labels := 0, []int32(nil)
	err = readMAT(src, src.limit, func(a *matArray, limit int64) (wanted bool, err error) {
		switch a.name {
		case "X":
			if images > 0 {
				return false, errors.New("array X is there twice")
			}
			images, err = appendSVHNImages(s, a, limit)
			return true, err
		case "y":
			labels, err = a.whole(limit, 1, svhnDigits)
			return true, err
		}
		return false, nil
	})
	if err == nil && (images == 0 || images != len(labels)) {
		err = fmt.Errorf("holds %d images in X and %d labels in y; SVHN's cropped digits have as many of each", images, len(labels))
	}
	if err != nil {
		return fmt.Errorf("data file %s %w", src.path, err)
	}
	for i, y := range labels {
		labels[i] = y % svhnDigits
	}
	s.Labels = append(s.Labels, labels...)
	return nil
}

// appendSVHNImages reads the array X, image by image, into NHWC.
func appendSVHNImages(s *Set, a *matArray, limit int64) (int, error) {
	dims := a.dims
	if len(dims) == 3 { // a last dimension of 1 is not written
		dims = append(slices.Clone(dims), 1)
	}
	if len(dims) != 4 || dims[0] != svhnSide || dims[1] != svhnSide || dims[2] != 3 || dims[3] == 0 || a.class != matClassUint8 {
		return 0, fmt.Errorf("array X is %v of class %d; want [%d %d 3 N] of class %d, bytes", a.dims, a.class, svhnSide, svhnSide, matClassUint8)
	}
	_, kind, r, err := a.elements(limit)
	if err != nil {
		return 0, err
	}
	if kind != matUint8 {
		return 0, fmt.Errorf("array X has elements of type %d; want %d, bytes", kind, matUint8)
	}
	n := dims[3]
	s.Images = slices.Grow(s.Images, n*svhnImage)
	columns := make([]byte, svhnImage)
	for i := range n {
		if _, err := io.ReadFull(r, columns); err != nil {
			return 0, fmt.Errorf("array X ends in image %d of %d: %w", i, n, err)
		}
		s.Images = appendTransposed(s.Images, columns)
	}
	return n, nil
}

// appendTransposed appends an image whose columns lie one behind the other, plane by plane, in NHWC.
func appendTransposed(dst, columns []byte) []byte {
	r, g, b := columns[:svhnPixels], columns[svhnPixels:2*svhnPixels], columns[2*svhnPixels:]
	for y := range svhnSide {
		for at := y; at < svhnPixels; at += svhnSide {
			dst = append(dst, r[at], g[at], b[at])
		}
	}
	return dst
}
