package checkpoint

import (
	"broadside/engine/internal/durable"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"unicode/utf8"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Write writes a checkpoint so that path holds either what it held before or all of the new one,
// even if the machine stops: to a temporary file beside it, synced, renamed, the folder synced. On an
// error the temporary file is removed. The same checkpoint gives the same bytes. Two writers of one
// path at a time are not allowed.
func Write(path string, ck *Checkpoint) error {
	entries, err := layout(ck)
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", path, err)
	}
	header, err := encodeHeader(ck, entries)
	if err != nil {
		return fmt.Errorf("checkpoint %s: %w", path, err)
	}
	err = durable.Replace(path, func(w io.Writer) error { return encode(w, ck, header, entries) })
	if err != nil {
		return fmt.Errorf("write checkpoint %s: %w", path, err)
	}
	return nil
}

func encode(w io.Writer, ck *Checkpoint, header []byte, entries []entry) error {
	var length [lengthBytes]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(header)))
	if _, err := w.Write(length[:]); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, e := range entries {
		v, _, err := values(ck.Tensors[e.name])
		if err == nil {
			err = writeValues(w, v)
		}
		if err != nil {
			return fmt.Errorf("tensor %q: %w", e.name, err)
		}
	}
	return nil
}

// encodeHeader returns the header, padded with spaces so that the tensors behind it are aligned.
func encodeHeader(ck *Checkpoint, entries []entry) ([]byte, error) {
	sums, err := tensorSums(ck, entries)
	if err != nil {
		return nil, err
	}
	meta := map[string]string{}
	for k, v := range ck.Meta {
		if k == tensorCRCKey || k == headerCRCKey {
			return nil, fmt.Errorf("metadata key %q is reserved", k)
		}
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("metadata %q is not UTF-8", k)
		}
		meta[k] = v
	}
	meta[tensorCRCKey] = sums
	meta[headerCRCKey] = zeroCRC
	header := map[string]any{metadataKey: meta}
	for _, e := range entries {
		if !utf8.ValidString(e.name) {
			return nil, fmt.Errorf("tensor name %q is not UTF-8", e.name)
		}
		header[e.name] = map[string]any{"dtype": e.dtype, "shape": e.shape, "data_offsets": []int64{e.begin, e.end}}
	}
	raw, err := marshal(header)
	if err != nil {
		return nil, err
	}
	for (lengthBytes+len(raw))%alignment != 0 {
		raw = append(raw, ' ')
	}
	if len(raw) > maxHeaderBytes {
		return nil, fmt.Errorf("header of %d bytes; the format allows %d", len(raw), maxHeaderBytes)
	}
	return setHeaderCRC(raw, zeroCRC, formatCRC(crc32.Checksum(raw, castagnoli)))
}

// setHeaderCRC returns the header with the value of the header sum changed from one value to another.
func setHeaderCRC(header []byte, from, to string) ([]byte, error) {
	field := func(value string) []byte { return []byte(`"` + headerCRCKey + `":"` + value + `"`) }
	if bytes.Count(header, field(from)) != 1 {
		return nil, fmt.Errorf("metadata %s is not in its usual form", headerCRCKey)
	}
	return bytes.Replace(header, field(from), field(to), 1), nil
}

func tensorSums(ck *Checkpoint, entries []entry) (string, error) {
	sums := map[string]string{}
	for _, e := range entries {
		v, _, err := values(ck.Tensors[e.name])
		if err != nil {
			return "", fmt.Errorf("tensor %q %w", e.name, err)
		}
		h := crc32.New(castagnoli)
		if err := writeValues(h, v); err != nil {
			return "", err
		}
		sums[e.name] = formatCRC(h.Sum32())
	}
	raw, err := marshal(sums)
	return string(raw), err
}

func formatCRC(sum uint32) string { return fmt.Sprintf("%08x", sum) }

// marshal writes JSON with sorted keys and without HTML escapes.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// chunkBytes is how much is converted at a time.
const chunkBytes = 1 << 16

// writeValues writes numbers as little-endian bytes.
func writeValues(w io.Writer, v any) error {
	switch v := v.(type) {
	case []float32:
		return writeChunks(w, v, 4, func(b []byte, x float32) []byte {
			return binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		})
	case []float64:
		return writeChunks(w, v, 8, func(b []byte, x float64) []byte {
			return binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
		})
	case []int64:
		return writeChunks(w, v, 8, func(b []byte, x int64) []byte {
			return binary.LittleEndian.AppendUint64(b, uint64(x))
		})
	}
	return fmt.Errorf("element type %T cannot be written", v)
}

func writeChunks[T any](w io.Writer, v []T, size int, put func([]byte, T) []byte) error {
	buf := make([]byte, 0, min(chunkBytes, len(v)*size))
	for chunk := range slices.Chunk(v, chunkBytes/size) {
		buf = buf[:0]
		for _, x := range chunk {
			buf = put(buf, x)
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
