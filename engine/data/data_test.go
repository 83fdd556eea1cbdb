package data

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// tiny is a CIFAR layout of small files for tests.
var tinyTrain, tinyTest = []cifarFile{{"a.bin", 2}, {"b.bin", 1}}, []cifarFile{{"c.bin", 1}}

// cifarRecord makes a record whose planes hold values that tell channel and pixel.
func cifarRecord(labels ...byte) []byte {
	record := append([]byte{}, labels...)
	for c := range 3 {
		for i := range cifarPixels {
			record = append(record, planeValue(c, i))
		}
	}
	return record
}

func planeValue(c, i int) byte { return byte(85*c + i%85 + i/cifarSide) }

func mapFolder(files map[string][]byte) folder {
	m := fstest.MapFS{}
	for name, content := range files {
		m[name] = &fstest.MapFile{Data: content}
	}
	return folder{m, "dir"}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has more than one line: %v", err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q lacks %q", err, p)
		}
	}
}

func TestCIFARGolden(t *testing.T) {
	f := mapFolder(map[string][]byte{
		"a.bin": append(cifarRecord(3), cifarRecord(9)...), "b.bin": cifarRecord(0), "c.bin": cifarRecord(7),
	})
	pair, err := loadCIFARPair(f, Set{Classes: 10, Mean: cifarMean, Std: cifarStd}, cifar10, tinyTrain, tinyTest)
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Check(); err != nil {
		t.Fatal(err)
	}
	if got, want := pair.Train.Labels, []int32{3, 9, 0}; !reflect.DeepEqual(got, want) {
		t.Errorf("labels %v, want %v", got, want)
	}
	for n := range pair.Train.Len() {
		image := pair.Train.Image(n)
		for y := range 32 {
			for x := range 32 {
				for c := range 3 {
					if got, want := image[(y*32+x)*3+c], planeValue(c, y*32+x); got != want {
						t.Fatalf("image %d row %d column %d channel %d is %d, want %d", n, y, x, c, got, want)
					}
				}
			}
		}
	}
}

func TestCIFAR100Labels(t *testing.T) {
	f := mapFolder(map[string][]byte{"a.bin": append(cifarRecord(19, 99), cifarRecord(0, 42)...)})
	files := []cifarFile{{"a.bin", 2}}
	fine, err := loadCIFAR(f, Set{Classes: 100}, cifar100Fine, files)
	if err != nil {
		t.Fatal(err)
	}
	coarse, err := loadCIFAR(f, Set{Classes: 20}, cifar100Coarse, files)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fine.Labels, []int32{99, 42}) || !reflect.DeepEqual(coarse.Labels, []int32{19, 0}) {
		t.Errorf("fine %v, coarse %v", fine.Labels, coarse.Labels)
	}
	if !bytes.Equal(fine.Images, coarse.Images) || fine.Images[0] != planeValue(0, 0) {
		t.Error("the pixels begin at the wrong byte")
	}
}

func TestCIFARErrors(t *testing.T) {
	base := Set{Classes: 10, Mean: cifarMean, Std: cifarStd}
	_, err := loadCIFAR(mapFolder(nil), base, cifar10, tinyTrain)
	wantError(t, err, "dir has no a.bin", "binary version")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	_, err = loadCIFAR(mapFolder(map[string][]byte{"data_batch_1.bin": make([]byte, 30000)}), base, cifar10, cifar10Train[:1])
	wantError(t, err, "dir/data_batch_1.bin has 30000 bytes; a CIFAR-10 file is 30730000 bytes = 10000 records of 3073")
	// One byte a record too many, as in CIFAR-100's records.
	_, err = loadCIFAR(mapFolder(map[string][]byte{"a.bin": append(cifarRecord(0, 0), cifarRecord(0, 0)...)}), base, cifar10, tinyTrain[:1])
	wantError(t, err, "a.bin has 6148 bytes", "6146 bytes = 2 records of 3073")
	_, err = loadCIFAR(mapFolder(map[string][]byte{"a.bin": append(cifarRecord(9), cifarRecord(10)...)}), base, cifar10, tinyTrain[:1])
	wantError(t, err, "dir/a.bin: label 10 of record 1 is outside 0 to 9")
	err = parseCIFAR(bytes.NewReader(cifarRecord(1)), &Set{Classes: 10}, cifar10, 2)
	wantError(t, err, "truncated in record 1 of 2")
	_, err = loadCIFAR(folder{fstest.MapFS{"a.bin/x": &fstest.MapFile{}}, "dir"}, base, cifar10, tinyTrain[:1])
	wantError(t, err, "dir/a.bin: is not a regular file")
}

