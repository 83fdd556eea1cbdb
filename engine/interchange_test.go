package engine

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"broadside/engine/checkpoint"
	"broadside/engine/graph"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
	"broadside/models"
)

const published = "../testdata/golden/interchange.safetensors"

// patterned are the images of make_interchange.py.
func patterned(count, size int) []byte {
	var out []byte
	for n := range count {
		for i := range size {
			out = append(out, byte(uint32(i+1)*2654435761>>24)>>n)
		}
	}
	return out
}

// importOf imports the golden weights.
func importOf(t testing.TB) *Network {
	t.Helper()
	n, err := Import(published, ImportOptions{Model: "resnet8"})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// logitsOf predicts with a network.
func logitsOf(t testing.TB, n *Network, images []byte, devices int) []float32 {
	t.Helper()
	p, err := n.Predictor(Options{Device: "cpu", Devices: devices})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	logits, err := p.Logits(images)
	if err != nil {
		t.Fatal(err)
	}
	return logits
}

// Weights that PyTorch wrote, in float16 and under the names of others, have PyTorch's logits; so have the checkpoint
// and the tensors that are written of them.
func TestImportedWeightsHavePyTorchsLogits(t *testing.T) {
	raw, err := os.ReadFile("../testdata/golden/interchange.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Images int
		Logits [][]float64
	}
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	n, folder := importOf(t), t.TempDir()
	saved, exported := filepath.Join(folder, "saved"), filepath.Join(folder, "exported")
	if err := n.Save(saved, nil); err != nil {
		t.Fatal(err)
	}
	if err := n.WriteSafetensors(exported); err != nil {
		t.Fatal(err)
	}
	again, err := ReadNetwork(saved)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Import(exported, ImportOptions{Model: "resnet8"})
	if err != nil {
		t.Fatal(err)
	}
	images := patterned(want.Images, 32*32*3)
	first := logitsOf(t, n, images, 2)
	for i, row := range want.Logits {
		for c, v := range row {
			if got := float64(first[i*10+c]); math.Abs(got-v) > 1e-5 {
				t.Errorf("logit %d of image %d: %v, PyTorch has %v", c, i, got, v)
			}
		}
	}
	for name, other := range map[string]*Network{"a saved checkpoint": again, "exported tensors": back} {
		if !slices.Equal(logitsOf(t, other, images, 1), first) {
			t.Errorf("%s: other logits", name)
		}
	}
}

// Predictions do not depend on how many images come at a time, nor on devices.
func TestPredictionsOfManyImages(t *testing.T) {
	n := importOf(t)
	images := patterned(3, 32*32*3)
	many := slices.Concat(slices.Repeat(images, 23), images[:32*32*3]) // 70: two leaves and a part
	want, got := logitsOf(t, n, images, 1), logitsOf(t, n, many, 2)
	for i := range 70 {
		if !slices.Equal(got[10*i:10*i+10], want[i%3*10:i%3*10+10]) {
			t.Fatalf("image %d has the logits %v; alone %v", i, got[10*i:10*i+10], want[i%3*10:i%3*10+10])
		}
	}
	p, err := n.Predictor(Options{Device: "cpu", Devices: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, size := range []int{0, 100} {
		if _, err := p.Logits(make([]byte, size)); err == nil || !strings.Contains(err.Error(), "32x32x3") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// changed writes the golden weights changed and returns the file.
func changed(t testing.TB, change func(map[string]*tensor.Dense)) string {
	t.Helper()
	ck, err := checkpoint.Read(published)
	if err != nil {
		t.Fatal(err)
	}
	change(ck.Tensors)
	path := filepath.Join(t.TempDir(), "changed.safetensors")
	if err := checkpoint.Write(path, ck); err != nil {
		t.Fatal(err)
	}
	return path
}

func zeros(shape ...int) *tensor.Dense {
	size := 1
	for _, d := range shape {
		size *= d
	}
	return tensor.New(tensor.WithShape(shape...), tensor.WithBacking(make([]float32, size)))
}

func TestImportSaysAllThatDoesNotFit(t *testing.T) {
	path := changed(t, func(tensors map[string]*tensor.Dense) {
		delete(tensors, "module.layer1.0.conv2.weight")
		delete(tensors, "module.bn1.running_var")
		tensors["module.layer4.0.conv1.weight"] = zeros(1, 2)
		tensors["module.conv1.weight"] = zeros(16, 1, 3, 3)
		tensors["module.bn1.bias"] = tensor.New(tensor.WithShape(16), tensor.WithBacking(make([]int64, 16)))
	})
	_, err := Import(path, ImportOptions{Model: "resnet8"})
	if err == nil {
		t.Fatal("imported")
	}
	want := path + `: the tensors do not fit model resnet8 for 32x32x3 inputs and 10 classes:
  missing: bn1.running_var [16], layer1.0.conv2.weight [16 16 3 3]
  of another shape: bn1.bias has elements of type int64, which are no weights, conv1.weight is [16 1 3 3], the model needs [16 3 3 3]
  not of the model: module.layer4.0.conv1.weight`
	if err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	_, err = Import(published, ImportOptions{Model: "resnet110"})
	if err == nil || !strings.Contains(err.Error(), "and ") || len(err.Error()) > 2000 {
		t.Errorf("resnet110: %v", err)
	}
}

func TestImportMistakes(t *testing.T) {
	folder := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name, path string
		o          ImportOptions
		want       string
	}{
		{"zip", file("a.pth", "PK\x03\x04rest"), ImportOptions{Model: "resnet8"}, "safetensors.torch.save_file"},
		{"pickle", file("b.pth", "\x80\x02}q\x00."), ImportOptions{Model: "resnet8"}, "is a pickle of PyTorch"},
		{"none", filepath.Join(folder, "none"), ImportOptions{Model: "resnet8"}, "none does not exist"},
		{"model", published, ImportOptions{Model: "restnet8"}, "did you mean resnet8?"},
		{"classes", published, ImportOptions{Model: "resnet8", Classes: 7}, "the file has 10 classes, the recipe's data 7"},
		{"mean", published, ImportOptions{Model: "resnet8", Mean: []float32{1}, Std: []float32{1}}, "1 means and 1 standard deviations, but samples have 3 channels"},
		{"deviation", published, ImportOptions{Model: "resnet8", Mean: []float32{0, 0, 0}, Std: []float32{1, 0, 1}}, "must be above 0"},
		{"names", published, ImportOptions{Model: "resnet8", ClassNames: []string{"a"}}, "1 class names for 10 classes"},
		{"not imported", published, ImportOptions{}, "unknown model"},
	} {
		if _, err := Import(c.path, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if _, err := ReadNetwork(published); err == nil || !strings.Contains(err.Error(), "broadside import") {
		t.Errorf("weights as a checkpoint: %v", err)
	}
}

// A safetensors file may begin with the bytes of a pickle: they are the length of its header.
func TestLengthThatLooksLikeAPickle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "w")
	header := `{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`
	content := "\x80\x02\x00\x00\x00\x00\x00\x00" + header + strings.Repeat(" ", 0x280-len(header)) + "\x00\x00\x00\x00"
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(path, ImportOptions{Model: "resnet8"}); err == nil || !strings.Contains(err.Error(), "not of the model: w") {
		t.Error(err)
	}
}

// What a checkpoint claims of itself is not believed.
func TestForgedCheckpoints(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good")
	if err := importOf(t).Save(good, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ key, value, want string }{
		{metaModel, "resnet21", "6n+2"},
		{metaModel, "resnet14", "missing: layer1.1"},
		{metaInput, "[99999999,99999999,3]", "absurd"},
		{metaInput, "[-1,32,3]", "at least 1"},
		{metaInput, "{", "broadside.input"},
		{metaClasses, "1000000000", "absurd"},
		{metaClasses, "11", "fc.weight is [10 64], the model needs [11 64]"},
		{metaMean, "[1]", "1 means"},
		{metaStd, "[1,1,0]", "standard deviation"},
		{metaClassNames, `["a"]`, "1 class names"},
		{metaClassNames, "", "broadside.class_names"},
	} {
		ck, err := checkpoint.Read(good)
		if err != nil {
			t.Fatal(err)
		}
		if ck.Meta[c.key] = c.value; c.key == metaStd {
			ck.Meta[metaMean] = "[0,0,0]"
		}
		if n, err := networkOf(ck); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q: %v, %v; want %q", c.key, c.value, n, err, c.want)
		}
	}
}

// timm keeps the linear layers of VGG as convolutions, under names of its own.
func TestTimmsNamesOfVGG(t *testing.T) {
	net, err := models.New("vgg11", graph.Dims{H: 32, W: 32, C: 3}, 5)
	if err != nil {
		t.Fatal(err)
	}
	ck := &checkpoint.Checkpoint{Tensors: map[string]*tensor.Dense{}}
	for name, s := range netTensors(net) {
		for ours, theirs := range map[string]string{"classifier.0.": "pre_logits.fc1.", "classifier.3.": "pre_logits.fc2.", "classifier.6.": "head.fc."} {
			name = strings.Replace(name, ours, theirs, 1)
		}
		shape := s.shape
		if strings.HasPrefix(name, "pre_logits") && len(shape) == 2 {
			shape = append(slices.Clone(shape), 1, 1)
		}
		ck.Tensors[name] = zeros(shape...)
	}
	if err := compare(ck, net).err(); err != nil {
		t.Error(err)
	}
}

// fineTune is a recipe that trains resnet8 from a file for one epoch.
func fineTune(t *testing.T, file, method string) *recipe.Recipe {
	t.Helper()
	r, err := recipe.Parse("tune", []byte("data: {name: fashion-mnist-small, train_limit: 64, test_limit: 32}\nmodel: {name: resnet8, weights: "+file+
		"}\ntrain: {epochs: 1}\nbatch: {size: 16, leaf: 16}\noptimizer: {lr: 0.01}\nmethods: "+method), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// greyWeights are the golden weights for images of one channel, with so many classes; none leaves the last layer out.
func greyWeights(t *testing.T, classes int) string {
	return changed(t, func(tensors map[string]*tensor.Dense) {
		first := zeros(16, 1, 3, 3)
		copy(first.Data().([]float32), tensors["module.conv1.weight"].Data().([]float32))
		tensors["module.conv1.weight"] = first
		switch classes {
		case 0:
			delete(tensors, "module.linear.weight")
			delete(tensors, "module.linear.bias")
		case 10:
		default:
			tensors["module.linear.weight"], tensors["module.linear.bias"] = zeros(classes, 64), zeros(classes)
		}
	})
}

// startOf makes a trainer as a recipe says and returns its parameters by name, and what it says of them.
func startOf(t *testing.T, r *recipe.Recipe) (map[string][]float32, string) {
	t.Helper()
	f, err := open(r, Options{Device: "cpu", Devices: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	tr, err := newTrainer(f, r, nowhere{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.free()
	out := map[string][]float32{}
	params, state := read(f.params), read(f.state)
	for _, p := range f.net.Params {
		out[p.Name] = params[p.Offset : p.Offset+p.Size()]
	}
	for _, n := range f.net.Norms {
		out[n.Name+".running_mean"], out[n.Name+".running_var"] = state[n.Offset:n.Offset+n.C], state[n.Offset+n.C:n.Offset+2*n.C]
	}
	return out, f.note
}

// Training starts from the file; the last layer starts as it would without one where the classes are others.
func TestTrainingStartsFromWeights(t *testing.T) {
	fresh, note := startOf(t, fineTune(t, `""`, "[]"))
	if note != "" {
		t.Errorf("without a file: %q", note)
	}
	for classes, want := range map[int]string{10: "", 7: "the file has 7 classes, the data 10", 0: "the file has none"} {
		file := greyWeights(t, classes)
		got, note := startOf(t, fineTune(t, file, "[]"))
		ck, err := checkpoint.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		if want != "" {
			want = "; the last layer starts anew (2 tensors): " + want
		}
		if !strings.Contains(note, file) || !strings.HasSuffix(note, "tensors"+want) {
			t.Errorf("%d classes: %q, want ...%q", classes, note, want)
		}
		for _, name := range slices.Sorted(maps.Keys(got)) {
			wanted := fresh[name]
			if d, ok := ck.Tensors["module."+strings.ReplaceAll(strings.Replace(name, "fc.", "linear.", 1), ".downsample.", ".shortcut.")]; ok && (classes == 10 || name[:2] != "fc") {
				wanted = d.Data().([]float32)
				if s := d.Shape(); len(s) == 4 {
					if wanted, err = checkpoint.FromPyTorch(wanted, s[0], s[2], s[3], s[1]); err != nil {
						t.Fatal(err)
					}
				}
			}
			if !slices.Equal(got[name], wanted) {
				t.Errorf("%d classes: %s is not what it should start from", classes, name)
			}
		}
	}
}

// Further parameter sets of batch normalisation start from the file's.
func TestNormSetsStartFromWeights(t *testing.T) {
	got, _ := startOf(t, fineTune(t, greyWeights(t, 10), "[{advprop: {}}]"))
	for _, suffix := range []string{".weight", ".bias", ".running_mean", ".running_var"} {
		if !slices.Equal(got["layer2.0.bn1_adv"+suffix], got["layer2.0.bn1"+suffix]) || got["layer2.0.bn1"+suffix][0] == 1 {
			t.Errorf("%s: %v of the second set, %v of the first", suffix, got["layer2.0.bn1_adv"+suffix], got["layer2.0.bn1"+suffix])
		}
	}
}

func TestWeightsThatDoNotFitTheRecipe(t *testing.T) {
	for file, want := range map[string]string{published: "conv1.weight is [16 3 3 3], the model needs [16 1 3 3]", "none": "model.weights: none does not exist"} {
		r := fineTune(t, file, "[]")
		f, err := open(r, Options{Device: "cpu", Devices: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newTrainer(f, r, nowhere{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
		f.close()
	}
}

// A run from weights says so, its checkpoint tells how to use it without its data, another run may start from it, and it
// goes on after the file is gone.
func TestRunFromWeights(t *testing.T) {
	file := greyWeights(t, 7)
	t.Chdir(t.TempDir())
	r := fineTune(t, file, "[]")
	r.Checkpoint.EveryUpdates = 2
	if _, err := Train(t.Context(), r, Options{Device: "cpu", Devices: 1, RunDir: "run"}); err != nil {
		t.Fatal(err)
	}
	events, err := os.ReadFile(filepath.Join("run", telemetry.EventsFile))
	if err != nil || !strings.Contains(strings.SplitN(string(events), "\n", 2)[0], "the file has 7 classes, the data 10") {
		t.Errorf("%v, the log begins with %.300s", err, events)
	}
	n, err := ReadNetwork("run")
	if err != nil {
		t.Fatal(err)
	}
	if n.Classes() != 10 || n.ClassNames[9] != "Ankle boot" || n.Mean != nil {
		t.Errorf("%+v", n)
	}
	if got, note := startOf(t, fineTune(t, "run", "[]")); strings.Contains(note, "anew") || got["fc.bias"][0] == 0 {
		t.Errorf("from a run: %q, %v", note, got["fc.bias"])
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove("run/checkpoints/step-000000004.safetensors"); err != nil {
		t.Fatal(err)
	}
	if _, err := Train(t.Context(), r, Options{Device: "cpu", Devices: 1, RunDir: "run", Resume: true}); err != nil {
		t.Fatal(err)
	}
	again, err := ReadNetwork("run")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.params, n.params) {
		t.Error("the resumed run ends with other parameters")
	}
}

// Whatever a file's tensors are called, fitting them to a network ends with all of them or an error.
func FuzzCompare(f *testing.F) {
	for _, names := range []string{"module.linear.weight", "module._orig_mod.fc.weight,module._orig_mod.fc.bias", "fc.weight,linear.weight", "a.shortcut.0,.shortcut..shortcut.", "model.,net."} {
		f.Add(names, 10, 64)
	}
	net, err := models.New("resnet8", graph.Dims{H: 8, W: 8, C: 1}, 10)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, names string, a, b int) {
		ck := &checkpoint.Checkpoint{Tensors: map[string]*tensor.Dense{}, Meta: map[string]string{metaNormSets: names}}
		if a < 1 || b < 1 || a > 100 || b > 100 {
			return
		}
		for _, name := range strings.Split(names, ",") {
			ck.Tensors[name] = zeros(a, b)
		}
		fit := compare(ck, net)
		fit.newHeads()
		if err := fit.err(); err == nil {
			t.Fatalf("%d tensors fit a network of %d", len(ck.Tensors), len(netTensors(net)))
		}
	})
}
