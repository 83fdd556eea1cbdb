package data

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// format returns a file that SciPy or NumPy wrote: testdata/formats/make.py.
func format(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "formats", name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

var svhnBase = Set{Classes: 10, ClassNames: digitNames, Mean: svhnMean, Std: svhnStd, H: 32, W: 32, C: 3}

// readSVHN reads a file's images.
func readSVHN(content []byte) (*Set, error) {
	s := svhnBase
	err := appendSVHN(&s, mapFolder(map[string][]byte{"a.mat": content}), "a.mat")
	return &s, err
}

// wantSVHN checks the first n images of make.py.
func wantSVHN(t *testing.T, s *Set, n int) {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	if want := []int32{1, 0, 7}[:n]; !reflect.DeepEqual(s.Labels, want) {
		t.Fatalf("labels %v, want %v", s.Labels, want)
	}
	for i := range n {
		for y := range 32 {
			for x := range 32 {
				for c := range 3 {
					if got, want := s.Image(i)[(y*32+x)*3+c], byte(7*y+3*x+50*c+11*i); got != want {
						t.Fatalf("image %d row %d column %d channel %d is %d, want %d", i, y, x, c, got, want)
					}
				}
			}
		}
	}
}

func TestSVHNOfSciPy(t *testing.T) {
	for name, n := range map[string]int{"compressed": 3, "plain": 3, "doubles": 3, "one": 1} {
		s, err := readSVHN(format(t, "svhn_"+name+".mat"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantSVHN(t, s, n)
	}
}

// matBuilder writes the elements of a MAT-file in either byte order.
type matBuilder struct{ order binary.AppendByteOrder }

func (b matBuilder) element(kind uint32, data []byte) []byte {
	out := b.order.AppendUint32(b.order.AppendUint32(nil, kind), uint32(len(data)))
	out = append(out, data...)
	return append(out, make([]byte, (8-len(data)%8)%8)...)
}

func (b matBuilder) words(values ...int) (out []byte) {
	for _, v := range values {
		out = b.order.AppendUint32(out, uint32(v))
	}
	return out
}

// array writes an array whose elements have the given type.
func (b matBuilder) array(name string, class int, dims []int, kind uint32, data []byte) []byte {
	body := b.element(matUint32, b.words(class, 0))
	body = append(body, b.element(matInt32, b.words(dims...))...)
	body = append(body, b.element(matInt8, []byte(name))...)
	return b.element(matMatrix, append(body, b.element(kind, data)...))
}

func (b matBuilder) file(elements ...[]byte) []byte {
	h := bytes.Repeat([]byte{' '}, matHeaderBytes-4)
	h = b.order.AppendUint16(h, 0x0100)
	mark := b.order.AppendUint16(nil, 'M'<<8|'I')
	return append(append(h, mark...), bytes.Join(elements, nil)...)
}

// deflated compresses as MAT-files do.
func deflated(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zlib.NewWriter(&out)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// built is a file of one image made here.
func built(order binary.AppendByteOrder) []byte {
	b := matBuilder{order}
	pixels := make([]byte, svhnImage)
	for i := range pixels {
		pixels[i] = byte(7*(i%32) + 3*(i/32%32) + 50*(i/1024))
	}
	label := b.order.AppendUint16(nil, 1)
	return b.file(b.array("X", matClassUint8, []int{32, 32, 3, 1}, matUint8, pixels), b.array("y", 11, []int{1, 1}, 4, label))
}

func TestSVHNInBothByteOrders(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		s, err := readSVHN(built(order))
		if err != nil {
			t.Fatalf("%v: %v", order, err)
		}
		wantSVHN(t, s, 1)
	}
}

func TestSVHNPairs(t *testing.T) {
	dir := t.TempDir()
	for name, from := range map[string]string{"train_32x32.mat": "compressed", "extra_32x32.mat": "plain", "test_32x32.mat": "one"} {
		if err := os.WriteFile(filepath.Join(dir, name), format(t, "svhn_"+from+".mat"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, n := range map[string]int{"svhn": 3, "svhn-extra": 3, "svhn-full": 6} {
		pair, err := Open(Spec{Name: name, Path: dir})
		if err != nil {
			t.Fatal(err)
		}
		if pair.Train.Len() != n || pair.Test.Len() != 1 || pair.Train.Name != name+" train" {
			t.Errorf("%s: %d + %d images as %s", name, pair.Train.Len(), pair.Test.Len(), pair.Train.Name)
		}
		if !bytes.Equal(pair.Train.Image(n-1), pair.Train.Image(2)) {
			t.Errorf("%s: the last image is another", name)
		}
	}
	if err := os.Remove(filepath.Join(dir, "extra_32x32.mat")); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Spec{Name: "svhn-full", Path: dir})
	wantError(t, err, "svhn-full", "extra_32x32.mat", "no such file")
}

func TestSVHNErrors(t *testing.T) {
	plain, packed := format(t, "svhn_plain.mat"), format(t, "svhn_compressed.mat")
	changed := func(content []byte, at int, v byte) []byte {
		out := bytes.Clone(content)
		out[at] = v
		return out
	}
	b := matBuilder{binary.LittleEndian}
	bomb := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, matMatrix), 1<<31) // in a few bytes
	y := b.array("y", 9, []int{1, 1}, matUint8, []byte{1})
	for _, c := range []struct {
		name    string
		content []byte
		want    []string
	}{
		{"empty", nil, []string{"dir/a.mat is truncated: 0 bytes of a 128-byte MAT header"}},
		{"no mark", changed(plain, 126, 'x'), []string{"is no MAT-file of level 5"}},
		{"version 7.3", changed(changed(plain, 124, 0), 125, 2), []string{"version 7.3 (HDF5); save it with -v7"}},
		{"version", changed(plain, 125, 7), []string{"version 0x0700"}},
		{"nothing", plain[:128], []string{"holds 0 images in X and 0 labels in y"}},
		{"tag cut", plain[:132], []string{"truncated in the element at byte 128"}},
		{"cut", plain[:5000], []string{"the element at byte 128 declares", "4864 follow"}},
		{"compressed cut", packed[:500], []string{"is truncated: the element at byte 128"}},
		{"compressed damage", changed(packed, 400, packed[400]^0xff), []string{"the element at byte 128"}},
		{"bomb", b.file(b.element(matCompressed, deflated(t, bomb))), []string{"the element at byte 128: declares 2147483648 bytes, but can hold at most"}},
		{"compressed, but too few", b.file(b.element(matCompressed, deflated(t, b.array("X", 9, []int{32, 32, 3, 2}, matUint8, make([]byte, 6144))[:4000]))),
			[]string{"X ends in image 1 of 2"}},
		{"no labels", b.file(b.array("X", 9, []int{32, 32, 3}, matUint8, make([]byte, 3072))), []string{"holds 1 images in X and 0 labels"}},
		{"grey", b.file(b.array("X", 9, []int{32, 32, 1, 3}, matUint8, make([]byte, 3072))), []string{"X is [32 32 1 3] of class 9; want [32 32 3 N]"}},
		{"doubles", b.file(b.array("X", 6, []int{32, 32, 3, 1}, 9, make([]byte, 8*3072))), []string{"of class 6; want"}},
		{"stored as shorts", b.file(b.array("X", 9, []int{32, 32, 3, 1}, 4, make([]byte, 2*3072))), []string{"elements of type 4; want 2"}},
		{"too few", b.file(b.array("X", 9, []int{32, 32, 3, 2}, matUint8, make([]byte, 3072)), y), []string{"needs 6144 bytes, but declares 3072"}},
		{"absurd", b.file(b.array("X", 9, []int{32, 32, 3, 1 << 30}, matUint8, nil), y), []string{"absurd dimension"}},
		{"negative", b.file(b.array("X", 9, []int{32, 32, 3, -1}, matUint8, nil), y), []string{"absurd dimension -1"}},
		{"label 0", b.file(b.array("y", 9, []int{1, 1}, matUint8, []byte{0})), []string{"y has the label 0 at 0; labels are 1 to 10"}},
		{"label 11", b.file(b.array("y", 9, []int{2, 1}, matUint8, []byte{1, 11})), []string{"y has the label 11 at 1"}},
		{"half a label", b.file(b.array("y", 7, []int{1, 1}, 7, b.words(0x3fc00000))), []string{"label 1.5"}},
		{"text for labels", b.file(b.array("y", 9, []int{1, 1}, 16, []byte{1})), []string{"type 16, which are no numbers"}},
		{"twice", append(built(binary.LittleEndian), b.array("X", 9, []int{32, 32, 3, 1}, matUint8, make([]byte, 3072))...), []string{"X is there twice"}},
		{"no array", b.file(b.element(matInt8, make([]byte, 8))), []string{"is of type 1; arrays (14)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readSVHN(c.content)
			wantError(t, err, append(c.want, "dir/a.mat")...)
		})
	}
}

func FuzzMAT(f *testing.F) {
	for _, name := range []string{"compressed", "plain", "doubles", "one"} {
		f.Add(format(f, "svhn_"+name+".mat"))
	}
	f.Add(built(binary.BigEndian))
	f.Fuzz(func(t *testing.T, content []byte) {
		if s, err := readSVHN(content); err == nil {
			if err := s.Check(); err != nil {
				t.Errorf("read without an error: %v", err)
			}
		}
	})
}
