package checkpoint

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"slices"

	"gorgonia.org/tensor"
)

// Read reads a safetensors file and verifies it: its sums where it has them, and that the header's
// offsets cover the file without gap or overlap. An error names the file and, where it concerns one,
// the tensor and its offset in the file. Floats of 16 bits, as others store weights, become float32. Element types other
// than these, float32, float64 and int64, and tensors without elements, are refused.
func Read(path string) (*Checkpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read checkpoint %s: not a regular file", path)
	}
	ck, err := decode(bufio.NewReaderSize(f, 1<<20), info.Size())
	if err != nil {
		return nil, fmt.Errorf("read checkpoint %s: %w", path, err)
	}
	return ck, nil
}

// decode reads a file of the given size in bytes.
func decode(r io.Reader, size int64) (*Checkpoint, error) {
	var length [lengthBytes]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, fmt.Errorf("%d bytes are too few for a safetensors file: %w", size, err)
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n > maxHeaderBytes || int64(n) > size-lengthBytes {
		return nil, fmt.Errorf("no safetensors file, or cut off: header of %d bytes in a file of %d; it may have at most %d", n, size,
			min(maxHeaderBytes, max(0, size-lengthBytes)))
	}
	raw := make([]byte, n)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	entries, meta, err := parseHeader(raw)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	sums, err := takeSums(raw, meta, entries)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	start := lengthBytes + int64(n)
	if err := checkCover(entries, start, size); err != nil {
		return nil, err
	}
	ck := &Checkpoint{Tensors: make(map[string]*tensor.Dense, len(entries)), Meta: meta}
	for _, e := range entries {
		d, sum, err := readTensor(r, e)
		if err != nil {
			return nil, fmt.Errorf("tensor %q at offset %d: %w", e.name, start+e.begin, err)
		}
		if want, ok := sums[e.name]; ok && want != formatCRC(sum) {
			return nil, fmt.Errorf("tensor %q at offset %d is damaged: CRC32C %08x, should be %s", e.name, start+e.begin, sum, want)
		}
		ck.Tensors[e.name] = d
	}
	return ck, nil
}

// takeSums removes the sums from the metadata, checks the header's own and returns the tensors' by
// name; none if the file claims none.
func takeSums(raw []byte, meta map[string]string, entries []entry) (map[string]string, error) {
	headerSum, hasHeader := meta[headerCRCKey]
	tensorSum, hasTensors := meta[tensorCRCKey]
	if !hasHeader && !hasTensors {
		return nil, nil
	}
	delete(meta, headerCRCKey)
	delete(meta, tensorCRCKey)
	if !hasHeader || !hasTensors {
		return nil, fmt.Errorf("damaged: only one of %s and %s is there", headerCRCKey, tensorCRCKey)
	}
	zeroed, err := setHeaderCRC(raw, headerSum, zeroCRC)
	if err != nil {
		return nil, err
	}
	if got := formatCRC(crc32.Checksum(zeroed, castagnoli)); got != headerSum {
		return nil, fmt.Errorf("damaged: CRC32C %s, should be %s", got, headerSum)
	}
	var sums map[string]string
	if err := json.Unmarshal([]byte(tensorSum), &sums); err != nil {
		return nil, fmt.Errorf("metadata %s: %w", tensorCRCKey, err)
	}
	for _, e := range entries {
		if _, ok := sums[e.name]; !ok {
			return nil, fmt.Errorf("metadata %s lacks tensor %q", tensorCRCKey, e.name)
		}
	}
	return sums, nil
}

// checkCover sorts the entries by offset and checks that they cover the bytes from start to size.
func checkCover(entries []entry, start, size int64) error {
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	at := int64(0)
	for _, e := range entries {
		if e.begin != at {
			return fmt.Errorf("tensor %q at offset %d: the tensor before it ends at %d, which leaves a gap or an overlap",
				e.name, start+e.begin, start+at)
		}
		if e.end > size-start {
			return fmt.Errorf("tensor %q at offset %d: it ends at %d, behind the end of the file at %d",
				e.name, start+e.begin, start+e.end, size)
		}
		at = e.end
	}
	if start+at != size {
		return fmt.Errorf("the tensors end at offset %d, but the file has %d bytes", start+at, size)
	}
	return nil
}

// readTensor reads one tensor and its CRC32C.
func readTensor(r io.Reader, e entry) (*tensor.Dense, uint32, error) {
	count := int((e.end - e.begin) / dtypes[e.dtype])
	if count == 0 {
		return nil, 0, fmt.Errorf("shape %v has no elements, which is not supported", e.shape)
	}
	var backing any
	var sum uint32
	var err error
	switch e.dtype {
	case "F32":
		backing, sum, err = readChunks(r, count, 4, func(b []byte) float32 {
			return math.Float32frombits(binary.LittleEndian.Uint32(b))
		})
	case "F64":
		backing, sum, err = readChunks(r, count, 8, func(b []byte) float64 {
			return math.Float64frombits(binary.LittleEndian.Uint64(b))
		})
	case "F16":
		backing, sum, err = readChunks(r, count, 2, func(b []byte) float32 { return half(binary.LittleEndian.Uint16(b)) })
	case "BF16": // the upper half of a float32
		backing, sum, err = readChunks(r, count, 2, func(b []byte) float32 {
			return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
		})
	case "I64":
		backing, sum, err = readChunks(r, count, 8, func(b []byte) int64 {
			return int64(binary.LittleEndian.Uint64(b))
		})
	}
	if err != nil {
		return nil, 0, err
	}
	return tensor.New(tensor.WithShape(e.shape...), tensor.WithBacking(backing)), sum, nil
}

// half is the value of an IEEE float of 16 bits: sign, 5 bits of exponent, 10 of fraction.
func half(bits uint16) float32 {
	exponent, fraction := int(bits>>10&31), float64(bits&1023)
	v := math.Ldexp(1024+fraction, exponent-25)
	switch {
	case exponent == 0: // subnormal
		v = math.Ldexp(fraction, -24)
	case exponent == 31 && fraction == 0:
		v = math.Inf(1)
	case exponent == 31:
		v = math.NaN()
	}
	return float32(math.Copysign(v, 1-2*float64(bits>>15)))
}

func readChunks[T any](r io.Reader, count, size int, get func([]byte) T) ([]T, uint32, error) {
	out := make([]T, count)
	buf := make([]byte, min(chunkBytes, count*size))
	sum := uint32(0)
	for chunk := range slices.Chunk(out, chunkBytes/size) {
		b := buf[:len(chunk)*size]
		if _, err := io.ReadFull(r, b); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, 0, err
		}
		sum = crc32.Update(sum, castagnoli, b)
		for i := range chunk {
			chunk[i] = get(b[i*size:])
		}
	}
	return out, sum, nil
}