func idx(magic uint32, dims []uint32, content ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, magic)
	for _, d := range dims {
		b = binary.BigEndian.AppendUint32(b, d)
	}
	return append(b, content...)
}

func zip(t testing.TB, content []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// idxFilesOf is a small MNIST: two training images and a test image of 2x3.
func idxFilesOf() map[string][]byte {
	return map[string][]byte{
		"train-images-idx3-ubyte": idx(idxImages, []uint32{2, 2, 3}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
		"train-labels-idx1-ubyte": idx(idxLabels, []uint32{2}, 9, 0),
		"t10k-images-idx3-ubyte":  idx(idxImages, []uint32{1, 2, 3}, 255, 254, 253, 252, 251, 250),
		"t10k-labels-idx1-ubyte":  idx(idxLabels, []uint32{1}, 5),
	}
}

func TestIDXGolden(t *testing.T) {
	plain := idxFilesOf()
	zipped, dotted := map[string][]byte{}, map[string][]byte{}
	for name, content := range plain {
		zipped[name+".gz"] = zip(t, content)
		dotted[strings.Replace(name, "-idx", ".idx", 1)] = content
	}
	for kind, files := range map[string]map[string][]byte{"plain": plain, "gzip": zipped, "dotted": dotted} {
		pair, err := loadIDXPair(mapFolder(files), fashionBase, Spec{})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if err := pair.Check(); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		a := pair.Train
		if a.H != 2 || a.W != 3 || a.C != 1 || !bytes.Equal(a.Image(1), []byte{7, 8, 9, 10, 11, 12}) {
			t.Errorf("%s: %dx%dx%d, image 1 %v", kind, a.H, a.W, a.C, a.Image(1))
		}
		if !reflect.DeepEqual(a.Labels, []int32{9, 0}) || !reflect.DeepEqual(pair.Test.Labels, []int32{5}) {
			t.Errorf("%s: labels %v and %v", kind, a.Labels, pair.Test.Labels)
		}
	}
}

func TestIDXErrors(t *testing.T) {
	const images, labels = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
	cases := []struct {
		name, file string
		content    []byte
		want       []string
	}{
		{"header cut", images, []byte{0, 0, 8, 3, 0, 0}, []string{"dir/" + images, "truncated: 6 bytes of a 16-byte IDX header"}},
		{"empty", labels, nil, []string{"dir/" + labels, "truncated: 0 bytes"}},
		{"labels for images", images, idx(idxLabels, []uint32{2, 2, 3}, make([]byte, 12)...), []string{"magic number 0x00000801", "image file has 0x00000803"}},
		{"images for labels", labels, idx(idxImages, []uint32{2}, 9, 0), []string{"magic number 0x00000803", "label file has 0x00000801"}},
		{"cut", images, idxFilesOf()[images][:20], []string{"dir/" + images + " declares 28 bytes (dimensions [2 2 3]) but holds 20"}},
		{"too long", images, append(idxFilesOf()[images], 0), []string{"declares 28 bytes", "but holds 29"}},
		{"absurd", images, idx(idxImages, []uint32{0xffffffff, 0xffffffff, 0xffffffff}), []string{"absurd dimension 0: 4294967295"}},
		{"product overflows", images, idx(idxImages, []uint32{1 << 20, 1 << 20, 1 << 24}), []string{"absurd dimension 1"}},
		{"zero", images, idx(idxImages, []uint32{0, 28, 28}), []string{"absurd dimension 0: 0"}},
		{"count", labels, idx(idxLabels, []uint32{3}, 1, 2, 3), []string{labels + " has 3 labels but dir/" + images + " has 2 images"}},
		{"range", labels, idx(idxLabels, []uint32{2}, 1, 10), []string{labels + ": label 10 of record 1 is outside 0 to 9"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			files := idxFilesOf()
			files[c.file] = c.content
			_, err := loadIDXPair(mapFolder(files), fashionBase, Spec{})
			wantError(t, err, c.want...)
		})
	}
}

func TestIDXMissingNamesWhatWasLookedFor(t *testing.T) {
	files := idxFilesOf()
	delete(files, "t10k-labels-idx1-ubyte")
	_, err := loadIDXPair(mapFolder(files), fashionBase, Spec{})
	wantError(t, err, "dir has no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz or t10k-labels.idx1-ubyte")
}

func TestGzipErrors(t *testing.T) {
	const name = "train-images-idx3-ubyte"
	good := zip(t, idxFilesOf()[name])
	flipped := bytes.Clone(good)
	flipped[len(flipped)-6] ^= 1 // in the CRC
	cases := []struct {
		name    string
		content []byte
		want    string
	}{
		{"not gzip", idxFilesOf()[name], "is not a gzip file"},
		{"cut", good[:len(good)/2], "truncated or damaged"},
		{"no trailer", good[:len(good)-4], "behind them"},
		{"sum", flipped, "checksum"},
		{"short", zip(t, idxFilesOf()[name][:20]), "4 of the 12 bytes that its header declares"},
		{"long", zip(t, append(idxFilesOf()[name], 0)), "more data follows"},
		{"bomb", zip(t, idx(idxImages, []uint32{60000, 28, 28})), "but holds at most"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			files := idxFilesOf()
			delete(files, name)
			files[name+".gz"] = c.content
			_, err := loadIDXPair(mapFolder(files), fashionBase, Spec{})
			wantError(t, err, "dir/"+name+".gz", c.want)
		})
	}
}

func TestCheck(t *testing.T) {
	good := func() *Pair {
		s := func(name string) *Set {
			return &Set{Name: name, Images: make([]byte, 8), Labels: []int32{0, 1}, H: 2, W: 2, C: 1, Classes: 2,
				Mean: []float32{0}, Std: []float32{1}}
		}
		return &Pair{s("a"), s("b")}
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		spoil func(p *Pair)
		want  string
	}{
		{func(p *Pair) { p.Train.H = 0 }, "all must be positive"},
		{func(p *Pair) { p.Train.Labels = nil }, "a: the set has no images"},
		{func(p *Pair) { p.Test.Images = p.Test.Images[:7] }, "b: 7 image bytes"},
		{func(p *Pair) { p.Test.Mean = nil }, "0 means"},
		{func(p *Pair) { p.Test.Std = []float32{0} }, "not positive"},
		{func(p *Pair) { p.Train.ClassNames = []string{"x"} }, "1 class names for 2 classes"},
		{func(p *Pair) { p.Train.Labels[1] = 2 }, "label 2 of image 1"},
		{func(p *Pair) { p.Train.Labels[0] = -1 }, "label -1 of image 0"},
		{func(p *Pair) { p.Test.H, p.Test.W = 1, 4 }, "a has images of 2x2x1 but b of 1x4x1"},
		{func(p *Pair) { p.Test.Classes = 3 }, "a has 2 classes but b has 3"},
	}
	for _, c := range cases {
		p := good()
		c.spoil(p)
		wantError(t, p.Check(), c.want)
	}
}

func TestOpenErrors(t *testing.T) {
	_, err := Open(Spec{Name: "cifar-10"})
	wantError(t, err, `"cifar-10"`, "did you mean cifar10?")
	_, err = Open(Spec{Name: "voc2012segmentation"})
	wantError(t, err, "cifar10, cifar100, mnist, fashion-mnist, fashion-mnist-small")
	_, err = Open(Spec{Name: "FashionMNIST"})
	wantError(t, err, "did you mean fashion-mnist?")
	_, err = Open(Spec{Name: "cifar10"})
	wantError(t, err, "cifar10 needs a path", "data_batch_1.bin")
	_, err = Open(Spec{Name: "mnist", Path: filepath.Join(t.TempDir(), "none")})
	wantError(t, err, "none: no such file")
	_, err = Open(Spec{Name: "fashion-mnist-small", TrainLimit: -1})
	wantError(t, err, "0 for all")
	file := filepath.Join(t.TempDir(), "cifar.tar.gz")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Spec{Name: "cifar10", Path: file})
	wantError(t, err, "cifar.tar.gz is a file; give the folder")
}

