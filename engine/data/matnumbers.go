package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// matNumber is how numbers of a type lie in a file.
type matNumber struct {
	bytes int
	read  func(o binary.ByteOrder, b []byte) float64
}

// matNumbers are the types of numbers, by the number of their type. An array's elements may be stored in a smaller type
// than its class.
var matNumbers = map[uint32]matNumber{
	matInt8:   {1, func(_ binary.ByteOrder, b []byte) float64 { return float64(int8(b[0])) }},
	matUint8:  {1, func(_ binary.ByteOrder, b []byte) float64 { return float64(b[0]) }},
	3:         {2, func(o binary.ByteOrder, b []byte) float64 { return float64(int16(o.Uint16(b))) }},
	4:         {2, func(o binary.ByteOrder, b []byte) float64 { return float64(o.Uint16(b)) }},
	matInt32:  {4, func(o binary.ByteOrder, b []byte) float64 { return float64(int32(o.Uint32(b))) }},
	matUint32: {4, func(o binary.ByteOrder, b []byte) float64 { return float64(o.Uint32(b)) }},
	7:         {4, func(o binary.ByteOrder, b []byte) float64 { return float64(math.Float32frombits(o.Uint32(b))) }},
	9:         {8, func(o binary.ByteOrder, b []byte) float64 { return math.Float64frombits(o.Uint64(b)) }},
	12:        {8, func(o binary.ByteOrder, b []byte) float64 { return float64(int64(o.Uint64(b))) }},
	13:        {8, func(o binary.ByteOrder, b []byte) float64 { return float64(o.Uint64(b)) }},
}

// elements reads the tag of the elements and returns their type and a reader of them, after checking that they are as many
// as the dimensions say and no more than limit bytes.
func (a *matArray) elements(limit int64) (matNumber, uint32, io.Reader, error) {
	t, err := a.r.tag()
	if err != nil {
		return matNumber{}, 0, nil, fmt.Errorf("the elements of %s: %w", a.name, err)
	}
	number, ok := matNumbers[t.kind]
	if !ok {
		return matNumber{}, 0, nil, fmt.Errorf("the elements of %s have type %d, which are no numbers", a.name, t.kind)
	}
	if want := int64(a.len()) * int64(number.bytes); t.bytes != want || t.bytes > limit {
		return matNumber{}, 0, nil, fmt.Errorf("%s is %v and needs %d bytes, but declares %d, of which at most %d can follow",
			a.name, a.dims, want, t.bytes, limit)
	}
	if t.small != nil {
		return number, t.kind, bytes.NewReader(t.small), nil
	}
	return number, t.kind, a.r, nil
}

// whole reads all elements, each of which must be a whole number from least to most.
func (a *matArray) whole(limit int64, least, most int) ([]int32, error) {
	number, _, r, err := a.elements(limit)
	if err != nil {
		return nil, err
	}
	out := make([]int32, a.len())
	b := make([]byte, number.bytes)
	for i := range out {
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, fmt.Errorf("%s ends after %d of %d elements: %w", a.name, i, len(out), err)
		}
		v := number.read(a.r.order, b)
		if v != math.Trunc(v) || v < float64(least) || v > float64(most) {
			return nil, fmt.Errorf("%s has the label %g at %d; labels are %d to %d", a.name, v, i, least, most)
		}
		out[i] = int32(v)
	}
	return out, nil
}
