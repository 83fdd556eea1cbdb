package data

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"broadside/engine/npy"
)

// array writes a .npy file's bytes.
func array[T npy.Number](t testing.TB, shape []int, elements []T) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := npy.Write(&out, shape, elements); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// npyFiles is a set of two training images and a test image of 1x2.
func npyFiles(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"x_train.npy": array(t, []int{2, 1, 2, 3}, []byte{0, 255, 7, 255, 0, 7, 0, 255, 7, 255, 0, 7}),
		"y_train.npy": array(t, []int{2}, []int64{1, 0}),
		"x_test.npy":  array(t, []int{1, 1, 2, 3}, []byte{1, 2, 3, 4, 5, 6}),
		"y_test.npy":  array(t, []int{1, 1}, []int32{4}),
	}
}

func TestNPYSet(t *testing.T) {
	pair, err := loadNPYPair(mapFolder(npyFiles(t)), Set{}, Spec{})
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Check(); err != nil {
		t.Fatal(err)
	}
	a, b := pair.Train, pair.Test
	if a.H != 1 || a.W != 2 || a.C != 3 || a.Classes != 5 || !reflect.DeepEqual(a.Labels, []int32{1, 0}) || !reflect.DeepEqual(b.Labels, []int32{4}) {
		t.Errorf("%+v and %+v", a, b)
	}
	// Half of the pixels of two channels are white; the third is the same everywhere.
	if want := []float32{0.5, 0.5, 7. / 255}; !reflect.DeepEqual(a.Mean, want) || !reflect.DeepEqual(a.Std, []float32{0.5, 0.5, 1}) {
		t.Errorf("mean %v, deviation %v", a.Mean, a.Std)
	}
}

// What is exported reads back as the same set.
func TestNPYThereAndBack(t *testing.T) {
	pair, err := Open(Spec{Name: "fashion-mnist-small", TrainLimit: 30, TestLimit: 20})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := pair.WriteNPY(dir); err != nil {
		t.Fatal(err)
	}
	again, err := Open(Spec{Name: "npy", Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range []*Set{again.Train, again.Test} {
		want := []*Set{pair.Train, pair.Test}[i]
		if !bytes.Equal(s.Images, want.Images) || !reflect.DeepEqual(s.Labels, want.Labels) || s.H != 28 || s.W != 28 || s.C != 1 || s.Classes != 10 {
			t.Errorf("%s differs", s.Name)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestNPYSetErrors(t *testing.T) {
	for _, c := range []struct {
		name, file string
		content    []byte
		want       []string
	}{
		{"missing", "y_test.npy", nil, []string{"dir/y_test.npy", "not exist"}},
		{"labels for images", "x_train.npy", npyFiles(t)["y_train.npy"], []string{"x_train.npy has type i8 and shape [2]", "bytes (u1) of [N, H, W, C]"}},
		{"floats", "x_train.npy", array(t, []int{2, 1, 2, 3}, make([]float32, 12)), []string{"has type f4"}},
		{"float labels", "y_train.npy", array(t, []int{2}, []float64{1, 0}), []string{"y_train.npy holds elements of type f8"}},
		{"number of labels", "y_train.npy", array(t, []int{3}, []int64{1, 0, 1}), []string{"y_train.npy has shape [3]", "2 images in dir/x_train.npy have shape [2]"}},
		{"one-hot labels", "y_train.npy", array(t, []int{2, 2}, []int64{1, 0, 0, 1}), []string{"y_train.npy has shape [2 2]"}},
		{"negative", "y_train.npy", array(t, []int{2}, []int32{0, -1}), []string{"label -1 of image 1 is outside 0 to 99999"}},
		{"absurd", "y_train.npy", array(t, []int{2}, []int64{0, 1 << 40}), []string{"label 1099511627776 of image 1"}},
		{"rest", "y_train.npy", append(npyFiles(t)["y_train.npy"], 0), []string{"y_train.npy: behind the array: more data follows"}},
		{"cut", "x_test.npy", npyFiles(t)["x_test.npy"][:130], []string{"x_test.npy declares", "the 2 bytes that follow"}},
		{"other shape", "x_test.npy", array(t, []int{1, 2, 1, 3}, make([]byte, 6)), []string{"1x2x3 but", "2x1x3: they must agree"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := npyFiles(t)
			if files[c.file] = c.content; c.content == nil {
				delete(files, c.file)
			}
			pair, err := loadNPYPair(mapFolder(files), Set{}, Spec{})
			if err == nil {
				pair.Train.Name, pair.Test.Name = "a", "b"
				err = pair.Check()
			}
			wantError(t, err, c.want...)
		})
	}
}

func FuzzNPYSet(f *testing.F) {
	files := npyFiles(f)
	f.Add(files["x_train.npy"], files["y_train.npy"])
	f.Add(format(f, "images_2.npy"), format(f, "labels_u1.npy"))
	f.Fuzz(func(t *testing.T, images, labels []byte) {
		files := map[string][]byte{"x_train.npy": images, "y_train.npy": labels, "x_test.npy": images, "y_test.npy": labels}
		if pair, err := loadNPYPair(mapFolder(files), Set{}, Spec{}); err == nil {
			if err := pair.Check(); err != nil {
				t.Errorf("read without an error: %v", err)
			}
		}
	})
}
