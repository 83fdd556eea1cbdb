package engine

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/recipe"
	"broadside/kernels"
	"broadside/kernels/philox"
)

// imageFolder writes JPEG files of classes that differ in colour and in the direction of their stripes, in folders.
func imageFolder(t *testing.T, classes, each int) string {
	t.Helper()
	dir := t.TempDir()
	s := philox.NewStream(1, 99, 0, 0, 0)
	for class := range classes {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("class%d", class)), 0o755); err != nil {
			t.Fatal(err)
		}
		for n := range each {
			w, h := 20+s.Intn(20), 20+s.Intn(20)
			m := image.NewRGBA(image.Rect(0, 0, w, h))
			for y := range h {
				for x := range w {
					at := x
					if class%2 == 1 {
						at = y
					}
					v := uint8(60 + 100*(at/3%2) + s.Intn(40))
					m.Set(x, y, color.RGBA{v, uint8(200 - 150*class/classes), 255 - v, 255})
				}
			}
			file, err := os.Create(filepath.Join(dir, fmt.Sprintf("class%d", class), fmt.Sprintf("%03d.jpg", n)))
			if err != nil {
				t.Fatal(err)
			}
			if err := jpeg.Encode(file, m, nil); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// trainFolder trains on a folder of images and returns the last checkpoint.
func trainFolder(t *testing.T, r *recipe.Recipe, devices []kernels.Device, stopAt int, from *checkpoint.Checkpoint) (*tape, *checkpoint.Checkpoint) {
	t.Helper()
	pair, err := data.Open(specOf(r.Data))
	if err != nil {
		t.Fatal(err)
	}
	s := &tape{stopAt: stopAt, keepSteps: true}
	tr := startTrainerOn(t, r, pair, devices, Options{}, s)
	if from != nil {
		if err := tr.restore(from); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.cancel = cancel
	if err := tr.train(ctx); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return s, s.checkpoints[len(s.checkpoints)-1]
}

// A network learns to tell the classes of a folder apart, with the same bits on any devices and memories and after a
// resume, whether the images are decoded ahead of training or before it.
func TestTrainingOnAFolder(t *testing.T) {
	folder := imageFolder(t, 3, 60)
	for _, augment := range []string{"random_resized_crop, flip", "flip"} {
		text := strings.Replace(smallText, "name: synthetic, augment: [pad_crop, flip, cutout], pad: 1, cutout_size: 2", "name: folder, size: 16, crop_area: 0.25, augment: ["+augment+"], path: "+folder, 1)
		r := parseRecipe(t, text, "batch.size=32", "batch.leaf=16", "train.epochs=4", "schedule={name: constant}")
		tape, one := trainFolder(t, r, devicetest.Open(t, 1), 0, nil)
		if last := tape.epochs[len(tape.epochs)-1]; !(*last.TestAccuracy > 0.9) {
			t.Errorf("%s: a test accuracy of %g", augment, *last.TestAccuracy)
		}
		if _, many := trainFolder(t, r, devicetest.Open(t, 3), 0, nil); difference(one, many) != "" {
			t.Errorf("%s, on 3 devices: %s", augment, difference(one, many))
		}
		if _, apart := trainFolder(t, r, devicetest.OpenApart(t, 4, 1), 0, nil); difference(one, apart) != "" {
			t.Errorf("%s, on 4 memories: %s", augment, difference(one, apart))
		}
		_, half := trainFolder(t, r, devicetest.Open(t, 2), 7, nil)
		if _, resumed := trainFolder(t, r, devicetest.Open(t, 3), 0, half); difference(one, resumed) != "" {
			t.Errorf("%s, resumed: %s", augment, difference(one, resumed))
		}
	}
}

func TestCropsNeedFiles(t *testing.T) {
	r := parseRecipe(t, smallText, "data.name=fashion-mnist-small", "data.augment=[random_resized_crop]")
	if _, err := open(r, Options{}); err == nil || !strings.Contains(err.Error(), "random_resized_crop: its images have one size") {
		t.Errorf("got %v", err)
	}
}
