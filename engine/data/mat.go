package data

import (
	"bufio"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Types of elements in a MAT-file of level 5, as MathWorks documents them.
const (
	matInt8       = 1
	matUint8      = 2
	matInt32      = 5
	matUint32     = 6
	matMatrix     = 14
	matCompressed = 15
)

// Classes of arrays.
const (
	matClassDouble = 6
	matClassUint8  = 9
	matClassUint64 = 15
)

const (
	matHeaderBytes = 128
	matMaxName     = 1024
	matMaxDims     = 32
	matComplex     = 0x08
)

// matArray is an array of a MAT-file, up to its elements.
type matArray struct {
	name  string
	class byte
	dims  []int
	r     *matReader // at the tag of the real part
}

// matReader reads the sub-elements of an array.
type matReader struct {
	io.Reader
	order binary.ByteOrder
}

// matTag is the head of a sub-element.
type matTag struct {
	kind  uint32
	bytes int64
	small []byte // the data, where the tag holds them
}

// readMAT reads a MAT-file of level 5 and calls visit with each of its numeric arrays; where visit wants an array, it
// returns true and has read all of its elements. limit is the size of the file. Nothing is allocated that is not bounded by
// it. Errors continue a sentence that begins with the file's name.
func readMAT(src io.Reader, limit int64, visit func(a *matArray, limit int64) (bool, error)) error {
	header := make([]byte, matHeaderBytes)
	if n, err := io.ReadFull(src, header); err != nil {
		return fmt.Errorf("is truncated: %d bytes of a %d-byte MAT header: %w", n, len(header), err)
	}
	order, err := matOrder(header)
	if err != nil {
		return err
	}
	for at := int64(matHeaderBytes); at < limit; {
		tag := make([]byte, 8)
		if _, err := io.ReadFull(src, tag); err != nil {
			return fmt.Errorf("is truncated in the element at byte %d: %w", at, err)
		}
		kind, n := order.Uint32(tag), int64(order.Uint32(tag[4:]))
		if left := limit - at - 8; n > left {
			return fmt.Errorf("is truncated: the element at byte %d declares %d bytes, and %d follow", at, n, left)
		}
		section := &io.LimitedReader{R: src, N: n}
		if err := readMATElement(section, kind, order, visit); err != nil {
			return fmt.Errorf("cannot be used: the element at byte %d: %w", at, err)
		}
		if _, err := io.Copy(io.Discard, section); err != nil {
			return fmt.Errorf("is truncated in the element at byte %d: %w", at, err)
		}
		at += 8 + n
	}
	return nil
}

// matOrder returns the byte order that the header declares.
func matOrder(header []byte) (binary.ByteOrder, error) {
	var order binary.ByteOrder = binary.LittleEndian
	switch mark := string(header[126:128]); mark {
	case "IM":
	case "MI":
		order = binary.BigEndian
	default:
		return nil, errors.New("is no MAT-file of level 5: it has no mark of its byte order at byte 126")
	}
	switch version := order.Uint16(header[124:]); version {
	case 0x0100:
		return order, nil
	case 0x0200:
		return nil, errors.New("is a MAT-file of version 7.3 (HDF5); save it with -v7, which is level 5")
	default:
		return nil, fmt.Errorf("is a MAT-file of version 0x%04x; level 5 is 0x0100", version)
	}
}

// readMATElement reads one array, plain or compressed.
func readMATElement(section *io.LimitedReader, kind uint32, order binary.ByteOrder, visit func(*matArray, int64) (bool, error)) error {
	body := section
	var packed *bufio.Reader
	if kind == matCompressed {
		packed = bufio.NewReader(section)
		limit := section.N * maxDeflateRatio
		z, err := zlib.NewReader(packed)
		if err != nil {
			return err
		}
		tag := make([]byte, 8)
		if _, err := io.ReadFull(z, tag); err != nil {
			return fmt.Errorf("its tag: %w", err)
		}
		kind, body = order.Uint32(tag), &io.LimitedReader{R: z, N: int64(order.Uint32(tag[4:]))}
		if body.N > limit {
			return fmt.Errorf("declares %d bytes, but can hold at most %d", body.N, limit)
		}
	}
	if kind != matMatrix {
		return fmt.Errorf("is of type %d; arrays (%d), plain or compressed, are read", kind, matMatrix)
	}
	wanted, err := readMATArray(&matReader{body, order}, body.N, visit)
	if err != nil || !wanted {
		return err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	if body.N > 0 {
		return io.ErrUnexpectedEOF
	}
	if packed != nil { // read to the end, which makes zlib check its sum
		return atEnd(body.R)
	}
	return nil
}

// readMATArray reads the head of an array and shows it.
func readMATArray(r *matReader, limit int64, visit func(*matArray, int64) (bool, error)) (bool, error) {
	a := &matArray{r: r}
	flags, err := r.bytes(matUint32, 8, 8)
	if err != nil {
		return false, fmt.Errorf("its flags: %w", err)
	}
	word := r.order.Uint32(flags)
	a.class = byte(word)
	dims, err := r.bytes(matInt32, 8, 4*matMaxDims)
	if err != nil {
		return false, fmt.Errorf("its dimensions: %w", err)
	}
	size := int64(1)
	for ; len(dims) >= 4; dims = dims[4:] {
		d := int64(int32(r.order.Uint32(dims)))
		if d < 0 || d > 0 && size > maxMATElements/d {
			return false, fmt.Errorf("absurd dimension %d", d)
		}
		size *= d
		a.dims = append(a.dims, int(d))
	}
	name, err := r.bytes(matInt8, 0, matMaxName)
	if err != nil {
		return false, fmt.Errorf("its name: %w", err)
	}
	a.name = string(name)
	if a.class < matClassDouble || a.class > matClassUint64 {
		return false, nil // text, cells, structures
	}
	if byte(word>>8)&matComplex != 0 {
		return false, nil
	}
	return visit(a, limit)
}

// maxMATElements is the most elements an array may have: level 5 counts bytes with 32 bits.
const maxMATElements = 1 << 32

// tag reads the head of a sub-element, in its long or its small form.
func (r *matReader) tag() (matTag, error) {
	b := make([]byte, 8)
	if _, err := io.ReadFull(r, b); err != nil {
		return matTag{}, err
	}
	first := r.order.Uint32(b)
	if n := first >> 16; n != 0 {
		if n > 4 {
			return matTag{}, fmt.Errorf("a small element of %d bytes", n)
		}
		return matTag{first & 0xffff, int64(n), b[4 : 4+n]}, nil
	}
	return matTag{kind: first, bytes: int64(r.order.Uint32(b[4:]))}, nil
}

// bytes reads a whole sub-element that must be of a kind and have from least to most bytes.
func (r *matReader) bytes(kind uint32, least, most int64) ([]byte, error) {
	t, err := r.tag()
	if err != nil {
		return nil, err
	}
	if t.kind != kind || t.bytes < least || t.bytes > most {
		return nil, fmt.Errorf("%d bytes of type %d where %d to %d of type %d belong", t.bytes, t.kind, least, most, kind)
	}
	if t.small != nil {
		return t.small, nil
	}
	data := make([]byte, (t.bytes+7)/8*8)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	return data[:t.bytes], nil
}

// len is the number of elements.
func (a *matArray) len() int {
	n := 1
	for _, d := range a.dims {
		n *= d
	}
	return n
}
