package npy

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// file returns a file that NumPy wrote.
func file(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../data/testdata/formats", name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// load reads a header and the elements.
func load(content []byte) (*Header, []byte, error) {
	r := bytes.NewReader(content)
	h, err := Read(r, int64(len(content)))
	if err != nil {
		return nil, nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(r, h.Bytes()))
	return h, raw, err
}

func TestIntsOfNumPy(t *testing.T) {
	for name, second := range map[string]int64{"u1": 0, "i2": -5, "i4_big": -5, "i8": -5, "u8_big": 0} {
		h, raw, err := load(file(t, "labels_"+name+".npy"))
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := h.Ints(raw)
		if want := []int64{3, second, 100, 77}; err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(h.Shape, []int{4}) {
			t.Errorf("%s: %v in shape %v, %v; want %v", name, got, h.Shape, err, want)
		}
	}
}

func TestVersionsOfNumPy(t *testing.T) {
	for _, name := range []string{"images_1.npy", "images_2.npy", "images_3.npy"} {
		h, raw, err := load(file(t, name))
		if err != nil || h.Type != "u1" || !reflect.DeepEqual(h.Shape, []int{2, 3, 4, 3}) || len(raw) != 72 || raw[71] != 71 {
			t.Errorf("%s: %+v, %d bytes, %v", name, h, len(raw), err)
		}
	}
}

// What Write makes has the bytes of numpy.save.
func TestWritesWhatNumPyWrites(t *testing.T) {
	check := func(name string, write func(w io.Writer) error) {
		t.Helper()
		var out bytes.Buffer
		if err := write(&out); err != nil {
			t.Fatal(err)
		}
		if want := file(t, name); !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s: %q, NumPy wrote %q", name, out.Bytes(), want)
		}
	}
	images := make([]byte, 72)
	for i := range images {
		images[i] = byte(i)
	}
	check("images_1.npy", func(w io.Writer) error { return Write(w, []int{2, 3, 4, 3}, images) })
	check("labels_i8.npy", func(w io.Writer) error { return Write(w, []int{4}, []int64{3, -5, 100, 77}) })
	check("floats.npy", func(w io.Writer) error { return Write(w, []int{2, 2}, []float32{1.5, -2, 3, 4}) })
	if err := Write(io.Discard, []int{3}, []float64{1}); err == nil || !strings.Contains(err.Error(), "1 elements in the shape [3]") {
		t.Errorf("a wrong shape: %v", err)
	}
}

// with replaces a part of NumPy's header, keeping its length.
func with(t testing.TB, old, new string) []byte {
	t.Helper()
	content := file(t, "labels_i8.npy")
	new += strings.Repeat(" ", max(len(old)-len(new), 0))
	out := bytes.Replace(content, []byte(old), []byte(new), 1)
	if bytes.Equal(out, content) || len(out) != len(content) {
		t.Fatalf("%q does not replace %q", new, old)
	}
	return out
}

func TestMistakes(t *testing.T) {
	good := file(t, "labels_i8.npy")
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty", nil, "is no .npy file"},
		{"text", []byte("1, 2, 3, 4, 5"), "is no .npy file"},
		{"version", append([]byte("\x93NUMPY\x04\x00"), good[8:]...), "version 4.0; versions 1.0 to 3.0"},
		{"no length", good[:9], "truncated in its header"},
		{"cut header", good[:40], "truncated in its header"},
		{"long header", []byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), "at most 65536"},
		{"no elements", good[:128], "more than the 0 bytes that follow"},
		{"cut elements", good[:len(good)-1], "in the shape [4], more than the 31 bytes that follow"},
		{"fortran", file(t, "fortran.npy"), "Fortran order; save numpy.ascontiguousarray"},
		{"records", file(t, "records.npy"), "holds records"},
		{"complex", with(t, "<i8", "<c8"), "type \"<c8\""},
		{"object", with(t, "'<i8'", "'|O'"), "type \"|O\""},
		{"native order", with(t, "<i8", "=i8"), "type \"=i8\""},
		{"no dictionary", with(t, "{", "("), "is no dictionary"},
		{"no end", with(t, "}", ","), "a key is missing"},
		{"rest", with(t, "}     ", "} more"), "and nothing else"},
		{"key", with(t, "descr", "descs"), "unknown key \"descs\""},
		{"twice", with(t, "'shape'", "'descr'"), "there twice"},
		{"no comma", with(t, ", 'for", "; 'for"), "no comma after descr"},
		{"order", with(t, "False", "None"), "neither True nor False"},
		{"no tuple", with(t, "(4,)", "[4,]"), "no tuple of numbers"},
		{"negative", with(t, "(4,)", "(-4)"), "no tuple of numbers"},
		{"empty array", with(t, "(4,)", "(0,)"), "is empty: its shape is [0]"},
		{"shape overflows", with(t, "(4,), }"+strings.Repeat(" ", 25), "(4294967296, 4294967296), }"), "more than the 32 bytes"},
		{"number overflows", with(t, "(4,), }"+strings.Repeat(" ", 25), "(99999999999999999999,), }"), "no tuple of numbers"},
	} {
		if _, _, err := load(c.content); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	h, raw, err := load(file(t, "floats.npy"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Ints(raw); err == nil || !strings.Contains(err.Error(), "type f4; whole numbers") {
		t.Errorf("floats as numbers: %v", err)
	}
	h, raw, err = load(with(t, "<i8", "<u8"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Ints(raw); err == nil || !strings.Contains(err.Error(), "element 1 is 18446744073709551611: too large") {
		t.Errorf("a large number: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"labels_u1", "labels_i4_big", "labels_u8_big", "images_1", "images_2", "images_3", "fortran", "floats", "records"} {
		f.Add(file(f, name+".npy"))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		h, raw, err := load(content)
		if err != nil {
			return
		}
		if int64(len(raw)) != h.Bytes() || h.Len() <= 0 {
			t.Fatalf("%+v with %d bytes read without an error", h, len(raw))
		}
		if kind := h.Type[0]; kind == 'i' || kind == 'u' {
			if ints, err := h.Ints(raw); err == nil && len(ints) != h.Len() {
				t.Fatalf("%d of %d elements", len(ints), h.Len())
			}
		}
	})
}
