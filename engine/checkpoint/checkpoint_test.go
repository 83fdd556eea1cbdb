package checkpoint

import (
	"broadside/engine/internal/durable"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"
)

func dense[T any](data []T, shape ...int) *tensor.Dense {
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(data))
}

// sample has every element type, an odd number of float32 values, a scalar, special values and names
// that need care in JSON.
func sample() *Checkpoint {
	return &Checkpoint{
		Tensors: map[string]*tensor.Dense{
			"layer1.0.conv1.weight":   dense([]float32{1, -2, 3.5, float32(math.Inf(1)), math.SmallestNonzeroFloat32, 0}, 1, 3, 2),
			"layer1.0.bn1.bias":       dense([]float32{7, 8, float32(math.Copysign(0, -1))}, 3),
			"a \"quoted\" <näme>":     dense([]float64{math.Pi, math.NaN()}, 2),
			"bn1.num_batches_tracked": tensor.New(tensor.FromScalar(int64(math.MinInt64))),
			"sampler":                 dense([]int64{1, math.MaxInt64, -1, 0}, 2, 2),
		},
		Meta: map[string]string{"recipe": "name: x\nbatch: {size: 128}\n", "": "empty key", "q\"<>&": "\u2028"},
	}
}

// bits gives a tensor's bytes with its type and shape, so that NaN equals itself.
func bits(t *testing.T, d *tensor.Dense) string {
	t.Helper()
	v, dtype, err := values(d)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := writeValues(&buf, v); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %v %x", dtype, d.Shape(), buf.Bytes())
}

func sameTensors(t *testing.T, a, b *Checkpoint) bool {
	t.Helper()
	if len(a.Tensors) != len(b.Tensors) {
		return false
	}
	for name, d := range a.Tensors {
		if b.Tensors[name] == nil || bits(t, d) != bits(t, b.Tensors[name]) {
			return false
		}
	}
	return true
}

func mustWrite(t *testing.T, path string, ck *Checkpoint) []byte {
	t.Helper()
	if err := Write(path, ck); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func decodeBytes(raw []byte) (*Checkpoint, error) {
	return decode(bytes.NewReader(raw), int64(len(raw)))
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.safetensors")
	first := mustWrite(t, path, sample())
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !sameTensors(t, sample(), got) {
		t.Errorf("tensors differ after a round trip")
	}
	if !reflect.DeepEqual(got.Meta, sample().Meta) {
		t.Errorf("metadata %q, want %q", got.Meta, sample().Meta)
	}
	if again := mustWrite(t, path, got); !bytes.Equal(first, again) {
		t.Error("writing what was read gives other bytes")
	}
}

func TestRoundTripBeyondOneChunk(t *testing.T) {
	big := make([]float32, 3*chunkBytes/4+17)
	for i := range big {
		big[i] = float32(i)
	}
	ck := &Checkpoint{Tensors: map[string]*tensor.Dense{"big": dense(big, len(big))}}
	path := filepath.Join(t.TempDir(), "a.safetensors")
	mustWrite(t, path, ck)
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if !sameTensors(t, ck, got) {
		t.Error("tensor differs after a round trip")
	}
}

func TestEmptyCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.safetensors")
	mustWrite(t, path, &Checkpoint{})
	got, err := Read(path)
	if err != nil || len(got.Tensors) != 0 || len(got.Meta) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestFormat checks the bytes themselves: length, padding, alignment of every tensor, no gaps.
func TestFormat(t *testing.T) {
	raw := mustWrite(t, filepath.Join(t.TempDir(), "a.safetensors"), sample())
	n := int(binary.LittleEndian.Uint64(raw))
	if (8+n)%8 != 0 || raw[8] != '{' {
		t.Fatalf("header of %d bytes begins with %q", n, raw[8])
	}
	entries, _, err := parseHeader(raw[8 : 8+n])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) }) {
		t.Error("header keys are not sorted")
	}
	if err := checkCover(entries, int64(8+n), int64(len(raw))); err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if e.begin%dtypes[e.dtype] != 0 {
			t.Errorf("tensor %q of %s at data offset %d is not aligned", e.name, e.dtype, e.begin)
		}
	}
	i := slices.IndexFunc(entries, func(e entry) bool { return e.name == "sampler" })
	want := []byte{1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 127}
	if got := raw[8+n+int(entries[i].begin):][:16]; !bytes.Equal(got, want) {
		t.Errorf("int64 bytes % x, want % x", got, want)
	}
}

