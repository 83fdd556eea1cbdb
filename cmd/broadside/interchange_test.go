package main

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"broadside/engine/checkpoint"
	"broadside/engine/npy"
)

// images writes the tiny data set's test images as a .npy file and returns their pixels.
func images(t *testing.T, path string) []byte {
	t.Helper()
	pixels := []byte(read(t, "data/t10k-images-idx3-ubyte"))[16:]
	var out bytes.Buffer
	if err := npy.Write(&out, []int{tinyTest, 8, 8}, pixels); err != nil {
		t.Fatal(err)
	}
	write(t, path, out.String())
	return pixels
}

// picture writes a grey image as a PNG file, each pixel `scale` times as wide and high, or as a JPEG file.
func picture(t *testing.T, path string, pixels []byte, scale int) {
	t.Helper()
	m := image.NewGray(image.Rect(0, 0, 8*scale, 8*scale))
	for i := range 64 * scale * scale {
		x, y := i%(8*scale), i/(8*scale)
		m.SetGray(x, y, color.Gray{Y: pixels[y/scale*8+x/scale]})
	}
	var out bytes.Buffer
	encode := func() error { return png.Encode(&out, m) }
	if strings.HasSuffix(path, ".jpg") {
		encode = func() error { return jpeg.Encode(&out, m, &jpeg.Options{Quality: 100}) }
	}
	if err := encode(); err != nil {
		t.Fatal(err)
	}
	write(t, path, out.String())
}

// array reads the logits that predict wrote.
func array(t *testing.T, path string) []byte {
	t.Helper()
	content := []byte(read(t, path))
	r := bytes.NewReader(content)
	h, err := npy.Read(r, int64(len(content)))
	if err != nil || h.Type != "f4" || !slices.Equal(h.Shape, []int{tinyTest, 10}) {
		t.Fatalf("%s: %+v, %v", path, h, err)
	}
	return content[len(content)-r.Len():]
}

// A run's network goes out as safetensors and comes back: evaluation and logits have the same bits.
func TestExportAndImport(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r")
	images(t, "x.npy")
	must(t, "predict", "r", "x.npy", "--npy", "a.npy", "--devices", "1")
	out := must(t, "export", "r", "--safetensors", "w.safetensors", "--onnx", "m.onnx", "--pixels")
	if !strings.Contains(out, "w.safetensors: resnet8, 10 classes") || !strings.Contains(out, "m.onnx: resnet8, 10 classes; inputs are pixels from 0 to 255") {
		t.Errorf("export says %q", out)
	}
	ck, err := checkpoint.Read("w.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	for name := range ck.Tensors {
		if strings.HasPrefix(name, "broadside.") {
			t.Errorf("tensor %s was exported", name)
		}
	}
	if len(ck.Meta) != 1 || ck.Meta["format"] != "pt" {
		t.Errorf("metadata %v", ck.Meta)
	}
	if onnx := read(t, "m.onnx"); !strings.Contains(onnx, "BatchNormalization") || !strings.Contains(onnx, `["0","1"`) {
		t.Error("the ONNX model lacks its layers or the names of its classes")
	}
	r := decode[map[string]any](t, must(t, "import", "w.safetensors", "--recipe", "tiny.yaml", "--out", "c.safetensors", "--json"))
	if r["model"] != "resnet8" || r["classes"] != 10.0 || r["mean"] != nil {
		t.Errorf("import says %v", r)
	}
	must(t, "predict", "c.safetensors", "x.npy", "--npy", "b.npy", "--devices", "2")
	if !bytes.Equal(array(t, "a.npy"), array(t, "b.npy")) {
		t.Error("the imported network has other logits")
	}
	if a, b := must(t, "eval", "r"), must(t, "eval", "c.safetensors"); a != b {
		t.Errorf("the run's evaluation is %s, the import's %s", a, b)
	}
	out = must(t, "import", "w.safetensors", "--model", "resnet8", "--input", "8x8x1", "--mean", "0.5", "--std", "0.25", "--out", "n.safetensors")
	if want := "n.safetensors: resnet8 for 8x8x1 images and 10 classes, pixels from 0 to 1 normalised with mean [0.5] and standard deviation [0.25]\n"; out != want {
		t.Errorf("import says %q, want %q", out, want)
	}
	must(t, "train", "tiny.yaml", "--run", "tuned", "--set", "model.weights=n.safetensors")
}