func TestOpenFindsTheArchivesFolder(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "cifar-10-batches-bin")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Spec{Name: "cifar10", Path: dir})
	wantError(t, err, sub+" has no data_batch_1.bin")
}

func TestBundledSet(t *testing.T) {
	pair, err := Open(Spec{Name: "fashion-mnist-small"})
	if err != nil {
		t.Fatal(err)
	}
	if pair.Train.Len() != 8000 || pair.Test.Len() != 2000 || pair.Train.ImageBytes() != 784 {
		t.Fatalf("%d + %d images of %d bytes", pair.Train.Len(), pair.Test.Len(), pair.Train.ImageBytes())
	}
	wantBalanced(t, pair.Train, 800)
	wantBalanced(t, pair.Test, 200)
	// The first ten labels and the mean of the full set's first images, known from Fashion-MNIST itself.
	if got, want := pair.Train.Labels[:10], []int32{9, 0, 0, 3, 0, 2, 7, 2, 5, 5}; !reflect.DeepEqual(got, want) {
		t.Errorf("first labels %v, want %v", got, want)
	}
	if mean := pixelMean(pair.Train); mean < 0.27 || mean > 0.30 {
		t.Errorf("mean of the pixels is %.4f; the full set has 0.2860", mean)
	}
}

func wantBalanced(t *testing.T, s *Set, each int) {
	t.Helper()
	counts := make([]int, s.Classes)
	for _, y := range s.Labels {
		counts[y]++
	}
	for y, n := range counts {
		if n != each {
			t.Errorf("%s: class %d has %d images, want %d", s.Name, y, n, each)
		}
	}
}

