package data

import (
	"archive/tar"
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"broadside/engine/data/pixels"
)

// picture is an image file of one colour, which tells its number.
func picture(t testing.TB, format string, number byte) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 12, 10))
	for i := range 120 {
		m.Set(i%12, i/12, color.RGBA{number, number, number, 255})
	}
	var out bytes.Buffer
	err := png.Encode(&out, m)
	if format == "jpg" {
		out.Reset()
		err = jpeg.Encode(&out, m, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// someFiles are the options of small sets.
func someFiles() Spec {
	return Spec{Files: Files{Size: 4, MaxBytes: 1 << 20, ValShare: 0.25, Decoder: pixels.Go}}
}

// numbers are the colours of a set's images.
func numbers(t *testing.T, s *Set) (out []int) {
	t.Helper()
	dst := make([]byte, s.ImageBytes())
	for i := range s.Len() {
		if s.Streamed() {
			if err := s.Source.Decode(dst, i, View{}); err != nil {
				t.Fatal(err)
			}
		} else {
			copy(dst, s.Image(i))
		}
		out = append(out, int(dst[0]))
	}
	return out
}

// tinyFolder is a folder in ImageNet's layout, of images 10, 20, ... to train on and 15, 25, ... to test on.
func tinyFolder(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"train/cat/b.png": picture(t, "png", 20), "train/cat/a.JPEG": picture(t, "jpg", 10), "train/cat/.hidden.png": nil, "train/cat/boxes.txt": nil,
		"train/dog/images/c.jpg": picture(t, "jpg", 30), "train/dog/d.png": picture(t, "png", 40), "train/dog/Thumbs.db": nil,
		"val/dog/x.png": picture(t, "png", 35), "val/cat/y.jpeg": picture(t, "jpg", 15), "train/.git/z.png": nil, "README": nil,
	}
}

func loadTiny(f folder, spec Spec) (*Pair, error) {
	pair, err := loadFolders(f, imageBase, spec)
	if err == nil {
		pair.Train.Name, pair.Test.Name = "tiny train", "tiny test"
		err = pair.Check()
	}
	return pair, err
}

func TestFolderLayouts(t *testing.T) {
	tinyImageNet := tinyFolder(t)
	maps.DeleteFunc(tinyImageNet, func(name string, _ []byte) bool { return strings.HasPrefix(name, "val/") })
	tinyImageNet["val/val_annotations.txt"] = []byte("v0.JPEG\tdog\t0\t0\t3\t3\nv1.JPEG\tcat\t0\t0\t3\t3\n\n")
	tinyImageNet["val/images/v0.JPEG"], tinyImageNet["val/images/v1.JPEG"] = picture(t, "jpg", 35), picture(t, "jpg", 15)
	other := tinyFolder(t)
	for name, content := range tinyFolder(t) {
		if rest, ok := strings.CutPrefix(name, "val/"); ok {
			delete(other, name)
			other["test/"+rest] = content
		}
	}
	for name, c := range map[string]struct {
		files  map[string][]byte
		stream bool
		train  []int
		labels []int32
		test   []int
	}{
		"ImageNet":           {tinyFolder(t), false, []int{10, 20, 40, 30}, []int32{0, 0, 1, 1}, []int{15, 35}},
		"ImageNet, streamed": {tinyFolder(t), true, []int{10, 20, 40, 30}, []int32{0, 0, 1, 1}, []int{15, 35}},
		"TinyImageNet":       {tinyImageNet, false, []int{10, 20, 40, 30}, []int32{0, 0, 1, 1}, []int{35, 15}},
		"test folder":        {other, false, []int{10, 20, 40, 30}, []int32{0, 0, 1, 1}, []int{15, 35}},
	} {
		spec := someFiles()
		spec.Files.Stream = c.stream
		pair, err := loadTiny(mapFolder(c.files), spec)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if pair.Train.Streamed() != c.stream || pair.Test.Streamed() {
			t.Errorf("%s: streamed %t and %t", name, pair.Train.Streamed(), pair.Test.Streamed())
		}
		if got := numbers(t, pair.Train); !slices.Equal(got, c.train) || !slices.Equal(pair.Train.Labels, c.labels) {
			t.Errorf("%s: images %v of classes %v to train on; want %v of %v", name, got, pair.Train.Labels, c.train, c.labels)
		}
		if got := numbers(t, pair.Test); !slices.Equal(got, c.test) {
			t.Errorf("%s: images %v to test on; want %v", name, got, c.test)
		}
		if !slices.Equal(pair.Train.ClassNames, []string{"cat", "dog"}) || pair.Train.H != 4 || pair.Train.C != 3 {
			t.Errorf("%s: classes %v, images of %dx%d", name, pair.Train.ClassNames, pair.Train.H, pair.Train.C)
		}
	}
}

// ownFolder is a user's folder of three classes without a division.
func ownFolder(t testing.TB, each int) map[string][]byte {
	files := map[string][]byte{}
	for i := range 3 * each {
		files[fmt.Sprintf("class%d/%03d.png", i%3, i)] = picture(t, "png", byte(i))
	}
	return files
}

// A folder without images to test on gives a share of each class, always the same.
func TestSplit(t *testing.T) {
	pair, err := loadTiny(mapFolder(ownFolder(t, 20)), someFiles())
	if err != nil {
		t.Fatal(err)
	}
	train, test := numbers(t, pair.Train), numbers(t, pair.Test)
	for class := range int32(3) {
		n := 0
		for _, y := range pair.Test.Labels {
			if y == class {
				n++
			}
		}
		if n != 5 {
			t.Errorf("class %d: %d of 20 images to test on; want 5", class, n)
		}
	}
	all := slices.Sorted(slices.Values(append(slices.Clone(train), test...)))
	if want := slices.Collect(func(yield func(int) bool) {
		for i := range 60 {
			if !yield(i) {
				return
			}
		}
	}); !slices.Equal(all, want) {
		t.Errorf("the parts are not the whole: %v", all)
	}
	if want := []int{6, 27, 33, 48, 57, 10, 25, 34, 40, 58, 2, 26, 38, 50, 56}; !slices.Equal(test, want) {
		t.Errorf("the images to test on are %v; another program found %v", test, want)
	}
	more := ownFolder(t, 20)
	more["class0/more.png"] = picture(t, "png", 99)
	grown, err := loadTiny(mapFolder(more), someFiles())
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	for _, i := range numbers(t, grown.Test) {
		if !slices.Contains(test, i) && i != 99 {
			moved++
		}
	}
	if moved > 1 {
		t.Errorf("one more image moved %d others from training to testing", moved)
	}
}

func TestFolderLimits(t *testing.T) {
	spec := someFiles()
	spec.TrainLimit, spec.TestLimit = 6, 3
	for _, stream := range []bool{false, true} {
		spec.Files.Stream = stream
		pair, err := loadTiny(mapFolder(ownFolder(t, 20)), spec)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(pair.Train.Labels, []int32{0, 0, 1, 1, 2, 2}) || pair.Test.Len() != 3 {
			t.Errorf("labels %v and %v", pair.Train.Labels, pair.Test.Labels)
		}
		for i, n := range numbers(t, pair.Train) {
			if n%3 != int(pair.Train.Labels[i]) {
				t.Errorf("image %d has the label %d", n, pair.Train.Labels[i])
			}
		}
	}
}

func TestFolderMistakes(t *testing.T) {
	change := func(edit func(files map[string][]byte)) map[string][]byte {
		files := tinyFolder(t)
		edit(files)
		return files
	}
	good := someFiles()
	with := func(edit func(*Files)) Spec {
		spec := someFiles()
		edit(&spec.Files)
		return spec
	}
	for name, c := range map[string]struct {
		files map[string][]byte
		spec  Spec
		want  []string
	}{
		"nothing":          {map[string][]byte{"README": nil}, good, []string{"data folder dir has 0 folders", "two or more"}},
		"one class":        {map[string][]byte{"cat/a.png": picture(t, "png", 1)}, good, []string{"dir has 1 folders"}},
		"empty class":      {change(func(f map[string][]byte) { f["train/bird/x.txt"] = nil }), good, []string{"class folder dir/train/bird has no .jpg"}},
		"other class":      {change(func(f map[string][]byte) { f["val/bird/x.png"] = nil }), good, []string{"dir/val/bird", "dir/train/bird to train on"}},
		"odd annotation":   {change(func(f map[string][]byte) { f[annotations] = []byte("a.jpg cat\n") }), good, []string{"val_annotations.txt: line 1", "a.jpg cat"}},
		"path in a name":   {change(func(f map[string][]byte) { f[annotations] = []byte("../../a.jpg\tcat\n") }), good, []string{"line 1 is not a file"}},
		"unknown class":    {change(func(f map[string][]byte) { f[annotations] = []byte("a.jpg\tcat\nb.jpg\tcow\n") }), good, []string{"line 2 has class \"cow\""}},
		"annotated image":  {change(func(f map[string][]byte) { f[annotations] = []byte("a.jpg\tcat\n") }), good, []string{"data file dir/val/images/a.jpg", "not exist"}},
		"no size":          {tinyFolder(t), with(func(o *Files) { o.Size = 0 }), []string{"data.size is 0", "224"}},
		"small resize":     {tinyFolder(t), with(func(o *Files) { o.Resize = 3 }), []string{"data.resize 3 is less than data.size 4"}},
		"decoder":          {tinyFolder(t), with(func(o *Files) { o.Decoder = "gd" }), []string{"data.decoder gd", "did you mean go?"}},
		"memory":           {tinyFolder(t), with(func(o *Files) { o.MaxBytes = 287 }), []string{"6 images of 4x4 take 0.0 GB", "data.max_memory_gb allows 2.87e-07", "random_resized_crop"}},
		"broken image":     {change(func(f map[string][]byte) { f["train/cat/a.JPEG"] = []byte("\xff\xd8\xffno") }), good, []string{"image dir/train/cat/a.JPEG: ", "data.max_bad"}},
		"text as an image": {change(func(f map[string][]byte) { f["train/cat/a.JPEG"] = []byte("<html>") }), good, []string{"a.JPEG: is neither a JPEG nor a PNG file", "<html>"}},
		"no share":         {ownFolder(t, 2), with(func(o *Files) { o.ValShare = 0 }), []string{"no images to test on", "data.val_share"}},
	} {
		_, err := loadTiny(mapFolder(c.files), c.spec)
		if err == nil {
			t.Errorf("%s is accepted", name)
			continue
		}
		t.Logf("%s: %v", name, err)
		wantError(t, err, c.want...)
	}
}

// Another image of its class takes the place of one that cannot be decoded, up to as many as are tolerated.
func TestBadImages(t *testing.T) {
	files := ownFolder(t, 8)
	files["class1/001.png"], files["class1/004.png"] = []byte("broken"), files["class1/004.png"][:60]
	for _, stream := range []bool{false, true} {
		spec := someFiles()
		spec.Files.Stream, spec.Files.MaxBad = stream, 2
		pair, err := loadTiny(mapFolder(files), spec)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*Set{pair.Train, pair.Test} {
			for i, n := range numbers(t, s) {
				if n == 1 || n == 4 || int32(n%3) != s.Labels[i] {
					t.Errorf("streamed %t: %s has image %d for the label %d", stream, s.Name, n, s.Labels[i])
				}
			}
		}
		if n, why := pair.Train.Source.Bad(); n != 2 || !strings.Contains(why, "dir/class1/00") {
			t.Errorf("streamed %t: %d bad images, the first: %s", stream, n, why)
		}
		spec.Files.MaxBad = 1
		pair, err = loadTiny(mapFolder(files), spec)
		for i := 0; err == nil && i < pair.Train.Len(); i++ {
			err = pair.Train.Source.Decode(make([]byte, 48), i, View{Crop: true, MinArea: 0.5})
		}
		wantError(t, err, "2 images cannot be decoded, data.max_bad allows 1", "dir/class1/00")
	}
	for name := range files {
		if strings.HasPrefix(name, "class2") {
			files[name] = []byte("broken")
		}
	}
	spec := someFiles()
	spec.Files.MaxBad = 100
	_, err := loadTiny(mapFolder(files), spec)
	wantError(t, err, "no image of the class of dir/class2/", "can be decoded")
}

// A view depends on all that keys it, and is the same again.
func TestViews(t *testing.T) {
	files := tinyFolder(t)
	var out bytes.Buffer
	m := image.NewGray(image.Rect(0, 0, 64, 64))
	for i := range m.Pix {
		m.Pix[i] = byte(i*7 + i/64*13)
	}
	if err := png.Encode(&out, m); err != nil {
		t.Fatal(err)
	}
	files["train/cat/a.JPEG"], files["train/cat/b.png"] = out.Bytes(), out.Bytes()
	spec := someFiles()
	spec.Files.Stream = true
	pair, err := loadTiny(mapFolder(files), spec)
	if err != nil {
		t.Fatal(err)
	}
	decode := func(i int, v View) string {
		dst := make([]byte, 48)
		if err := pair.Train.Source.Decode(dst, i, v); err != nil {
			t.Fatal(err)
		}
		return string(dst)
	}
	base := View{Crop: true, MinArea: 0.08, Flip: true, Seed: 1, Epoch: 2, Copy: 1}
	first := decode(0, base)
	others := []View{{}, base, base, base, base}
	others[1].MinArea, others[2].Seed, others[3].Epoch, others[4].Copy = 0.9, 2, 3, 0
	for _, v := range others {
		if decode(0, v) == first {
			t.Errorf("%+v gives what %+v gives", v, base)
		}
	}
	if decode(1, base) == first {
		t.Error("two samples of one image have the same view")
	}
	if decode(0, base) != first {
		t.Error("a view is another the second time")
	}
}

// member is a member of a tar archive.
type member struct {
	name    string
	content []byte
}

func archive(t testing.TB, members ...member) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, m := range members {
		if err := w.WriteHeader(&tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// tinyShards are archives of images 10, 20, 30 to train on and 15 to test on.
func tinyShards(t testing.TB) map[string][]byte {
	long := strings.Repeat("a/long/path/", 20)
	return map[string][]byte{
		"tiny-train-000.tar": archive(t, member{"0001.cls", []byte("1")}, member{"0001.jpg", picture(t, "jpg", 10)}, member{"0001.txt", []byte("a cat")},
			member{long + "x.png", picture(t, "png", 20)}, member{long + "x.json", []byte(`{"label": 0, "text": "dog"}`)}),
		"tiny-train-001.tar": archive(t, member{"../../etc/passwd.jpg", picture(t, "jpg", 30)}, member{"../../etc/passwd.cls", []byte("2\n")}, member{"about", nil}),
		"tiny-val-000.tar":   archive(t, member{"v.json", []byte(`{"width": 3}`)}, member{"v.cls", []byte("0")}, member{"v.jpeg", picture(t, "jpg", 15)}),
		"README":             nil,
	}
}

func TestShards(t *testing.T) {
	for _, stream := range []bool{false, true} {
		spec := someFiles()
		spec.Files.Stream = stream
		pair, err := loadShards(mapFolder(tinyShards(t)), imageBase, spec)
		if err != nil {
			t.Fatal(err)
		}
		if got := numbers(t, pair.Train); !slices.Equal(got, []int{10, 20, 30}) || !slices.Equal(pair.Train.Labels, []int32{1, 0, 2}) || pair.Train.Classes != 3 {
			t.Errorf("images %v of classes %v of %d to train on", got, pair.Train.Labels, pair.Train.Classes)
		}
		if got := numbers(t, pair.Test); !slices.Equal(got, []int{15}) || !slices.Equal(pair.Test.Labels, []int32{0}) {
			t.Errorf("images %v of classes %v to test on", got, pair.Test.Labels)
		}
	}
	for _, name := range []string{"a.tar", "part-7.tar"} {
		var members []member
		for i := range 16 {
			members = append(members, member{fmt.Sprintf("%02d.png", i), picture(t, "png", byte(i))}, member{fmt.Sprintf("%02d.cls", i), []byte(fmt.Sprint(i % 2))})
		}
		one := map[string][]byte{name: archive(t, members...)}
		pair, err := loadShards(mapFolder(one), imageBase, someFiles())
		if err != nil {
			t.Fatal(err)
		}
		if pair.Train.Len() != 12 || pair.Test.Len() != 4 {
			t.Errorf("%s: %d and %d images", name, pair.Train.Len(), pair.Test.Len())
		}
	}
}

func TestShardMistakes(t *testing.T) {
	good := tinyShards(t)["tiny-train-000.tar"]
	image := member{"a.jpg", picture(t, "jpg", 1)}
	for name, c := range map[string]struct {
		files map[string][]byte
		want  []string
	}{
		"no archives":  {map[string][]byte{"a.zip": nil}, []string{"dir has no archives", "NAME-000.tar"}},
		"missing one":  {map[string][]byte{"a-0.tar": good, "a-2.tar": good}, []string{"a-0.tar to a-2.tar", "none with the number 1"}},
		"three sets":   {map[string][]byte{"a-0.tar": good, "b-0.tar": good, "train-0.tar": good}, []string{"sets a, b, train"}},
		"cut":          {map[string][]byte{"a.tar": good[:3000]}, []string{"data file dir/a.tar", "sample", "EOF"}},
		"cut in image": {map[string][]byte{"a.tar": good[:len(good)-3000]}, []string{"data file dir/a.tar"}},
		"no tar":       {map[string][]byte{"a.tar": bytes.Repeat([]byte("x"), 2000)}, []string{"data file dir/a.tar", "damaged"}},
		"empty":        {map[string][]byte{"a.tar": archive(t)}, []string{"dir/a.tar: has no samples"}},
		"no label":     {map[string][]byte{"a.tar": archive(t, image)}, []string{`sample "a" has an image but no label`, `"label"`}},
		"no image":     {map[string][]byte{"a.tar": archive(t, member{"a.webp", nil}, member{"a.cls", []byte("1")})}, []string{`sample "a" has a label but no image`}},
		"two images":   {map[string][]byte{"a.tar": archive(t, image, member{"a.png", nil})}, []string{`"a.png": is the second image`}},
		"text label":   {map[string][]byte{"a.tar": archive(t, image, member{"a.cls", []byte("cat")})}, []string{`"a.cls": has no label`, "cat", "65535"}},
		"large label":  {map[string][]byte{"a.tar": archive(t, image, member{"a.cls", []byte("65536")})}, []string{"has no label", "65536"}},
		"odd JSON":     {map[string][]byte{"a.tar": archive(t, image, member{"a.json", []byte(`{"label": "cat"}`)})}, []string{`"a.json": has no label`}},
		"long label":   {map[string][]byte{"a.tar": archive(t, image, member{"a.cls", make([]byte, maxLabelBytes+1)})}, []string{"longer than 65536 bytes"}},
		"bad image":    {map[string][]byte{"a.tar": archive(t, member{"\x1b[2Ja.jpg", []byte("x")}, member{"\x1b[2Ja.cls", []byte("0")}, member{"b.jpg", []byte("x")}, member{"b.cls", []byte("0")})}, []string{`image "dir/a.tar/\x1b[2Ja.jpg": is neither`}},
	} {
		spec := someFiles()
		_, err := loadShards(mapFolder(c.files), imageBase, spec)
		if err == nil {
			t.Errorf("%s is accepted", name)
			continue
		}
		t.Logf("%s: %v", name, err)
		if name == "bad image" && strings.Contains(err.Error(), "b.jpg") {
			continue // of the two, the other was decoded first
		}
		wantError(t, err, c.want...)
	}
}

func TestFilesNeedASetOfFiles(t *testing.T) {
	for _, o := range []Files{{Size: 32}, {Stream: true}} {
		if _, err := Open(Spec{Name: "fashion-mnist-small", Files: o}); err == nil || !strings.Contains(err.Error(), "its images have one size") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := Open(Spec{Name: "folder"}); err == nil || !strings.Contains(err.Error(), "train/CLASS/*.jpg") {
		t.Errorf("no path: %v", err)
	}
}

// FuzzShard reads archives: what is read without an error lies in the archive.
func FuzzShard(f *testing.F) {
	for _, content := range tinyShards(f) {
		f.Add(content)
	}
	f.Add(archive(f, member{"a.jpg", nil}, member{"a.json", []byte(`{"label": 3}`)}))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := indexShard(bytes.NewReader(content), int64(len(content)), "s.tar")
		if err != nil {
			if !reflect.DeepEqual(got, labelled{}) {
				t.Errorf("%v with %+v", err, got)
			}
			return
		}
		if len(got.entries) == 0 || len(got.entries) != len(got.labels) {
			t.Fatalf("%d entries, %d labels", len(got.entries), len(got.labels))
		}
		for i, e := range got.entries {
			if e.at < 512 || e.size < 0 || e.at+e.size > int64(len(content)) || got.labels[i] < 0 || got.labels[i] >= maxClasses {
				t.Errorf("entry %+v with label %d of %d bytes", e, got.labels[i], len(content))
			}
			if _, err := io.ReadAll(io.NewSectionReader(bytes.NewReader(content), e.at, e.size)); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzAnnotations reads TinyImageNet's annotations: no line may name a file elsewhere.
func FuzzAnnotations(f *testing.F) {
	f.Add([]byte("v0.JPEG\tdog\t0\t0\t3\t3\n"))
	f.Add([]byte("../x.JPEG\tcat\n\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := mapFolder(map[string][]byte{annotations: content}).annotated([]string{"cat", "dog"})
		if err != nil {
			return
		}
		for _, e := range got.entries {
			if !strings.HasPrefix(e.name, "val/images/") {
				t.Errorf("%q", e.name)
			}
		}
	})
}