// Image files are predicted as the same pixels in an array are, and larger ones about so.
func TestPredictFiles(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r")
	pixels := images(t, "x.npy")
	files := []string{"same.png", "large.png", "large.jpg"}
	for i, name := range files {
		picture(t, name, pixels[64*i:64*i+64], 1+5*min(i, 1))
	}
	type answer struct {
		Image  string
		Logits []float64
		Top    []struct {
			Class       int
			Name        string
			Probability float64
		}
	}
	all := decode[[]answer](t, must(t, "predict", "r", "x.npy", "--json", "--logits", "--top", "10"))
	if len(all) != tinyTest || all[7].Image != "x.npy[7]" {
		t.Fatalf("%d answers, the eighth %+v", len(all), all[7])
	}
	for _, a := range all {
		sum, last := 0.0, 1.0
		for _, c := range a.Top {
			if want := math.Exp(a.Logits[c.Class]-a.Logits[a.Top[0].Class]) * a.Top[0].Probability; c.Probability > last || math.Abs(c.Probability-want) > 1e-6 || c.Name != string(rune('0'+c.Class)) {
				t.Errorf("%s: class %+v; its logit says %v", a.Image, c, want)
			}
			sum, last = sum+c.Probability, c.Probability
		}
		if math.Abs(sum-1) > 1e-9 || len(a.Top) != 10 {
			t.Errorf("%s: probabilities of %d classes add up to %v", a.Image, len(a.Top), sum)
		}
	}
	// With --resize 8 a large file becomes the small image again: every pixel is the mean of a square of one colour and its
	// neighbours, so only nearly.
	got := decode[[]answer](t, must(t, append([]string{"predict", "r", "--json", "--logits", "--resize", "8"}, files...)...))
	if !slices.Equal(got[0].Logits, all[0].Logits) {
		t.Errorf("same.png has the logits %v, its pixels %v", got[0].Logits, all[0].Logits)
	}
	if got[1].Image != "large.png" || len(got[2].Top) != 5 || slices.Equal(got[1].Logits, got[2].Logits) {
		t.Errorf("%+v", got)
	}
	write(t, "names", strings.Repeat("a thing\n", 10))
	out := must(t, "predict", "r", "same.png", "--labels", "names", "--top", "2")
	if !strings.HasPrefix(out, "same.png: a thing ") || strings.Count(out, "a thing") != 2 || strings.Count(out, "%") != 2 {
		t.Errorf("predict says %q", out)
	}
}

