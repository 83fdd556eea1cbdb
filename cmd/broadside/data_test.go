package main

import (
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"broadside/engine/data"
)

// Training from a packed file, or from arrays, gives the bits of training from the source: with one memory, which reads the
// file in place, and with two, which copy it.
func TestTrainingFromConvertedSets(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "source")
	if out := must(t, "data", "pack", "mnist", "--path", "data", "--out", "tiny.bspack"); out != "tiny.bspack: 96 training and 20 test images, 0.0 MB\n" {
		t.Errorf("pack printed %q", out)
	}
	must(t, "data", "export", "mnist", "--path", "data", "--npy", "arrays")
	for dir, args := range map[string]string{
		"packed":       "--set data.name=packed --set data.path=tiny.bspack",
		"two_memories": "--set data.name=packed --set data.path=tiny.bspack --device cpu:0,1",
		"npy":          "--set data.name=npy --set data.path=arrays",
	} {
		must(t, append([]string{"train", "tiny.yaml", "--run", dir}, strings.Fields(args)...)...)
		sameEnd(t, "source", dir)
	}
	if out := must(t, "eval", "packed", "--json"); out != must(t, "eval", "source", "--json") {
		t.Errorf("the evaluation differs: %s", out)
	}
}

func TestDataPack(t *testing.T) {
	tinyFolder(t)
	r := decode[map[string]any](t, must(t, "data", "pack", "mnist", "--path", "data", "--json", "--train-limit", "10"))
	info, err := os.Stat("mnist.bspack")
	if err != nil || r["path"] != "mnist.bspack" || r["bytes"] != float64(info.Size()) || r["train_images"] != 10. || r["test_images"] != 20. {
		t.Errorf("%v, %v", r, err)
	}
	flip(t, "mnist.bspack")
	before := contents(t)
	refusal := broadside("train", "tiny.yaml", "--set", "data.name=packed", "--set", "data.path=mnist.bspack")
	if refusal.status != exitFailure || !strings.Contains(refusal.errors, "mnist.bspack is damaged") || contents(t) != before {
		t.Errorf("training from a damaged file: %+v", refusal)
	}
}

func TestDataInspect(t *testing.T) {
	tinyFolder(t)
	text := must(t, "data", "inspect", "mnist", "--path", "data", "--png", "sheet.png")
	for _, want := range []string{"mnist: images of 8x8x1, 10 classes", "mnist train  96 ", "dataset uses mean 0.1307 and deviation 0.3081", "9      9     9      2"} {
		if !strings.Contains(text, want) {
			t.Errorf("inspect printed %q, want %q", text, want)
		}
	}
	f, err := os.Open("sheet.png")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if sheet, err := png.Decode(f); err != nil || sheet.Bounds().Dx() < 10*64 {
		t.Errorf("the sheet: %v", err)
	}
	in := decode[inspected](t, must(t, "data", "inspect", "fashion-mnist-small", "--json", "--test-limit", "10"))
	if in.Height != 28 || in.Classes != 10 || in.ClassNames[9] != "Ankle boot" || in.Sets[0].Images != 8000 || in.Sets[1].Counts[3] != 1 ||
		in.Mean[0] != 0.286 || in.Sets[0].Mean[0] < 0.27 || in.Sets[0].Mean[0] > 0.3 {
		t.Errorf("%+v", in)
	}
	// Many classes are not listed one by one.
	many := inspected{Classes: 200, Sets: []inspectedSet{{Name: "a", Counts: make([]int, 200)}, {Name: "b", Counts: append(make([]int, 199), 7)}}}
	var out strings.Builder
	if err := many.print(&out); err != nil || !strings.Contains(out.String(), "b: 0 to 7 images of a class") || strings.Contains(out.String(), "CLASS") {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestDataVerify(t *testing.T) {
	tinyFolder(t)
	must(t, "data", "pack", "mnist", "--path", "data", "--out", "x.bspack")
	if out := must(t, "data", "verify", "packed", "--path", "x.bspack"); !strings.Contains(out, "CRC-32C of the header and of 1 chunks") ||
		!strings.Contains(out, "reads well: 96 training and 20 test images") {
		t.Errorf("verify printed %q", out)
	}
	must(t, "data", "verify", "fashion-mnist-small")
	// The tiny set is not MNIST, and the message says in what.
	r := broadside("data", "verify", "mnist", "--path", "data", "--json")
	v := decode[verified](t, r.out)
	if r.status != exitFailure || len(v.Files) != 4 || v.Files[0].State != data.FileDamaged || !strings.Contains(r.errors, "damaged or missing: 4 of 4") ||
		v.Files[1].Detail != "it has 104 bytes; 60008 are published" {
		t.Errorf("%+v, %+v", v, r)
	}
	flip(t, "x.bspack")
	r = broadside("data", "verify", "packed", "--path", "x.bspack")
	if r.status != exitFailure || !strings.Contains(r.out, "damaged  x.bspack") || !strings.Contains(r.out, "chunk 0, bytes 4096 to") {
		t.Errorf("a damaged packed file: %+v", r)
	}
	// A set with no published sums is read, and what is wrong with it is told.
	write(t, "arrays/x_train.npy", "no array")
	r = broadside("data", "verify", "npy", "--path", "arrays", "--json")
	if v := decode[verified](t, r.out); r.status != exitFailure || !strings.Contains(v.Error, "arrays/x_train.npy is no .npy file") {
		t.Errorf("broken arrays: %+v", r)
	}
}

// fetch over a local server: what is not the published file does not arrive.
func TestDataFetch(t *testing.T) {
	t.Chdir(t.TempDir())
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/mirror/train-images-idx3-ubyte.gz" {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Set("Content-Length", "9912422")
		_, _ = w.Write(make([]byte, 9_912_422))
	}))
	defer h.Close()
	r := broadside("data", "fetch", "mnist", "--to", "m", "--url", h.URL+"/mirror")
	if r.status != exitFailure || r.out != "" || !strings.Contains(r.errors, "fetching train-images-idx3-ubyte.gz") ||
		!strings.Contains(r.errors, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609 is published") {
		t.Errorf("%+v", r)
	}
	if left := contents(t); left != ".\nm\n" {
		t.Errorf("left %q", left)
	}
}

