package data

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Files says how the images of JPEG and PNG files are prepared.
type Files struct {
	Size     int     // side of the square that they become
	Resize   int     // what the shorter side is resized to before the middle is taken; 0: 8/7 of Size
	ValShare float64 // of each class, for testing, where the files are not divided
	MaxBad   int     // images that may be impossible to decode
	MaxBytes int64   // that images in memory may take
	Decoder  string  // of JPEG files: one of pixels.Auto, Turbo and Go
	Stream   bool    // decode the training set while training goes on
}

// ImageNet's mean and standard deviation, which the literature uses for any photographs.
var imageBase = Set{C: 3, Mean: []float32{0.485, 0.456, 0.406}, Std: []float32{0.229, 0.224, 0.225}}

// ofFiles reports whether a set is made of image files.
func (d *dataset) ofFiles() bool { return d.base.C > 0 }

// checkFiles refuses what does not go with the set.
func (d *dataset) checkFiles(o Files) error {
	switch {
	case !d.ofFiles() && o.Stream:
		return errors.New("data.augment has random_resized_crop: its images have one size; use pad_crop")
	case !d.ofFiles() && o.Size != 0:
		return fmt.Errorf("data.size is %d: its images have one size; leave data.size out", o.Size)
	}
	return nil
}

// labelled are images with their labels.
type labelled struct {
	entries []entry
	labels  []int32
}

func (l *labelled) add(e entry, label int32) {
	l.entries, l.labels = append(l.entries, e), append(l.labels, label)
}

// split takes a share of each class out, the same images in any order of the files and, but for a few, when files are
// added: those whose names have the least hashes. Each class with two images or more keeps one and gives one.
func (l *labelled) split(share float64) (rest, out labelled) {
	classes := map[int32][]int{}
	for i, y := range l.labels {
		classes[y] = append(classes[y], i)
	}
	chosen := make([]bool, len(l.labels))
	for _, members := range classes {
		hashes := make(map[int][sha256.Size]byte, len(members))
		for _, i := range members {
			hashes[i] = sha256.Sum256([]byte(l.entries[i].name))
		}
		slices.SortFunc(members, func(a, b int) int {
			x, y := hashes[a], hashes[b]
			return cmp.Or(slices.Compare(x[:], y[:]), a-b)
		})
		n := len(members)
		for _, i := range members[:min(max(int(math.Round(share*float64(n))), 1), n-1)] {
			chosen[i] = true
		}
	}
	for i, e := range l.entries {
		if chosen[i] {
			out.add(e, l.labels[i])
		} else {
			rest.add(e, l.labels[i])
		}
	}
	return rest, out
}

// filesPair makes the sets of a folder's images, and decodes those that are to be in memory. Without test images it
// takes a share of the others.
func filesPair(f folder, base Set, spec Spec, train, test labelled) (*Pair, error) {
	o := spec.Files
	d, err := newDecoding(f, o)
	if err != nil {
		return nil, err
	}
	if len(test.labels) == 0 {
		if !(o.ValShare > 0 && o.ValShare < 1) {
			return nil, fmt.Errorf("%s has no images to test on: set data.val_share, %g, to the share of the others to take, such as 0.1", f.name, o.ValShare)
		}
		train, test = train.split(o.ValShare)
	}
	base.H, base.W = o.Size, o.Size
	pair := &Pair{}
	for _, half := range []struct {
		to    **Set
		from  labelled
		limit int
	}{{&pair.Train, train, spec.TrainLimit}, {&pair.Test, test, spec.TestLimit}} {
		s := base
		s.Labels, s.Source = half.from.labels, &encoded{decoding: d, entries: half.from.entries, labels: half.from.labels}
		*half.to = s.Balanced(half.limit)
	}
	return pair, pair.fill(f.name, o)
}

// bytes is what the images take in memory.
func (s *Set) bytes() int64 { return int64(s.Len()) * int64(s.ImageBytes()) }

// fill decodes the images that are to be in memory.
func (p *Pair) fill(name string, o Files) error {
	switch {
	case !o.Stream && p.Train.bytes()+p.Test.bytes() > o.MaxBytes:
		return fmt.Errorf("%s: %d images of %dx%d take %.1f GB in memory, and data.max_memory_gb allows %.3g: use data.augment [random_resized_crop], which decodes them while training goes on, or a smaller data.size or data.train_limit",
			name, p.Train.Len()+p.Test.Len(), o.Size, o.Size, float64(p.Train.bytes()+p.Test.bytes())/1e9, float64(o.MaxBytes)/1e9)
	case !o.Stream:
		if err := p.Train.load(); err != nil {
			return err
		}
	case p.Test.bytes() > o.MaxBytes: // is decoded anew by every evaluation
		return nil
	}
	return p.Test.load()
}