func TestInterchangeMistakes(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r", "--set", "train.epochs=1", "--set", "schedule.name=constant", "--set", "schedule.at=[]")
	pixels := images(t, "x.npy")
	picture(t, "a.png", pixels, 1)
	write(t, "cut.png", read(t, "a.png")[:60])
	write(t, "text.jpg", "no picture")
	write(t, "text.npy", "no array")
	write(t, "short.npy", read(t, "x.npy")[:900])
	write(t, "names", "a\nb\n")
	write(t, "w.pth", "PK\x03\x04")
	var out bytes.Buffer
	if err := npy.Write(&out, []int{1, 64}, pixels[:64]); err != nil {
		t.Fatal(err)
	}
	write(t, "flat.npy", out.String())
	const last = "r/checkpoints/step-000000006.safetensors"
	refused(t, []mistake{
		{"import nothing", "import", exitUsage, []string{"0 arguments", "import WEIGHTS"}},
		{"import to nowhere", "import w --model resnet8", exitUsage, []string{"--out is missing"}},
		{"import of nothing", "import w --out x", exitUsage, []string{"--model or --recipe"}},
		{"import of two", "import w --out x --model resnet8 --recipe tiny.yaml", exitUsage, []string{"--model or --recipe"}},
		{"set without a recipe", "import w --out x --model resnet8 --set a=b", exitUsage, []string{"give --recipe too"}},
		{"input of a recipe", "import w --out x --recipe tiny.yaml --input 8x8x1", exitUsage, []string{"are the recipe's"}},
		{"half a normalisation", "import w --out x --model resnet8 --mean 0.5,0.5,0.5", exitUsage, []string{"--mean and --std together"}},
		{"no numbers", "import w --out x --model resnet8 --mean a,b", exitUsage, []string{"--mean", "numbers, as in 0.5,0.5"}},
		{"odd input", "import w --out x --model resnet8 --input 32x32", exitUsage, []string{"--input \"32x32\"", "224x224x3"}},
		{"long input", "import w --out x --model resnet8 --input 32x32x3x1", exitUsage, []string{"--input \"32x32x3x1\""}},
		{"no weights", "import none --out x --model resnet8", exitFailure, []string{"none does not exist"}},
		{"pickle", "import w.pth --out x --model resnet8", exitFailure, []string{"w.pth is a pickle of PyTorch", "safetensors.torch.save_file"}},
		{"model", "import " + last + " --out x --model restnet8", exitFailure, []string{"restnet8", "did you mean resnet8?"}},
		{"no such recipe", "import w --out x --recipe quickstar", exitFailure, []string{"did you mean quickstart?"}},
		{"no folder for the checkpoint", "import " + last + " --out none/x --model resnet8 --input 8x8x1", exitFailure, []string{"none/x"}},
		{"export nothing", "export r", exitUsage, []string{"--safetensors FILE, --onnx FILE"}},
		{"pixels of nothing", "export r --safetensors x --pixels", exitUsage, []string{"--pixels is for --onnx"}},
		{"export over itself", "export r --safetensors " + last, exitUsage, []string{last, "would be written over"}},
		{"export over each other", "export r --safetensors x --onnx ./x", exitUsage, []string{"x would be written over"}},
		{"export of none", "export none --onnx x", exitFailure, []string{"none does not exist"}},
		{"no folder for the model", "export r --onnx none/x", exitFailure, []string{"none/x"}},
		{"predict nothing", "predict r", exitUsage, []string{"1 arguments", "IMAGES..."}},
		{"no classes to show", "predict r a.png --top 0", exitUsage, []string{"--top 0", "at least 1"}},
		{"array over an image", "predict r a.png --npy a.png", exitUsage, []string{"a.png would be written over"}},
		{"too few names", "predict r a.png --labels names", exitFailure, []string{"names", "10 classes, the file 2 lines"}},
		{"no names", "predict r a.png --labels none", exitFailure, []string{"class names", "none"}},
		{"no image", "predict r none.png", exitFailure, []string{"none.png cannot be read", "no such file"}},
		{"no array", "predict r none.npy", exitFailure, []string{"none.npy cannot be read", "no such file"}},
		{"a folder", "predict r data", exitFailure, []string{"data is no file"}},
		{"a cut image", "predict r cut.png", exitFailure, []string{"cut.png"}},
		{"no picture", "predict r text.jpg", exitFailure, []string{"text.jpg is neither a JPEG nor a PNG file"}},
		{"text as an array", "predict r text.npy", exitFailure, []string{"text.npy is no .npy file"}},
		{"a cut array", "predict r short.npy", exitFailure, []string{"short.npy declares elements"}},
		{"an array of another shape", "predict r flat.npy", exitFailure, []string{"flat.npy has type u1 and shape [1 64]", "[N, 8, 8, 1]"}},
		{"small", "predict r a.png --resize 7", exitFailure, []string{"a.png cannot be resized to 7", "takes 8 pixels"}},
		{"decoder", "predict r a.png --decoder x", exitFailure, []string{"image decoder", "libjpeg-turbo"}},
		{"weights of another model", "train tiny.yaml --set model.weights=none", exitFailure, []string{"model.weights: none does not exist"}},
		{"contradiction", "train tiny.yaml --set model.weights=w --set model.zero_init_residual=true", exitFailure, []string{"model.zero_init_residual true contradicts model.weights"}},
	})
}

// What does not fit is told at once.
func TestImportOfAnotherModel(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r", "--set", "train.epochs=1", "--set", "schedule.name=constant", "--set", "schedule.at=[]")
	before := contents(t)
	r := broadside("import", "r", "--model", "resnet14", "--input", "8x8x1", "--out", "x")
	for _, part := range []string{"do not fit model resnet14", "missing: layer1.1.bn1.bias [16]", "and 18 more"} {
		if r.status != exitFailure || !strings.Contains(r.errors, part) {
			t.Errorf("status %d, %q lacks %q", r.status, r.errors, part)
		}
	}
	if contents(t) != before {
		t.Error("something was written")
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("x was written")
	}
}
