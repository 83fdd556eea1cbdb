package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// parseHeader reads the JSON header strictly: no name twice, no missing or unknown field, no number
// that is not a size. It returns the tensors in the header's order, and the metadata (never nil).
func parseHeader(raw []byte) ([]entry, map[string]string, error) {
	if !utf8.Valid(raw) {
		return nil, nil, errors.New("not UTF-8")
	}
	if len(raw) == 0 || raw[0] != '{' { // the format forbids even white space before it
		return nil, nil, errors.New("does not begin with {")
	}
	fields, err := parseObject(raw)
	if err != nil {
		return nil, nil, err
	}
	var entries []entry
	meta := map[string]string{}
	for _, f := range fields {
		if f.name == metadataKey {
			if err := parseMeta(f.value, meta); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", metadataKey, err)
			}
			continue
		}
		e, err := parseEntry(f.value)
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", f.name, err)
		}
		e.name = f.name
		entries = append(entries, e)
	}
	return entries, meta, nil
}

// field is a name and a value of a JSON object.
type field struct {
	name  string
	value json.RawMessage
}

// parseObject splits a JSON object into its fields, in order, and refuses a name that comes twice.
func parseObject(raw []byte) ([]field, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var fields []field
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name := t.(string) // the decoder accepts no other token as a name
		if seen[name] {
			return nil, fmt.Errorf("name %q comes twice", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		fields = append(fields, field{name, value})
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, err
	}
	if rest := bytes.TrimLeft(raw[d.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return nil, errors.New("more data behind the JSON object")
	}
	return fields, nil
}

func parseMeta(raw []byte, meta map[string]string) error {
	fields, err := parseObject(raw)
	if err != nil {
		return err
	}
	for _, f := range fields {
		if len(f.value) == 0 || f.value[0] != '"' {
			return fmt.Errorf("value of %q is not a string", f.name)
		}
		var s string
		if err := json.Unmarshal(f.value, &s); err != nil {
			return fmt.Errorf("value of %q: %w", f.name, err)
		}
		meta[f.name] = s
	}
	return nil
}

// parseEntry reads {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}.
func parseEntry(raw []byte) (entry, error) {
	var e entry
	fields, err := parseObject(raw)
	if err != nil {
		return e, err
	}
	found := map[string]bool{}
	var offsets []int64
	for _, f := range fields {
		found[f.name] = true
		switch f.name {
		case "dtype":
			err = json.Unmarshal(f.value, &e.dtype)
		case "shape":
			var shape []int64
			shape, err = parseSizes(f.value)
			e.shape = make([]int, len(shape))
			for i, d := range shape {
				e.shape[i] = int(d)
			}
		case "data_offsets":
			offsets, err = parseSizes(f.value)
		default:
			err = errors.New("unknown field")
		}
		if err != nil {
			return e, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for _, name := range []string{"dtype", "shape", "data_offsets"} {
		if !found[name] {
			return e, fmt.Errorf("lacks %s", name)
		}
	}
	return e, checkEntry(&e, offsets)
}

// checkEntry checks that type, shape and offsets agree, and stores the offsets.
func checkEntry(e *entry, offsets []int64) error {
	size, ok := dtypes[e.dtype]
	if !ok {
		return fmt.Errorf("element type %q is not supported; only F32, F64, F16, BF16 and I64 are", e.dtype)
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] {
		return fmt.Errorf("data_offsets %v are not [begin, end]", offsets)
	}
	count, err := elements(e.shape)
	if err != nil {
		return err
	}
	e.begin, e.end = offsets[0], offsets[1]
	if e.end-e.begin != count*size {
		return fmt.Errorf("%d bytes at data offset %d for shape %v of %s, which takes %d",
			e.end-e.begin, e.begin, e.shape, e.dtype, count*size)
	}
	return nil
}

// parseSizes reads an array of whole numbers that are not negative and, as they count bytes or
// elements of a file, small enough that a sum of two does not overflow.
func parseSizes(raw []byte) ([]int64, error) {
	if len(raw) == 0 || raw[0] != '[' || bytes.Contains(raw, []byte("null")) {
		return nil, errors.New("not an array of numbers")
	}
	var sizes []int64
	if err := json.Unmarshal(raw, &sizes); err != nil {
		return nil, err
	}
	for _, s := range sizes {
		if s < 0 || s > math.MaxInt64/2 {
			return nil, fmt.Errorf("%d is not a size", s)
		}
	}
	return sizes, nil
}