func pixelMean(s *Set) float64 {
	sum := 0.0
	for _, b := range s.Images {
		sum += float64(b)
	}
	return sum / 255 / float64(len(s.Images))
}

func TestLimits(t *testing.T) {
	pair, err := Open(Spec{Name: "fashion-mnist-small", TrainLimit: 50, TestLimit: 5000})
	if err != nil {
		t.Fatal(err)
	}
	if pair.Train.Len() != 50 || pair.Test.Len() != 2000 {
		t.Fatalf("%d + %d images", pair.Train.Len(), pair.Test.Len())
	}
	wantBalanced(t, pair.Train, 5)
}

func TestSubsets(t *testing.T) {
	s := &Set{Images: []byte{0, 1, 2, 3, 4, 5, 6}, Labels: []int32{2, 0, 0, 0, 1, 0, 2}, H: 1, W: 1, C: 1, Classes: 3}
	for n, want := range map[int][]byte{1: {1}, 3: {0, 1, 4}, 4: {0, 1, 2, 4}, 5: {0, 1, 2, 4, 6}, 6: {0, 1, 2, 3, 4, 6}, 7: s.Images, 9: s.Images, 0: s.Images} {
		if got := s.Balanced(n); !bytes.Equal(got.Images, want) || got.Len() != len(want) {
			t.Errorf("balanced %d: %v, want %v", n, got.Images, want)
		}
	}
}

