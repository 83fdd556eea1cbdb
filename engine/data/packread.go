package data

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// loadPacked opens a packed file and checks all of it. The images of the sets are the mapped file itself: nothing is copied,
// and processes that read one file share its pages. The mapping lasts as long as the process.
func loadPacked(spec Spec) (*Pair, error) {
	file, unmap, err := mapFile(spec.Path)
	if err != nil {
		return nil, fmt.Errorf("packed file %s: %w", spec.Path, reason(err))
	}
	pair, err := parsePacked(file)
	if err != nil {
		unmap()
		return nil, fmt.Errorf("packed file %s %w", spec.Path, err)
	}
	pair.Train.Mapped, pair.Test.Mapped = true, true
	return pair, nil
}

// mapFile maps a file into memory, to read only.
func mapFile(path string) (content []byte, unmap func(), err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // of a pipe no writer is waited for
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() // a mapping outlives it
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("is not a regular file")
	}
	if info.Size() < packFixed {
		return nil, nil, fmt.Errorf("has %d bytes; a header alone has %d", info.Size(), packPage)
	}
	content, err = syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("mapping it into memory: %w", err)
	}
	return content, func() { _ = syscall.Munmap(content) }, nil
}

// parsePacked checks a packed file and returns its sets, whose images lie in it. Errors continue a sentence that begins with
// the file's name.
func parsePacked(file []byte) (*Pair, error) {
	h, err := readPackHeader(file)
	if err != nil {
		return nil, err
	}
	if bad := h.damage(file); len(bad) > 0 {
		return nil, errors.New(bad[0] + more(len(bad)-1))
	}
	pair := &Pair{Train: h.about.Train.set(file), Test: h.about.Test.set(file)}
	return pair, pair.Check()
}

// more says how many chunks are damaged beside the one that is told of.
func more(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; so are %d other chunks: 'broadside data verify' lists them", n)
}

// packHeader is the header of a file, checked.
type packHeader struct {
	about packedPair
	sums  []uint32
	start int64
	chunk int64
}

// readPackHeader reads and checks the header. No byte of it may differ from what Pack wrote.
func readPackHeader(file []byte) (*packHeader, error) {
	if len(file) < packFixed || string(file[:len(packMagic)]) != packMagic {
		return nil, fmt.Errorf("is no packed data set: it does not begin with %q", packMagic)
	}
	order := binary.LittleEndian
	if v := order.Uint32(file[8:]); v != packVersion {
		return nil, fmt.Errorf("has version %d of the packed format (bytes 8 to 11); version %d is read: pack the set anew", v, packVersion)
	}
	size, start := order.Uint64(file[16:]), order.Uint64(file[24:])
	if size != uint64(len(file)) {
		return nil, fmt.Errorf("has %d bytes, but %d by its header (bytes 16 to 23): it is cut off, too long or damaged", len(file), size)
	}
	if start < packPage || start%packPage != 0 || start > size {
		return nil, fmt.Errorf("is damaged in its header: the sections begin at %d (bytes 24 to 31)", start)
	}
	if want, got := order.Uint32(file[packFixed-4:]), headerSum(file[:start]); want != got {
		return nil, fmt.Errorf("is damaged in its header, bytes 0 to %d: the checksum is %08x, not %08x (bytes %d to %d)",
			start-1, got, want, packFixed-4, packFixed-1)
	}
	h := &packHeader{start: int64(start), chunk: int64(order.Uint32(file[12:]))}
	description, sums := order.Uint64(file[32:]), order.Uint64(file[40:])
	if description > packMaxDescription || packFixed+description > start || h.chunk < packPage || h.chunk%packPage != 0 ||
		sums != (size-start+uint64(h.chunk)-1)/uint64(h.chunk) {
		return nil, fmt.Errorf("has a header that contradicts itself: %d bytes of description, %d chunks of %d", description, sums, h.chunk)
	}
	table := packFixed + (description+3)/4*4
	if table+4*sums > start {
		return nil, fmt.Errorf("has a header that contradicts itself: %d checksums do not fit before byte %d", sums, start)
	}
	for i := range sums {
		h.sums = append(h.sums, order.Uint32(file[table+4*i:]))
	}
	return h, h.describe(file[packFixed:packFixed+description], int64(size))
}

