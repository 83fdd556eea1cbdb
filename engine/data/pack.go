package data

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"

	"broadside/engine/internal/durable"
)

// The packed format, which docs/FORMATS.md describes: a header with everything but pixels and labels, and the checksums of
// the chunks of what follows; then the sections, each as it lies in memory. All numbers are little-endian.
const (
	// PackedExtension is how the names of packed files end.
	PackedExtension = ".bspack"

	packMagic   = "\x89BSPACK\n" // no text, and not what a transfer in text mode leaves of it
	packVersion = 1
	packFixed   = 64      // bytes of the header before the description
	packPage    = 4096    // sections begin at multiples of it
	packChunk   = 1 << 20 // bytes with a checksum of their own
	// packMaxDescription bounds the description of a set: a thousand classes with long names need a tenth of it.
	packMaxDescription = 1 << 20
)

// packCRC is the polynomial of the checksums, which processors have an instruction for.
var packCRC = crc32.MakeTable(crc32.Castagnoli)

// packedSet describes one of the two sets of a packed file. Its sections begin at Images and Labels.
type packedSet struct {
	Name       string    `json:"name"`
	Count      int       `json:"count"`
	H          int       `json:"h"`
	W          int       `json:"w"`
	C          int       `json:"c"`
	Classes    int       `json:"classes"`
	ClassNames []string  `json:"class_names,omitempty"`
	Mean       []float32 `json:"mean"`
	Std        []float32 `json:"std"`
	Images     int64     `json:"images"` // offset of [Count][H][W][C] bytes
	Labels     int64     `json:"labels"` // offset of [Count] int32
}

// packedPair describes both sets.
type packedPair struct {
	Train packedSet `json:"train"`
	Test  packedSet `json:"test"`
}

// packSection is a part of the file behind the header.
type packSection struct {
	what         string // for messages: images of cifar10 train
	offset, size int64
	items        int64
}

// sections lists the parts of the file in the order in which they lie there.
func (p *packedPair) sections() []packSection {
	var out []packSection
	for _, s := range []*packedSet{&p.Train, &p.Test} {
		out = append(out,
			packSection{"images of " + s.Name, s.Images, int64(s.Count) * int64(s.H) * int64(s.W) * int64(s.C), int64(s.Count)},
			packSection{"labels of " + s.Name, s.Labels, 4 * int64(s.Count), int64(s.Count)})
	}
	return out
}

// pages rounds up to whole pages.
func pages(n int64) int64 { return (n + packPage - 1) / packPage * packPage }

// packPlan is a packed file before its checksums are known.
type packPlan struct {
	about       packedPair
	description []byte
	chunk       int64 // bytes of a chunk
	start, size int64 // where the sections begin, and the size of the file
}

// chunks is the number of chunks behind the header.
func (l *packPlan) chunks() int64 { return (l.size - l.start + l.chunk - 1) / l.chunk }

// planPack lays the pair out. Where the sections lie depends on the length of the description, which holds their offsets:
// it is laid out anew until it fits.
func planPack(p *Pair, chunk int64) (*packPlan, error) {
	l := &packPlan{chunk: chunk}
	l.about = packedPair{packedSetOf(p.Train), packedSetOf(p.Test)}
	for start := int64(packPage); ; start = l.start {
		at := start
		for _, s := range []*packedSet{&l.about.Train, &l.about.Test} {
			s.Images = at
			s.Labels = pages(at + int64(s.Count)*int64(s.H)*int64(s.W)*int64(s.C))
			at = pages(s.Labels + 4*int64(s.Count))
		}
		last := l.about.sections()[3]
		l.size = last.offset + last.size
		text, err := json.Marshal(l.about)
		if err != nil {
			return nil, err
		}
		if len(text) > packMaxDescription {
			return nil, fmt.Errorf("the description of %s has %d bytes; at most %d fit", p.Train.Name, len(text), packMaxDescription)
		}
		l.description, l.start = text, start
		if l.start = pages(l.tableAt() + 4*l.chunks()); l.start <= start {
			l.start = start
			return l, nil
		}
	}
}

// tableAt is where the checksums of the chunks begin.
func (l *packPlan) tableAt() int64 { return packFixed + (int64(len(l.description))+3)/4*4 }