// TestRealCIFAR10 reads the real files where BROADSIDE_CIFAR10 names their folder.
func TestRealCIFAR10(t *testing.T) {
	dir := os.Getenv("BROADSIDE_CIFAR10")
	if dir == "" {
		t.Skip("BROADSIDE_CIFAR10 is not set")
	}
	pair, err := Open(Spec{Name: "cifar10", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	if pair.Train.Len() != 50000 || pair.Test.Len() != 10000 {
		t.Fatalf("%d + %d images", pair.Train.Len(), pair.Test.Len())
	}
	wantBalanced(t, pair.Train, 5000)
	wantBalanced(t, pair.Test, 1000)
	sums := make([]float64, 3)
	for i, b := range pair.Train.Images {
		sums[i%3] += float64(b) / 255 / 50000 / 1024
	}
	for c, mean := range sums {
		if d := mean - float64(pair.Train.Mean[c]); d > 2e-4 || d < -2e-4 {
			t.Errorf("channel %d: mean %.4f, the literature has %.4f", c, mean, pair.Train.Mean[c])
		}
	}
}

// TestRealFashionMNIST checks the bundled subset against the full set where BROADSIDE_FASHION_MNIST
// names its folder.
func TestRealFashionMNIST(t *testing.T) {
	dir := os.Getenv("BROADSIDE_FASHION_MNIST")
	if dir == "" {
		t.Skip("BROADSIDE_FASHION_MNIST is not set")
	}
	full, err := Open(Spec{Name: "fashion-mnist", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	if full.Train.Len() != 60000 || full.Test.Len() != 10000 {
		t.Fatalf("%d + %d images", full.Train.Len(), full.Test.Len())
	}
	small, err := Open(Spec{Name: "fashion-mnist-small"})
	if err != nil {
		t.Fatal(err)
	}
	want := full.Limit(small.Train.Len(), small.Test.Len())
	if !bytes.Equal(want.Train.Images, small.Train.Images) || !bytes.Equal(want.Test.Images, small.Test.Images) ||
		!reflect.DeepEqual(want.Train.Labels, small.Train.Labels) || !reflect.DeepEqual(want.Test.Labels, small.Test.Labels) {
		t.Error("the bundled set is not the subset that its command makes")
	}
}

func FuzzIDX(f *testing.F) {
	for _, content := range idxFilesOf() {
		f.Add(content, false)
		f.Add(zip(f, content), true)
	}
	f.Fuzz(func(t *testing.T, content []byte, zipped bool) {
		files := idxFilesOf()
		name := "train-images-idx3-ubyte"
		delete(files, name)
		if zipped {
			name += ".gz"
		}
		files[name] = content
		dims, pixels, err := readIDXFile(mapFolder(files), name, idxImages)
		if err == nil && (len(dims) != 3 || len(pixels) != dims[0]*dims[1]*dims[2]) {
			t.Errorf("dimensions %v with %d bytes", dims, len(pixels))
		}
		if pair, err := loadIDXPair(mapFolder(files), fashionBase, Spec{}); err == nil {
			if err := pair.Train.Check(); err != nil {
				t.Errorf("read without an error: %v", err)
			}
		}
	})
}

func FuzzCIFAR(f *testing.F) {
	f.Add(append(cifarRecord(3), cifarRecord(9)...), byte(2))
	f.Add(cifarRecord(19, 99), byte(1))
	f.Add([]byte{1, 2, 3}, byte(1))
	f.Fuzz(func(t *testing.T, content []byte, records byte) {
		for _, l := range []cifarLayout{cifar10, cifar100Fine, cifar100Coarse} {
			base := Set{Classes: 20, Mean: cifarMean, Std: cifarStd}
			s, err := loadCIFAR(mapFolder(map[string][]byte{"a.bin": content}), base, l, []cifarFile{{"a.bin", int(records)}})
			if err != nil {
				continue
			}
			if records > 0 && s.Check() != nil || s.Len() != int(records) {
				t.Errorf("%d records read without an error: %v", records, s.Check())
			}
		}
	})
}