func TestViewsAreWrittenAsTheyLook(t *testing.T) {
	d := dense([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	if err := d.T(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a.safetensors")
	mustWrite(t, path, &Checkpoint{Tensors: map[string]*tensor.Dense{"t": d}})
	got, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := dense([]float32{1, 4, 2, 5, 3, 6}, 3, 2); bits(t, got.Tensors["t"]) != bits(t, want) {
		t.Errorf("got %v", got.Tensors["t"])
	}
}

// TestEveryFlip flips every bit of a small file, one at a time. Each must be noticed.
func TestEveryFlip(t *testing.T) {
	raw := mustWrite(t, filepath.Join(t.TempDir(), "a.safetensors"), sample())
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			if _, err := decodeBytes(raw); err == nil {
				t.Errorf("bit %d of byte %d of %d flipped: no error", bit, i, len(raw))
			}
			raw[i] ^= 1 << bit
		}
	}
}

func TestEveryTruncation(t *testing.T) {
	raw := mustWrite(t, filepath.Join(t.TempDir(), "a.safetensors"), sample())
	for n := range raw {
		if _, err := decodeBytes(raw[:n]); err == nil {
			t.Errorf("the first %d of %d bytes: no error", n, len(raw))
		}
	}
	if _, err := decodeBytes(append(slices.Clone(raw), 0)); err == nil {
		t.Error("a byte more: no error")
	}
}

// foreign makes a file with a given header, as another program might.
func foreign(header string, data ...byte) []byte {
	raw := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(raw, header...), data...)
}

const foreignHeader = `{"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}`

func TestForeignFile(t *testing.T) {
	raw := foreign(foreignHeader+"   ", 0, 0, 128, 63, 0, 0, 0, 64)
	ck, err := decodeBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	if want := dense([]float32{1, 2}, 1, 2); bits(t, ck.Tensors["w"]) != bits(t, want) || len(ck.Meta) != 0 {
		t.Errorf("got %v, %v", ck.Tensors, ck.Meta)
	}
	// A flip in a header without sums must give an error or leave the numbers as they are.
	for i := range len(raw) - 8 {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			if got, err := decodeBytes(raw); err == nil {
				for _, d := range got.Tensors {
					if fmt.Sprint(d.Data()) != "[1 2]" {
						t.Errorf("bit %d of byte %d flipped: %v", bit, i, d)
					}
				}
			}
			raw[i] ^= 1 << bit
		}
	}
}

// Floats of 16 bits become float32; the values are those of NumPy's float16 and of PyTorch's bfloat16.
func TestFloatsOf16Bits(t *testing.T) {
	header := `{"b":{"dtype":"BF16","shape":[3],"data_offsets":[20,26]},"h":{"dtype":"F16","shape":[10],"data_offsets":[0,20]}}`
	var data []byte
	for _, v := range []uint16{0x3c00, 0xc100, 0x7bff, 0x0400, 0x0001, 0x83ff, 0x0000, 0x8000, 0x7c00, 0xfc00, 0x3f80, 0xc2f7, 0x7f80} {
		data = binary.LittleEndian.AppendUint16(data, v)
	}
	ck, err := decodeBytes(foreign(header, data...))
	if err != nil {
		t.Fatal(err)
	}
	inf := float32(math.Inf(1))
	want := dense([]float32{1, -2.5, 65504, 0x1p-14, 0x1p-24, -1023 * 0x1p-24, 0, 0, inf, -inf}, 10)
	want.Data().([]float32)[7] = float32(math.Copysign(0, -1))
	if got := ck.Tensors["h"]; bits(t, got) != bits(t, want) {
		t.Errorf("F16: %v, want %v", got, want)
	}
	if got := ck.Tensors["b"]; bits(t, got) != bits(t, dense([]float32{1, -123.5, inf}, 3)) {
		t.Errorf("BF16: %v", got)
	}
	ck, err = decodeBytes(foreign(`{"w":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}`, 1, 0x7c))
	if err != nil {
		t.Fatal(err)
	}
	if v := ck.Tensors["w"].Data().([]float32)[0]; v == v {
		t.Errorf("a NaN became %v", v)
	}
}

