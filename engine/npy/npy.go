// Package npy reads and writes arrays in NumPy's .npy format, versions 1.0 to 3.0: a magic string, a header that is a
// Python dictionary, then the elements. Only arrays of numbers in C order are read.
package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	magic = "\x93NUMPY"
	// maxHeader bounds a header; that of an array of numbers has about a hundred bytes.
	maxHeader = 1 << 16
	// alignment of the elements from the start of the file, as NumPy writes them.
	alignment = 64
)

// Header is what a .npy file says of its array.
type Header struct {
	Type  string // kind and bytes of an element, as in u1, i8 or f4
	Order binary.ByteOrder
	Shape []int
}

// ElementBytes returns the size of an element.
func (h *Header) ElementBytes() int { return int(h.Type[1] - '0') }

// Bytes returns the size of all elements.
func (h *Header) Bytes() int64 { return int64(h.Len()) * int64(h.ElementBytes()) }

// Len returns the number of elements.
func (h *Header) Len() int {
	n := 1
	for _, d := range h.Shape {
		n *= d
	}
	return n
}

// Ints returns elements of an integer type as they lie in a file.
func (h *Header) Ints(raw []byte) ([]int64, error) {
	size := h.ElementBytes()
	if kind := h.Type[0]; kind != 'i' && kind != 'u' {
		return nil, fmt.Errorf("holds elements of type %s; whole numbers are needed", h.Type)
	}
	out := make([]int64, len(raw)/size)
	for i := range out {
		var wide [8]byte
		b := raw[i*size : (i+1)*size]
		negative := h.Type[0] == 'i' && b[h.lastByte()]&0x80 != 0
		for k := range wide {
			switch {
			case k < size && h.Order == binary.LittleEndian:
				wide[k] = b[k]
			case k < size:
				wide[k] = b[size-1-k]
			case negative:
				wide[k] = 0xff
			}
		}
		v := binary.LittleEndian.Uint64(wide[:])
		if h.Type[0] == 'u' && v > math.MaxInt64 {
			return nil, fmt.Errorf("element %d is %d: too large", i, v)
		}
		out[i] = int64(v)
	}
	return out, nil
}

// lastByte is the place of an element's most significant byte.
func (h *Header) lastByte() int {
	if h.Order == binary.LittleEndian {
		return h.ElementBytes() - 1
	}
	return 0
}

// Read reads a header. What follows in r are the elements, of which there are at most limit bytes: a header that
// declares more is refused. Errors continue a sentence that begins with the file's name.
func Read(r io.Reader, limit int64) (*Header, error) {
	start := make([]byte, len(magic)+2)
	if _, err := io.ReadFull(r, start); err != nil || string(start[:len(magic)]) != magic {
		return nil, errors.New(`is no .npy file: it does not begin with \x93NUMPY`)
	}
	length := make([]byte, 4)
	switch major := start[len(magic)]; major {
	case 1:
		length = length[:2]
	case 2, 3:
	default:
		return nil, fmt.Errorf("has .npy version %d.%d; versions 1.0 to 3.0 are read", major, start[len(magic)+1])
	}
	if _, err := io.ReadFull(r, length); err != nil {
		return nil, fmt.Errorf("is truncated in its header: %w", err)
	}
	n := int(binary.LittleEndian.Uint16(length))
	if len(length) == 4 {
		n = int(binary.LittleEndian.Uint32(length))
	}
	if n > maxHeader {
		return nil, fmt.Errorf("declares a header of %d bytes; at most %d are read", n, maxHeader)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, fmt.Errorf("is truncated in its header: %w", err)
	}
	h, err := parse(string(text))
	if err != nil {
		return nil, err
	}
	size := limit - int64(len(start)+len(length)+n)
	left := size / int64(h.ElementBytes())
	for _, d := range h.Shape {
		if d == 0 {
			return nil, fmt.Errorf("is empty: its shape is %v", h.Shape)
		}
		left /= int64(d)
	}
	if left <= 0 {
		return nil, fmt.Errorf("declares elements of type %s in the shape %v, more than the %d bytes that follow", h.Type, h.Shape, max(size, 0))
	}
	return h, nil
}