// describe reads the description and checks that the sections are where the format puts them.
func (h *packHeader) describe(text []byte, size int64) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&h.about); err != nil || d.InputOffset() != int64(len(text)) {
		return fmt.Errorf("has a description that is not as the format wants it: %v", err)
	}
	for _, s := range []*packedSet{&h.about.Train, &h.about.Test} {
		pixels := int64(1)
		for _, n := range []int{s.Count, s.H, s.W, s.C} {
			if n <= 0 || int64(n) > size/pixels {
				return fmt.Errorf("describes %s as %d images of %dx%dx%d, more than the file holds", s.Name, s.Count, s.H, s.W, s.C)
			}
			pixels *= int64(n)
		}
		if s.Count > int(size/4) {
			return fmt.Errorf("describes %s with %d labels, more than the file holds", s.Name, s.Count)
		}
	}
	at := h.start
	for _, s := range h.about.sections() {
		if s.offset != pages(at) || s.size > size-s.offset {
			return fmt.Errorf("describes the %s as %d bytes at %d; want them at %d of %d", s.what, s.size, s.offset, pages(at), size)
		}
		at = s.offset + s.size
	}
	if at != size {
		return fmt.Errorf("has %d bytes behind the last section", size-at)
	}
	return nil
}

// set returns a set whose images lie in the file.
func (s *packedSet) set(file []byte) *Set {
	n := int64(s.Count) * int64(s.H) * int64(s.W) * int64(s.C)
	labels := make([]int32, s.Count)
	for i := range labels {
		labels[i] = int32(binary.LittleEndian.Uint32(file[s.Labels+4*int64(i):]))
	}
	return &Set{Name: s.Name, Images: file[s.Images : s.Images+n : s.Images+n], Labels: labels, H: s.H, W: s.W, C: s.C,
		Classes: s.Classes, ClassNames: s.ClassNames, Mean: s.Mean, Std: s.Std}
}

// damage takes the checksum of every chunk, on all cores, and says of each one that is wrong where it is and what it holds.
func (h *packHeader) damage(file []byte) []string {
	var next atomic.Int64
	var mutex sync.Mutex
	var bad []int
	var wait sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(h.sums)) {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(h.sums); i = int(next.Add(1)) - 1 {
				from, to := h.bounds(i, int64(len(file)))
				if crc32.Checksum(file[from:to], packCRC) != h.sums[i] {
					mutex.Lock()
					bad = append(bad, i)
					mutex.Unlock()
				}
			}
		})
	}
	wait.Wait()
	slices.Sort(bad)
	out := make([]string, len(bad))
	for k, i := range bad {
		from, to := h.bounds(i, int64(len(file)))
		out[k] = fmt.Sprintf("is damaged in chunk %d, bytes %d to %d (%s)", i, from, to-1, h.holds(from, to))
	}
	return out
}

// bounds is where a chunk begins and ends.
func (h *packHeader) bounds(i int, size int64) (from, to int64) {
	from = h.start + int64(i)*h.chunk
	return from, min(from+h.chunk, size)
}

// holds says what lies between two offsets.
func (h *packHeader) holds(from, to int64) string {
	var parts []string
	for _, s := range h.about.sections() {
		if a, b := max(from, s.offset), min(to, s.offset+s.size); a < b {
			item := s.size / s.items
			parts = append(parts, fmt.Sprintf("%s: %d to %d", s.what, (a-s.offset)/item, (b-1-s.offset)/item))
		}
	}
	return strings.Join(parts, ", ")
}