func packedSetOf(s *Set) packedSet {
	return packedSet{Name: s.Name, Count: s.Len(), H: s.H, W: s.W, C: s.C, Classes: s.Classes, ClassNames: s.ClassNames, Mean: s.Mean, Std: s.Std}
}

// Pack writes the pair to a packed file, in the place of what is at path, whole or not at all. It returns the size of the
// file. The same pair gives the same bytes.
func (p *Pair) Pack(path string) (int64, error) {
	if filepath.Ext(path) != PackedExtension {
		return 0, fmt.Errorf("packing to %s: the name of a packed file ends with %s", path, PackedExtension)
	}
	if err := p.Check(); err != nil {
		return 0, fmt.Errorf("packing to %s: %w", path, err)
	}
	if err := p.InMemory(); err != nil {
		return 0, fmt.Errorf("packing to %s: %w", path, err)
	}
	var size int64
	err := durable.Replace(path, func(w io.Writer) (err error) {
		size, err = p.pack(w, packChunk)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("packing to %s: %w", path, reason(err))
	}
	return size, nil
}

// pack writes the file: once to nowhere for the checksums, which come first, and once to w.
func (p *Pair) pack(w io.Writer, chunk int64) (int64, error) {
	l, err := planPack(p, chunk)
	if err != nil {
		return 0, err
	}
	sums := &chunkSums{chunk: chunk}
	if err := p.writeSections(sums, l); err != nil {
		return 0, err
	}
	if _, err := w.Write(l.header(sums.all())); err != nil {
		return 0, err
	}
	return l.size, p.writeSections(w, l)
}

// header is all that comes before the sections.
func (l *packPlan) header(sums []uint32) []byte {
	h := make([]byte, l.start)
	copy(h, packMagic)
	order := binary.LittleEndian
	order.PutUint32(h[8:], packVersion)
	order.PutUint32(h[12:], uint32(l.chunk))
	order.PutUint64(h[16:], uint64(l.size))
	order.PutUint64(h[24:], uint64(l.start))
	order.PutUint64(h[32:], uint64(len(l.description)))
	order.PutUint64(h[40:], uint64(len(sums)))
	copy(h[packFixed:], l.description)
	for i, sum := range sums {
		order.PutUint32(h[l.tableAt()+4*int64(i):], sum)
	}
	order.PutUint32(h[packFixed-4:], headerSum(h))
	return h
}

// headerSum is the checksum of a header, in which its own place counts as zero.
func headerSum(h []byte) uint32 {
	sum := crc32.Checksum(h[:packFixed-4], packCRC)
	sum = crc32.Update(sum, packCRC, make([]byte, 4))
	return crc32.Update(sum, packCRC, h[packFixed:])
}

// writeSections writes images and labels, with zeros up to the next page between them.
func (p *Pair) writeSections(w io.Writer, l *packPlan) error {
	at := l.start
	write := func(offset int64, data []byte) error {
		if _, err := w.Write(make([]byte, offset-at)); err != nil {
			return err
		}
		at = offset + int64(len(data))
		_, err := w.Write(data)
		return err
	}
	for i, s := range []*Set{p.Train, p.Test} {
		about := []*packedSet{&l.about.Train, &l.about.Test}[i]
		var labels bytes.Buffer
		if err := binary.Write(&labels, binary.LittleEndian, s.Labels); err != nil {
			return err
		}
		if err := write(about.Images, s.Images); err != nil {
			return err
		}
		if err := write(about.Labels, labels.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// chunkSums takes the checksum of every chunk of what is written to it.
type chunkSums struct {
	chunk int64
	sums  []uint32
	sum   uint32
	n     int64 // bytes of the chunk under way
}

func (c *chunkSums) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		part := p[:min(int64(len(p)), c.chunk-c.n)]
		c.sum, c.n, p = crc32.Update(c.sum, packCRC, part), c.n+int64(len(part)), p[len(part):]
		if c.n == c.chunk {
			c.sums, c.sum, c.n = append(c.sums, c.sum), 0, 0
		}
	}
	return written, nil
}

// all returns the checksums, the last chunk's included.
func (c *chunkSums) all() []uint32 {
	if c.n > 0 {
		return append(c.sums, c.sum)
	}
	return c.sums
}
