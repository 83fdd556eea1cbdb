package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
)

// packable is a pair whose sections span several chunks and do not fill their last page.
func packable() *Pair {
	set := func(name string, n int) *Set {
		s := &Set{Name: name, H: 5, W: 7, C: 3, Classes: 4, ClassNames: []string{"a", "b", "c", "d"},
			Mean: []float32{0.4914, 0.1, 0.25}, Std: []float32{0.2023, 1e-7, 0.3}}
		for i := range n {
			s.Labels = append(s.Labels, int32(i*i%4))
			for p := range s.ImageBytes() {
				s.Images = append(s.Images, byte(i*31+p*7+1))
			}
		}
		return s
	}
	return &Pair{set("shapes train", 50), set("shapes test", 9)}
}

// packed returns the bytes of the pair's file.
func packed(t testing.TB, p *Pair, chunk int64) []byte {
	t.Helper()
	var out bytes.Buffer
	size, err := p.pack(&out, chunk)
	if err != nil || size != int64(out.Len()) {
		t.Fatalf("%d of %d bytes, %v", out.Len(), size, err)
	}
	return out.Bytes()
}

func TestPackedThereAndBack(t *testing.T) {
	want := packable()
	path := filepath.Join(t.TempDir(), "shapes.bspack")
	size, err := want.Pack(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(Spec{Name: "packed", Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if !got.Train.Mapped || !got.Test.Mapped {
		t.Error("the images are not the mapped file")
	}
	got.Train.Mapped, got.Test.Mapped = false, false
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	content, err := os.ReadFile(path)
	if err != nil || int64(len(content)) != size {
		t.Fatalf("%d of %d bytes, %v", len(content), size, err)
	}
	if !bytes.Equal(content, packed(t, want, packChunk)) {
		t.Error("the same pair gives other bytes")
	}
	limited, err := Open(Spec{Name: "packed", Path: path, TrainLimit: 8})
	if err != nil || !reflect.DeepEqual(limited.Train, want.Train.Balanced(8)) {
		t.Errorf("a limit: %v", err)
	}
}

// The layout that docs/FORMATS.md promises, read without the code under test.
func TestPackedLayout(t *testing.T) {
	p := packable()
	file := packed(t, p, packPage)
	word := func(at int) int { return int(binary.LittleEndian.Uint64(file[at:])) }
	if string(file[:8]) != "\x89BSPACK\n" || file[8] != 1 || word(16) != len(file) || word(24) != 4096 || word(40) != (len(file)-4096+4095)/4096 {
		t.Errorf("header % x", file[:64])
	}
	if text := string(file[64 : 64+word(32)]); !strings.HasPrefix(text, `{"train":{"name":"shapes train","count":50,"h":5,"w":7,"c":3,"classes":4,`) ||
		!strings.Contains(text, `"images":4096,"labels":12288},"test":{`) || !strings.HasSuffix(text, `"images":16384,"labels":20480}}`) {
		t.Errorf("description %s", text)
	}
	if !bytes.Equal(file[4096:4096+50*105], p.Train.Images) || !bytes.Equal(file[16384:16384+9*105], p.Test.Images) {
		t.Error("images are elsewhere")
	}
	for i, y := range p.Test.Labels {
		if got := binary.LittleEndian.Uint32(file[20480+4*i:]); got != uint32(y) {
			t.Errorf("label %d is %d, want %d", i, got, y)
		}
	}
}

// Every byte of a file counts: no bit may be flipped unnoticed, and the error says where it is and what it belongs to.
func TestEveryBitIsChecked(t *testing.T) {
	file := packed(t, packable(), packPage)
	if _, err := parsePacked(file); err != nil {
		t.Fatal(err)
	}
	for at := range file {
		for bit := range 8 {
			if at >= 1024 && bit != at%8 { // one bit of each byte; all of the first ones
				continue
			}
			file[at] ^= 1 << bit
			_, err := parsePacked(file)
			file[at] ^= 1 << bit
			if err == nil {
				t.Fatalf("bit %d of byte %d flipped unnoticed", bit, at)
			}
			want := "header"
			switch {
			case at < 8:
				want = "does not begin with"
			case at < 12:
				want = "version"
			case at >= 4096:
				from := at / 4096 * 4096
				want = fmt.Sprintf("chunk %d, bytes %d to %d (", from/4096-1, from, min(from+4096, len(file))-1)
			}
			if !strings.Contains(err.Error(), want) {
				t.Fatalf("bit %d of byte %d: %q lacks %q", bit, at, err, want)
			}
		}
	}
	t.Logf("%d bytes", len(file))
}

func TestPackedDamageIsNamed(t *testing.T) {
	file := packed(t, packable(), packPage)
	flip := func(at ...int) []byte {
		out := bytes.Clone(file)
		for _, a := range at {
			out[a] ^= 1
		}
		return out
	}
	sized := func(content []byte) []byte { // with the size in the header right
		content = bytes.Clone(content)
		binary.LittleEndian.PutUint64(content[16:], uint64(len(content)))
		return content
	}
	for _, c := range []struct {
		name    string
		content []byte
		want    []string
	}{
		{"no file", nil, []string{"x.bspack: no such file"}},
		{"empty", []byte{}, []string{"x.bspack: has 0 bytes; a header alone has 4096"}},
		{"text", bytes.Repeat([]byte("text"), 100), []string{"is no packed data set"}},
		{"version", flip(8 + 1), []string{"has version 257 of the packed format", "version 1 is read"}},
		{"cut", file[:len(file)-1], []string{fmt.Sprintf("has %d bytes, but %d by its header", len(file)-1, len(file))}},
		{"cut to its header", file[:4096], []string{"has 4096 bytes, but"}},
		{"too long", append(bytes.Clone(file), 0), []string{fmt.Sprintf("has %d bytes, but %d by its header", len(file)+1, len(file))}},
		{"cut and told so", sized(file[:len(file)-1]), []string{"is damaged in its header, bytes 0 to 4095"}},
		{"description", flip(70), []string{"is damaged in its header, bytes 0 to 4095"}},
		{"images", flip(8192), []string{"damaged in chunk 1, bytes 8192 to 12287 (images of shapes train: 39 to 49)"}},
		{"labels", flip(12290), []string{"chunk 2", "(labels of shapes train: 0 to 49)"}},
		{"test set", flip(len(file) - 1), []string{fmt.Sprintf("chunk 4, bytes 20480 to %d (labels of shapes test: 0 to 8)", len(file)-1)}},
		{"two chunks", flip(5000, 17000), []string{"chunk 0, bytes 4096 to 8191 (images of shapes train: 0 to 39); so are 1 other chunks: 'broadside data verify'"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.bspack")
			if c.content != nil {
				if err := os.WriteFile(path, c.content, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Open(Spec{Name: "packed", Path: path})
			wantError(t, err, append(c.want, path)...)
		})
	}
	_, err := Open(Spec{Name: "packed"})
	wantError(t, err, "packed needs a path: the packed file itself")
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Dir(pipe), pipe} {
		_, err = Open(Spec{Name: "packed", Path: path})
		wantError(t, err, path, "is not a regular file")
	}
}

// A header that passes its checksum but contradicts itself is refused too.
func TestPackedHeaderMustMakeSense(t *testing.T) {
	good := packed(t, packable(), packPage)
	text := func(old, new string) func(h []byte) { // of the same length, with spaces where JSON allows them
		new += strings.Repeat(" ", len(old)-len(new))
		return func(h []byte) { copy(h, bytes.Replace(bytes.Clone(h), []byte(old), []byte(new), 1)) }
	}
	number := func(at int, v uint64) func(h []byte) {
		return func(h []byte) { binary.LittleEndian.PutUint64(h[at:], v) }
	}
	for _, c := range []struct {
		name string
		edit func(h []byte)
		want string
	}{
		{"start", number(24, 1), "the sections begin at 1"},
		{"start behind the end", number(24, 1<<40), "the sections begin at 1099511627776"},
		{"description", number(32, 1<<40), "contradicts itself: 1099511627776 bytes of description"},
		{"chunks", number(40, 1<<60), "contradicts itself"},
		{"chunk of nothing", func(h []byte) { binary.LittleEndian.PutUint32(h[12:], 0) }, "chunks of 0"},
		{"no JSON", text(`{"train"`, `["train"`), "a description that is not as the format wants it"},
		{"unknown key", text(`"count"`, `"cnout"`), `unknown field "cnout"`},
		{"rest", func(h []byte) { n := int(h[32]) | int(h[33])<<8; h[32], h[33] = byte(n+1), byte((n+1)>>8) }, "a description that is not"},
		{"no images", text(`"count":50`, `"count":00`), "a description that is not"},
		{"negative", text(`"count":50`, `"count":-5`), "as -5 images"},
		{"many images", text(`"count":50,"h":5,"w":7`, `"count":99,"h":9,"w":9`), "as 99 images of 9x9x3, more than the file holds"},
		{"huge images", text(`"name":"shapes train","count":50,"h":5,"w":7`, `"name":"s","count":1,"h":1,"w":9999999999999999`[:44]), "more than the file holds"},
		{"more images", text(`"count":50`, `"count":99`), "describes the labels of shapes train as 396 bytes at 12288; want them at 16384"},
		{"more labels than bytes", text(`"name":"shapes train","count":50,"h":5,"w":7,"c":3`, `"name":"s","count":9999,"h":1,"w":1,"c":1`), "with 9999 labels, more than the file holds"},
		{"overlap", text(`"labels":12288`, `"labels":4096`), "at 4096; want them at 12288"},
		{"elsewhere", text(`"labels":12288`, `"labels":16384`), "at 16384; want them at 12288"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := bytes.Clone(good)
			c.edit(file)
			seal(file)
			if _, err := parsePacked(file); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// seal makes the checksum of a file's header right.
func seal(file []byte) {
	if start := binary.LittleEndian.Uint64(file[24:]); start >= packFixed && start <= uint64(len(file)) {
		binary.LittleEndian.PutUint32(file[packFixed-4:], headerSum(file[:start]))
	}
}

func TestPackErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := packable().Pack(filepath.Join(dir, "x.bin"))
	wantError(t, err, "x.bin", "ends with .bspack")
	_, err = packable().Pack(filepath.Join(dir, "none", "x.bspack"))
	wantError(t, err, "none/x.bspack", "no such file")
	spoilt := packable()
	spoilt.Test.Labels[0] = 4
	_, err = spoilt.Pack(filepath.Join(dir, "x.bspack"))
	wantError(t, err, "x.bspack", "label 4 of image 0")
	long := packable()
	long.Train.ClassNames = []string{strings.Repeat("long", packMaxDescription/4), "b", "c", "d"}
	_, err = long.Pack(filepath.Join(dir, "x.bspack"))
	wantError(t, err, "at most 1048576 fit")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("failures left %v, %v", entries, err)
	}
}

// A description that does not fit into a page moves the sections.
func TestPackedLongDescription(t *testing.T) {
	want := packable()
	for _, s := range []*Set{want.Train, want.Test} {
		s.ClassNames = []string{strings.Repeat("a", 5000), strings.Repeat("ü", 3000), "c", "d"}
	}
	got, err := parsePacked(packed(t, want, packChunk))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzPacked(f *testing.F) {
	f.Add(packed(f, packable(), packPage), true)
	f.Add(packed(f, packable(), packChunk), false)
	f.Add(packed(f, packable().Limit(1, 1), packPage), true)
	f.Fuzz(func(t *testing.T, file []byte, sealed bool) {
		if sealed && len(file) >= packFixed { // get past the checksum of the header
			binary.LittleEndian.PutUint64(file[16:], uint64(len(file)))
			seal(file)
		}
		if p, err := parsePacked(file); err == nil {
			if err := p.Check(); err != nil {
				t.Errorf("read without an error: %v", err)
			}
		}
	})
}
