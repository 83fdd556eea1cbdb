// Package checkpoint writes and reads training state as one safetensors file.
//
// A file is an 8-byte little-endian header length, a JSON header and the raw little-endian tensors
// (https://github.com/huggingface/safetensors). Ours also carry a CRC32C of each tensor and of the
// header in the header's metadata, so any safetensors reader opens them and this one notices damage.
// Files without these sums, made by others, are read too.
package checkpoint

import (
	"fmt"
	"maps"
	"math"
	"slices"

	// gorgonia.org/tensor panics when it starts on a Go version that its release of this package does
	// not know; importing it here keeps the release in go.mod that does.
	_ "go4.org/unsafe/assume-no-moving-gc"
	"gorgonia.org/tensor"
)

// Checkpoint is named tensors and string metadata.
type Checkpoint struct {
	// Tensors are of type float32, float64 or int64.
	Tensors map[string]*tensor.Dense
	// Meta may not use the keys broadside.crc32c and broadside.header_crc32c.
	Meta map[string]string
}

// Metadata keys of the sums: a JSON object of eight hex digits per tensor, and eight hex digits for
// the header, computed with this value taken as zeros.
const (
	metadataKey  = "__metadata__"
	tensorCRCKey = "broadside.crc32c"
	headerCRCKey = "broadside.header_crc32c"
	zeroCRC      = "00000000"
)

const (
	lengthBytes    = 8         // the header length before the header
	maxHeaderBytes = 100 << 20 // as the format's own implementation allows: 100 MB
	alignment      = 8         // of the tensors in the file
)

// entry is a tensor's line in the header.
type entry struct {
	name       string
	dtype      string
	shape      []int
	begin, end int64 // in bytes behind the header
}

// dtypes maps the element types of the format that are read to their size in bytes. Those of 16 bits become float32.
var dtypes = map[string]int64{"F32": 4, "F64": 8, "I64": 8, "F16": 2, "BF16": 2}

// values returns a tensor's elements in row-major order as []float32, []float64 or []int64, and the
// format's name of the type.
func values(d *tensor.Dense) (any, string, error) {
	if d == nil {
		return nil, "", fmt.Errorf("is nil")
	}
	if d.IsMasked() {
		return nil, "", fmt.Errorf("has a mask, which a checkpoint cannot hold")
	}
	if d.DataOrder().IsColMajor() {
		return nil, "", fmt.Errorf("is column-major; a checkpoint holds row-major tensors")
	}
	if d.RequiresIterator() { // a view: its elements are not side by side
		d = d.Materialize().(*tensor.Dense)
	}
	switch v := d.Data().(type) {
	case []float32:
		return v, "F32", nil
	case []float64:
		return v, "F64", nil
	case []int64:
		return v, "I64", nil
	case float32: // a scalar
		return []float32{v}, "F32", nil
	case float64:
		return []float64{v}, "F64", nil
	case int64:
		return []int64{v}, "I64", nil
	}
	return nil, "", fmt.Errorf("has element type %v; a checkpoint holds float32, float64 and int64", d.Dtype())
}

// layout lists the tensors in file order with their offsets: by falling element size, then by name,
// so that each is aligned to its elements without gaps, which the format forbids.
func layout(ck *Checkpoint) ([]entry, error) {
	entries := make([]entry, 0, len(ck.Tensors))
	for _, name := range slices.Sorted(maps.Keys(ck.Tensors)) {
		if name == metadataKey {
			return nil, fmt.Errorf("tensor name %q is reserved by the format", name)
		}
		d := ck.Tensors[name]
		_, dtype, err := values(d)
		if err != nil {
			return nil, fmt.Errorf("tensor %q %w", name, err)
		}
		entries = append(entries, entry{name: name, dtype: dtype, shape: slices.Clone([]int(d.Shape()))})
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return int(dtypes[b.dtype] - dtypes[a.dtype]) })
	at := int64(0)
	for i := range entries {
		e := &entries[i]
		count, err := elements(e.shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q %w", e.name, err)
		}
		e.begin, e.end = at, at+count*dtypes[e.dtype]
		at = e.end
	}
	return entries, nil
}

// elements returns the number of elements of a shape, or an error if it is too large to address.
func elements(shape []int) (int64, error) {
	n := int64(1)
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("has a negative dimension in %v", shape)
		}
		if d > 0 && n > math.MaxInt64/8/int64(d) {
			return 0, fmt.Errorf("has an absurd shape %v", shape)
		}
		n *= int64(d)
	}
	return n, nil
}
