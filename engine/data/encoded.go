package data

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"broadside/engine/data/pixels"
)

// maxImageBytes bounds the file of an image.
const maxImageBytes = 1 << 27

// entry is where the file of an image is: a file of the folder, or a part of one.
type entry struct {
	name  string // of the image, for messages
	shard string // the file that it is a part of; empty: it is a file itself
	at    int64
	size  int64
}

// encoded is a source of images in files. Where an image cannot be decoded and that is tolerated, the next one of its
// class that can be takes its place.
type encoded struct {
	*decoding
	entries []entry
	labels  []int32
}

// decoding is what a training and a test set share.
type decoding struct {
	folder      folder
	size        int // of the result, square
	shorter     int // what the shorter side is resized to before the middle is taken
	kind, words string
	maxBad      int
	mu          sync.Mutex
	bad         map[string]bool // names of images that cannot be decoded
	firstReason string
	idle        []*worker
}

// worker has the memory to decode one image at a time.
type worker struct {
	decoder *pixels.Decoder
	file    []byte
}

// newDecoding readies the decoding of a folder's images.
func newDecoding(f folder, o Files) (*decoding, error) {
	d := &decoding{folder: f, size: o.Size, shorter: o.Resize, maxBad: o.MaxBad, bad: map[string]bool{}}
	if d.shorter == 0 {
		d.shorter = min(o.Size*8/7, maxSide)
	}
	if d.size < 1 || d.size > maxSide || d.shorter > maxSide {
		return nil, fmt.Errorf("data.size is %d, data.resize %d: set data.size to the side of the square that images become, 1 to %d pixels, such as 224", o.Size, o.Resize, maxSide)
	}
	if d.shorter < d.size {
		return nil, fmt.Errorf("data.resize %d is less than data.size %d, which is cut out of it", d.shorter, d.size)
	}
	var err error
	if d.kind, d.words, err = pixels.Resolve(o.Decoder); err != nil {
		return nil, fmt.Errorf("data.decoder %s: %w", o.Decoder, err)
	}
	return d, nil
}

// maxSide bounds the images that training sees.
const maxSide = 4096

// Decoder says in words what decodes.
func (d *decoding) Decoder() string { return d.words }

// Bad is how many images could not be decoded so far, and the first reason.
func (d *decoding) Bad() (count int, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.bad), d.firstReason
}

// Subset is the source of some of the images.
func (e *encoded) Subset(images []int32) Source {
	out := &encoded{decoding: e.decoding}
	for _, i := range images {
		out.entries, out.labels = append(out.entries, e.entries[i]), append(out.labels, e.labels[i])
	}
	return out
}

// Decode fills dst with a view of an image.
func (e *encoded) Decode(dst []byte, image int, v View) error {
	w, err := e.take()
	if err != nil {
		return err
	}
	defer e.give(w)
	for at := image; ; {
		err := e.decode(w, dst, at, image, v)
		var unreadable readError
		if err == nil || errors.As(err, &unreadable) {
			return err
		}
		if err := e.tolerate(e.entries[at].name, err); err != nil {
			return err
		}
		if at = e.next(at); at == image {
			return fmt.Errorf("no image of the class of %s can be decoded", e.named(e.entries[image].name))
		}
	}
}

// next is the image behind one, of the same class; behind the last comes the first.
func (e *encoded) next(image int) int {
	for i := 1; ; i++ {
		if at := (image + i) % len(e.labels); e.labels[at] == e.labels[image] {
			return at
		}
	}
}

// decode fills dst with a view of an image, drawn as that of a sample.
func (e *encoded) decode(w *worker, dst []byte, image, sample int, v View) error {
	if err := e.read(w, e.entries[image]); err != nil {
		return err
	}
	return w.decoder.Decode(dst, w.file, e.size, func(width, height int) (out pixels.Window) {
		if v.Crop {
			out = pixels.RandomCrop(width, height, e.size, v.MinArea, v.draw(sample))
		} else {
			out = pixels.Middle(width, height, e.shorter, e.size)
		}
		out.Mirror = v.Flip && v.draw(sample).Mirrored()
		return out
	})
}

// readError says that a file cannot be read, which is no fault of the image.
type readError struct{ error }

// read fills the worker's memory with a file.
func (e *encoded) read(w *worker, from entry) error {
	name := cmp.Or(from.shard, from.name)
	file, err := e.folder.fs.Open(name)
	if err != nil {
		return readError{fmt.Errorf("data file %s: %w", e.folder.path(name), reason(err))}
	}
	defer file.Close()
	if from.shard == "" {
		info, err := file.Stat()
		if err != nil {
			return readError{fmt.Errorf("data file %s: %w", e.folder.path(name), reason(err))}
		}
		from.size = info.Size()
	}
	if from.size > maxImageBytes {
		return fmt.Errorf("has %d bytes; an image may have up to %d", from.size, maxImageBytes)
	}
	w.file = slices.Grow(w.file[:0], int(from.size))[:from.size]
	if at, ok := file.(io.ReaderAt); ok {
		_, err = io.ReadFull(io.NewSectionReader(at, from.at, from.size), w.file)
	} else {
		err = errors.New("cannot be read at a place")
	}
	if err != nil {
		return readError{fmt.Errorf("data file %s: %w", e.folder.path(name), reason(err))}
	}
	return nil
}

// tolerate counts an image that cannot be decoded, and says so where that is one too many.
func (d *decoding) tolerate(name string, why error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	why = fmt.Errorf("image %s: %w", d.named(name), why)
	if d.firstReason == "" {
		d.firstReason = why.Error()
	}
	if d.bad[name] = true; len(d.bad) <= d.maxBad {
		return nil
	}
	if d.maxBad == 0 {
		return fmt.Errorf("%w (data.max_bad goes on without so many images)", why)
	}
	return fmt.Errorf("%d images cannot be decoded, data.max_bad allows %d; the last: %w", len(d.bad), d.maxBad, why)
}

// named is an image's name for messages; that of an archive's member may have any characters.
func (d *decoding) named(name string) string {
	path := d.folder.path(name)
	if quoted := strconv.Quote(path); quoted[1:len(quoted)-1] != path {
		return quoted
	}
	return path
}

// take returns a worker that nobody has.
func (d *decoding) take() (*worker, error) {
	d.mu.Lock()
	if n := len(d.idle); n > 0 {
		w := d.idle[n-1]
		d.idle = d.idle[:n-1]
		d.mu.Unlock()
		return w, nil
	}
	d.mu.Unlock()
	decoder, err := pixels.NewDecoder(d.kind)
	return &worker{decoder: decoder}, err
}

func (d *decoding) give(w *worker) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.idle = append(d.idle, w)
}

// load decodes the middles of all images of a set into its memory, on all cores.
func (s *Set) load() error {
	n, size := s.Len(), s.ImageBytes()
	images := make([]byte, n*size)
	var group sync.WaitGroup
	var next atomic.Int64
	var failed atomic.Bool
	errs := make([]error, runtime.GOMAXPROCS(0))
	for i := range errs {
		group.Go(func() {
			for !failed.Load() {
				at := int(next.Add(1)) - 1
				if at >= n {
					return
				}
				if err := s.Source.Decode(images[at*size:(at+1)*size], at, View{}); err != nil {
					errs[i] = err
					failed.Store(true)
				}
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	s.Images = images
	return nil
}