func TestBarLine(t *testing.T) {
	if got, want := barLine("x.gz", 25_000_000, 100_000_000, 2_500_000), "x.gz [######..................]  25% of 100.0 MB, 2.5 MB/s, 30s left"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := barLine("x.gz", 7, 7, 0), "x.gz [########################] 100% of 0.0 MB, 0.0 MB/s"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDataCommandMistakes(t *testing.T) {
	tinyFolder(t)
	write(t, "text.bspack", strings.Repeat("text", 100))
	write(t, "file", "")
	refused(t, []mistake{
		{"unknown command", "data inspekt", exitUsage, []string{"unknown command", "inspekt", "did you mean inspect?", "broadside data --help"}},
		{"no name", "data pack", exitUsage, []string{"0 arguments", "broadside data pack NAME"}},
		{"extension", "data pack mnist --path data --out x.bin", exitUsage, []string{"--out x.bin", "ends with .bspack"}},
		{"no folder for arrays", "data export mnist --path data", exitUsage, []string{"--npy DIR"}},
		{"unknown set", "data inspect cifar-10", exitFailure, []string{"did you mean cifar10?"}},
		{"unknown set to verify", "data verify cifar-10", exitFailure, []string{"did you mean cifar10?"}},
		{"no path", "data verify cifar10", exitFailure, []string{"cifar10 needs a path", "data_batch_1.bin"}},
		{"no path of a packed set", "data verify packed", exitFailure, []string{"packed needs a path: the packed file itself"}},
		{"no packed file", "data inspect packed --path none.bspack", exitFailure, []string{"none.bspack: no such file"}},
		{"text", "data inspect packed --path text.bspack", exitFailure, []string{"text.bspack is no packed data set"}},
		{"no place to pack", "data pack mnist --path data --out none/x.bspack", exitFailure, []string{"none/x.bspack", "no such file"}},
		{"arrays into a file", "data export mnist --path data --npy file", exitFailure, []string{"exporting to file", "not a directory"}},
		{"no place for the sheet", "data inspect mnist --path data --png none/x.png", exitFailure, []string{"contact sheet", "none/x.png"}},
		{"negative limit", "data inspect mnist --path data --train-limit -1", exitFailure, []string{"-1", "0 for all"}},
		{"nothing to fetch", "data fetch npy", exitFailure, []string{"npy", "cifar10, cifar100, mnist"}},
		{"fetch of a misspelt set", "data fetch cifar-10", exitFailure, []string{"did you mean cifar10?"}},
		{"fetch to a file", "data fetch mnist --to file", exitFailure, []string{"data folder", "file"}},
	})
	r := broadside("data", "fetch", "mnist", "--to", "m", "--url", "host/x")
	if r.status != exitFailure || !strings.Contains(r.errors, `"host/x" is no address of a folder`) {
		t.Errorf("%+v", r)
	}
}