func TestReadErrors(t *testing.T) {
	tensorHeader := func(fields string) string { return `{"w":{` + fields + `}}` }
	eight := make([]byte, 8)
	cases := []struct {
		name string
		raw  []byte
		want string
	}{
		{"empty file", nil, "too few"},
		{"huge header", binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "it may have at most 0"},
		{"header over 100 MB", binary.LittleEndian.AppendUint64(nil, 100<<20+1), "header of 104857601 bytes"},
		{"header behind the end", foreign(foreignHeader)[:20], "in a file of 20"},
		{"no header", foreign(""), "does not begin with {"},
		{"white space first", foreign(" "+foreignHeader, eight...), "does not begin with {"},
		{"not JSON", foreign("{]", eight...), "header"},
		{"not UTF-8", foreign("{\"\xff\":1}"), "not UTF-8"},
		{"garbage behind", foreign(foreignHeader+"x", eight...), "more data behind"},
		{"name twice", foreign(`{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, eight...), `"w" comes twice`},
		{"field twice", foreign(tensorHeader(`"dtype":"F32","dtype":"F64","shape":[2],"data_offsets":[0,8]`), eight...), `"dtype" comes twice`},
		{"unknown field", foreign(tensorHeader(`"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1`), eight...), "unknown field"},
		{"no shape", foreign(tensorHeader(`"dtype":"F32","data_offsets":[0,8]`), eight...), "lacks shape"},
		{"null shape", foreign(tensorHeader(`"dtype":"F32","shape":null,"data_offsets":[0,8]`), eight...), "shape: not an array"},
		{"null in shape", foreign(tensorHeader(`"dtype":"F32","shape":[null],"data_offsets":[0,8]`), eight...), "shape: not an array"},
		{"fraction", foreign(tensorHeader(`"dtype":"F32","shape":[2.5],"data_offsets":[0,8]`), eight...), "shape"},
		{"infinite", foreign(tensorHeader(`"dtype":"F32","shape":[1e999],"data_offsets":[0,8]`), eight...), "shape"},
		{"negative", foreign(tensorHeader(`"dtype":"F32","shape":[-2],"data_offsets":[0,8]`), eight...), "-2 is not a size"},
		{"overflow", foreign(tensorHeader(`"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]`), eight...), "absurd shape"},
		{"three offsets", foreign(tensorHeader(`"dtype":"F32","shape":[2],"data_offsets":[0,8,8]`), eight...), "are not [begin, end]"},
		{"offsets backwards", foreign(tensorHeader(`"dtype":"F32","shape":[2],"data_offsets":[8,0]`), eight...), "are not [begin, end]"},
		{"size mismatch", foreign(tensorHeader(`"dtype":"F32","shape":[3],"data_offsets":[0,8]`), eight...), "takes 12"},
		{"other type", foreign(tensorHeader(`"dtype":"F8_E5M2","shape":[8],"data_offsets":[0,8]`), eight...), `"F8_E5M2" is not supported`},
		{"no elements", foreign(tensorHeader(`"dtype":"F32","shape":[0],"data_offsets":[0,0]`)), "no elements"},
		{"behind the end", foreign(tensorHeader(`"dtype":"F32","shape":[4],"data_offsets":[0,16]`), eight...), "behind the end of the file"},
		{"gap", foreign(tensorHeader(`"dtype":"F32","shape":[1],"data_offsets":[4,8]`), eight...), "gap or an overlap"},
		{"overlap", foreign(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, eight...), "gap or an overlap"},
		{"rest", foreign(foreignHeader, make([]byte, 9)...), "the tensors end at offset"},
		{"metadata not strings", foreign(`{"__metadata__":{"a":1}}`), `value of "a" is not a string`},
		{"metadata not an object", foreign(`{"__metadata__":[]}`), "not a JSON object"},
		{"half the sums", foreign(`{"__metadata__":{"broadside.crc32c":"{}"}}`), "only one of"},
		{"wrong header sum", foreign(`{"__metadata__":{"broadside.crc32c":"{}","broadside.header_crc32c":"12345678"}}`), "damaged: CRC32C"},
		{"sums in another form", foreign(`{"__metadata__":{"broadside.crc32c":"{}","broadside.header_crc32c": "12345678"}}`), "not in its usual form"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.safetensors")
			if err := os.WriteFile(path, c.raw, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Read(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want one with %q and the file's name", err, c.want)
			}
		})
	}
	if _, err := Read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
}

// TestDamagedTensorIsNamed checks the message of a flip in the data.
func TestDamagedTensorIsNamed(t *testing.T) {
	ck := &Checkpoint{Tensors: map[string]*tensor.Dense{"fc.bias": dense([]float32{1, 2}, 2)}}
	raw := mustWrite(t, filepath.Join(t.TempDir(), "a.safetensors"), ck)
	raw[len(raw)-1] ^= 1
	_, err := decodeBytes(raw)
	want := fmt.Sprintf(`tensor "fc.bias" at offset %d is damaged`, len(raw)-8)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func TestSumsMustNameEveryTensor(t *testing.T) {
	header := `{"__metadata__":{"broadside.crc32c":"{}","broadside.header_crc32c":"00000000"},` + foreignHeader[1:]
	fixed, err := setHeaderCRC([]byte(header), zeroCRC, formatCRC(crc32.Checksum([]byte(header), castagnoli)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeBytes(foreign(string(fixed), make([]byte, 8)...)); err == nil || !strings.Contains(err.Error(), `lacks tensor "w"`) {
		t.Errorf("error %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	column := tensor.New(tensor.WithShape(2, 3), tensor.AsFortran([]float32{1, 2, 3, 4, 5, 6}))
	cases := []struct {
		name string
		ck   Checkpoint
		want string
	}{
		{"type", Checkpoint{Tensors: map[string]*tensor.Dense{"x": dense([]int32{1}, 1)}}, `tensor "x" has element type int32`},
		{"nil", Checkpoint{Tensors: map[string]*tensor.Dense{"x": nil}}, `tensor "x" is nil`},
		{"order", Checkpoint{Tensors: map[string]*tensor.Dense{"x": column}}, "column-major"},
		{"name", Checkpoint{Tensors: map[string]*tensor.Dense{"__metadata__": dense([]int64{1}, 1)}}, "reserved"},
		{"name not UTF-8", Checkpoint{Tensors: map[string]*tensor.Dense{"\xff": dense([]int64{1}, 1)}}, "not UTF-8"},
		{"key", Checkpoint{Meta: map[string]string{tensorCRCKey: ""}}, "reserved"},
		{"value not UTF-8", Checkpoint{Meta: map[string]string{"a": "\xff"}}, "not UTF-8"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			err := Write(filepath.Join(dir, "x.safetensors"), &c.ck)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if left := names(t, dir); len(left) != 0 {
				t.Errorf("left %v behind", left)
			}
		})
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// TestFailedWriteLeavesTheOldFile makes the writing fail half-way.
func TestFailedWriteLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.safetensors")
	old := mustWrite(t, path, sample())
	failure := fmt.Errorf("disk on fire")
	err := durable.Replace(path, func(w io.Writer) error {
		w.Write(make([]byte, 3<<20))
		return failure
	})
	if err != failure {
		t.Errorf("error %v", err)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(old, now) {
		t.Error("the old file changed")
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

func TestFailedRenameLeavesNoTemporary(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, sample()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

// encodeBytes gives the bytes that Write writes.
func encodeBytes(t testing.TB, ck *Checkpoint) []byte {
	t.Helper()
	entries, err := layout(ck)
	if err != nil {
		t.Fatal(err)
	}
	header, err := encodeHeader(ck, entries)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := encode(&buf, ck, header, entries); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func FuzzDecode(f *testing.F) {
	f.Add(encodeBytes(f, sample()))
	f.Add(foreign(foreignHeader, make([]byte, 8)...))
	f.Add(foreign(`{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[4,8]}}`, make([]byte, 8)...))
	f.Add(foreign(`{"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"__metadata__":{"k":"v"}}`, make([]byte, 8)...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		ck, err := decodeBytes(raw)
		if err != nil {
			return
		}
		// What can be read can be written and read again, unchanged.
		again, err := decodeBytes(encodeBytes(t, ck))
		if err != nil {
			t.Fatalf("read what was written: %v", err)
		}
		if !sameTensors(t, ck, again) || !reflect.DeepEqual(ck.Meta, again.Meta) {
			t.Error("a round trip changed the checkpoint")
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	benchmark(b, func(path string, ck *Checkpoint) error { return Write(path, ck) })
}

func BenchmarkRead(b *testing.B) {
	benchmark(b, func(path string, _ *Checkpoint) error {
		_, err := Read(path)
		return err
	})
}

func benchmark(b *testing.B, do func(string, *Checkpoint) error) {
	const n = 4 << 20
	ck := &Checkpoint{Tensors: map[string]*tensor.Dense{"w": dense(make([]float32, n), n)}}
	path := filepath.Join(b.TempDir(), "a.safetensors")
	if err := Write(path, ck); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(4 * n)
	for b.Loop() {
		if err := do(path, ck); err != nil {
			b.Fatal(err)
		}
	}
}
