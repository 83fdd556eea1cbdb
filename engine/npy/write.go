package npy

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Number is a type of elements that is written.
type Number interface {
	byte | int32 | int64 | float32 | float64
}

// Write writes an array of the given shape in C order, in version 1.0. numpy.load reads it.
func Write[T Number](w io.Writer, shape []int, elements []T) error {
	n := 1
	for _, d := range shape {
		n *= d
	}
	if n != len(elements) {
		return fmt.Errorf("writing %d elements in the shape %v, which has %d", len(elements), shape, n)
	}
	if _, err := w.Write(header(typeOf[T](), shape)); err != nil {
		return err
	}
	if raw, ok := any(elements).([]byte); ok {
		_, err := w.Write(raw)
		return err
	}
	return binary.Write(w, binary.LittleEndian, elements)
}

func typeOf[T Number]() string {
	var zero T
	switch any(zero).(type) {
	case byte:
		return "|u1"
	case int32:
		return "<i4"
	case int64:
		return "<i8"
	case float32:
		return "<f4"
	}
	return "<f8"
}

// growthDigits is the room for the first number of a shape.
const growthDigits = 21

// header is all that comes before the elements.
func header(descr string, shape []int) []byte {
	dims := make([]string, len(shape))
	for i, d := range shape {
		dims[i] = strconv.Itoa(d)
	}
	tuple := strings.Join(dims, ", ")
	if len(dims) == 1 {
		tuple += ","
	}
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, tuple)
	if len(dims) > 0 { // NumPy leaves room to lengthen an array in place; with it the bytes are NumPy's own
		text += strings.Repeat(" ", max(growthDigits-len(dims[0]), 0))
	}
	start := len(magic) + 4
	text += strings.Repeat(" ", alignment-(start+len(text)+1)%alignment) + "\n"
	out := append([]byte(magic), 1, 0)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(text)))
	return append(out, text...)
}
