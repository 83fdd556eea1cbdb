package recipe

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// small is the least that a recipe must say.
const small = "data: {name: cifar10}\nmodel: {name: resnet20}\n"

func mustParse(t *testing.T, text string, sets ...string) *Recipe {
	t.Helper()
	r, err := Parse("small.yaml", []byte(text), sets)
	if err != nil {
		t.Fatalf("Parse(%q, %q): %v", text, sets, err)
	}
	return r
}

func TestDefaults(t *testing.T) {
	r := mustParse(t, small)
	want := Default()
	want.Name, want.Data.Name, want.Model.Name = "small", "cifar10", "resnet20"
	want.Batch.Leaf, want.Batch.Ghost = 128, 128
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got %+v\nwant %+v", r, want)
	}
}

func TestDependentDefaults(t *testing.T) {
	for _, test := range []struct {
		set         string
		leaf, ghost int
	}{
		{"batch.size=64", 64, 64},
		{"batch.size=1024", 128, 128},
		{"batch.leaf=32", 32, 32},
		{"batch={leaf: 64, ghost: 16}", 64, 16},
	} {
		b := mustParse(t, small, test.set).Batch
		if b.Leaf != test.leaf || b.Ghost != test.ghost {
			t.Errorf("%s: leaf %d ghost %d, want %d %d", test.set, b.Leaf, b.Ghost, test.leaf, test.ghost)
		}
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	text := `
name: all
data: {name: d, path: "/x y", augment: [pad_crop, flip, cutout], normalize: dataset, pad: 2, cutout_size: 8, autoaugment: svhn, train_limit: 10, test_limit: 20, size: 64, resize: 72, crop_area: 0.25, val_share: 0.2, max_bad: 3, max_memory_gb: 1.5, decoder: go}
model: {name: m, zero_init_residual: true, fc_std: 0.01}
train: {epochs: 7, seed: 18446744073709551615, precision: f32, label_smoothing: 0.1, eval_every: 2, log_per_epoch: 30, on_device_loss: redistribute, on_anomaly: skip, anomaly_z: 6}
batch: {size: 96, leaf: 48, ghost: 48, lanes: 4, running: mean, drop_last: true, sync_bn: true}
optimizer: {name: o, lr: 1e-2, momentum: .5, nesterov: true, weight_decay: 5e-4, decay_exclude: [bn, bias]}
schedule: {name: poly, at: [3, 6], factor: 0.5, end_lr: 0.001, power: 1, peak: 0.25, warmup_epochs: 0.5, warmup_from: 0.1, after_warmup: true}
checkpoint: {every_updates: 0, keep: 1, every_minutes: 2.5, best: true}
methods:
  - one
  - two: {a: 1}
`
	r := mustParse(t, text)
	want := &Recipe{
		Name:       "all",
		Data:       Data{"d", "/x y", false, []string{"pad_crop", "flip", "cutout"}, "dataset", 2, 8, "svhn", 10, 20, 64, 72, 0.25, 0.2, 3, 1.5, "go"},
		Model:      Model{"m", true, 0.01, ""},
		Train:      Train{7, 18446744073709551615, "f32", 0.1, 2, 30, "redistribute", "skip", 6},
		Batch:      Batch{96, 48, 48, 4, "mean", true, true},
		Optimizer:  Optimizer{"o", 0.01, 0.5, true, 5e-4, []string{"bn", "bias"}},
		Schedule:   Schedule{"poly", []int{3, 6}, 0.5, 0.001, 1, 0.25, 0.5, 0.1, true},
		Checkpoint: Checkpoint{0, 1, 2.5, true},
		Methods:    r.Methods,
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got %+v\nwant %+v", r, want)
	}
	if len(r.Methods) != 2 || r.Methods[0].Name != "one" || r.Methods[1].Name != "two" || r.Methods[1].Pos() != "small.yaml:12" {
		t.Errorf("methods %+v", r.Methods)
	}
	if _, ok := r.Method("two"); !ok {
		t.Error("method two is not found")
	}
	if _, ok := r.Method("three"); ok {
		t.Error("method three is found")
	}
}

// TestMessages pins the messages: they are what a user reads.
func TestMessages(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"train:\n  epoch: 3\n" + small, "small.yaml:2: unknown key train.epoch; did you mean train.epochs?"},
		{"epochs: 3\n" + small, "small.yaml:1: unknown key epochs; did you mean train.epochs?"},
		{"optimizer:\n\n  lanes: 3\n", "small.yaml:3: unknown key optimizer.lanes; did you mean batch.lanes?"},
		{"qqqqqq: 3\n" + small, "small.yaml:1: unknown key qqqqqq"},
		{"'a: b\tc': 3\n" + small, `small.yaml:1: unknown key "a: b\tc"`},
		{"train: {epochs: ten}\n", `small.yaml:1: train.epochs: want a whole number, got "ten"`},
		{"train: {epochs: '10'}\n", `small.yaml:1: train.epochs: want a whole number, got the quoted text "10"`},
		{"train: {epochs: 1.5}\n", `small.yaml:1: train.epochs: want a whole number, got "1.5"`},
		{"train: {epochs: 99999999999999999999}\n", `small.yaml:1: train.epochs: want a whole number, got "99999999999999999999"`},
		{"train: {seed: -1}\n", `small.yaml:1: train.seed: want a whole number, 0 or more, got "-1"`},
		{"optimizer: {lr: .nan}\n", `small.yaml:1: optimizer.lr: want a number, got ".nan"`},
		{"optimizer: {lr: 1e999}\n", `small.yaml:1: optimizer.lr: want a number, got "1e999"`},
		{"optimizer: {lr: 0x10}\n", `small.yaml:1: optimizer.lr: want a number, got "0x10"`},
		{"optimizer: {lr: [1]}\n", `small.yaml:1: optimizer.lr: want a number, got a list`},
		{"optimizer: {nesterov: yes}\n", `small.yaml:1: optimizer.nesterov: want true or false, got "yes"`},
		{"model: {name: {a: 1}}\n", `small.yaml:1: model.name: want text, got a mapping`},
		{"schedule: {at: 30}\n", `small.yaml:1: schedule.at: want a list of whole numbers like [a, b], or none, got "30"`},
		{"schedule: {at: [30, x]}\n", `small.yaml:1: schedule.at[1]: want a whole number, got "x"`},
		{"schedule: {at: [30, null]}\n", `small.yaml:1: schedule.at[1]: want a whole number, got nothing`},
		{"model: resnet20\n", `small.yaml:1: model: want a mapping of keys, got "resnet20"`},
		{"- a\n", "small.yaml:1: the recipe: want a mapping of keys, got a list"},
		{"train: {}\nmodel: {}\ntrain: {}\n", `small.yaml:3: duplicate key "train": it was set before, at small.yaml:1`},
		{"train: {epochs: 1, epochs: 2}\n", `small.yaml:1: duplicate key "epochs": it was set before, at small.yaml:1`},
		{"methods: {absa: {}}\n", "small.yaml:1: methods: want a list like '- absa: {patience: 10}', got a mapping"},
		{"methods:\n- absa: {}\n- absa: {}\n", "small.yaml:3: methods: absa is listed twice: merge its options into one entry"},
		{"methods:\n- {a: {}, b: {}}\n", "small.yaml:2: methods[0]: want one method, got 2 keys: start each method with '- '"},
		{"methods:\n- absa: 3\n", `small.yaml:2: methods[0]: options of absa: want a mapping like {key: value}, got "3"`},
		{"methods:\n- [a]\n", "small.yaml:2: methods[0]: want 'name: {options}', got a list"},
		{"methods:\n- 'a b': {}\n", `small.yaml:2: methods[0]: want a method's name, got "a b"`},
		{"a: &x 1\n", "small.yaml:1: anchors, aliases and merge keys are not allowed in a recipe: write the value out"},
		{"a: *x\n", "small.yaml:1: anchors, aliases and merge keys are not allowed in a recipe: write the value out"},
		{"a: !!str 1\n", "small.yaml:1: tags and directives are not allowed in a recipe: write the value out"},
		{"? a\n: b\n", "small.yaml:1: keys written with '?' are not allowed in a recipe: write the value out"},
		{small + "---\na: 1\n", "small.yaml:4: a recipe is one YAML document"},
		{"a: \xff", "small.yaml: not valid UTF-8 text"},
		{strings.Repeat(" ", maxBytes+1), "small.yaml: 1048577 bytes is too large for a recipe: the limit is 1048576"},
		{strings.Repeat("- ", maxTokens+1), "small.yaml: more than 10000 YAML tokens is too much for a recipe"},
		{strings.Repeat("[", 20) + strings.Repeat("]", 20), "small.yaml:1: nested deeper than 16 levels"},
		{"a: 1\nb: " + strings.Repeat("{a: ", 3000), "small.yaml:2: nested deeper than 16 levels"},
		{strings.Repeat("- ", 20), "small.yaml:1: nested deeper than 16 levels"},
	} {
		_, err := Parse("small.yaml", []byte(test.text), nil)
		if err == nil || err.Error() != test.want {
			t.Errorf("%.80q:\ngot  %v\nwant %s", test.text, err, test.want)
		}
	}
}

func TestSyntaxErrorIsOneLineWithItsPlace(t *testing.T) {
	_, err := Parse("bad.yaml", []byte("a: 1\nb: [1, 2\nc: 3\n"), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "bad.yaml:") || !strings.Contains(err.Error(), "malformed YAML") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestAllMistakesAreReported(t *testing.T) {
	_, err := Parse("small.yaml", []byte("train: {epoch: 1, seed: x}\nmodle: {}\n"), nil)
	want := `small.yaml:1: unknown key train.epoch; did you mean train.epochs?
small.yaml:1: train.seed: want a whole number, 0 or more, got "x"
small.yaml:2: unknown key modle; did you mean model?`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	_, err = Parse("small.yaml", []byte("train: {epochs: 0}"), nil)
	want = `small.yaml: data.name is missing: name a data set, such as cifar10
small.yaml: model.name is missing: name a network, such as resnet20
small.yaml:1: train.epochs 0 is too few: use 1 or more`
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	many := strings.Builder{}
	for range 100 {
		many.WriteString("- [x]\n")
	}
	_, err = Parse("small.yaml", []byte("methods:\n"+many.String()), nil)
	if n := strings.Count(err.Error(), "\n") + 1; n != maxErrors {
		t.Errorf("%d lines of errors, want %d", n, maxErrors)
	}
}

func TestOverrides(t *testing.T) {
	text := small + "schedule: {name: step, at: [30], factor: 0.5}\nmethods:\n  - absa: {max_batch: 512, patience: 10}\n  - plain\n"
	r := mustParse(t, text, "schedule.at=[3, 6]", "optimizer.lr=0.2", "schedule={power: 3}", "data.path=/a b/c", "name='x: y'",
		"methods.absa.patience=2", "methods.plain.k=1", "methods.new.k=[1, 2]", "methods.bare=", "train.epochs=8", "train.epochs=9")
	if !slices.Equal(r.Schedule.At, []int{3, 6}) || r.Schedule.Factor != 0.5 || r.Schedule.Power != 3 || r.Optimizer.LR != 0.2 ||
		r.Data.Path != "/a b/c" || r.Name != "x: y" || r.Train.Epochs != 9 {
		t.Errorf("got %+v", r)
	}
	var written []string
	for _, m := range r.Methods {
		written = append(written, m.Name+flowMapping(m.options))
	}
	want := []string{"absa{max_batch: 512, patience: 2}", "plain{k: 1}", "new{k: [1, 2]}", "bare{}"}
	if !slices.Equal(written, want) {
		t.Errorf("methods %q, want %q", written, want)
	}
	if r := mustParse(t, small, "methods.absa={patience: 1}"); flowMapping(r.Methods[0].options) != "{patience: 1}" {
		t.Errorf("a method set as a mapping: %+v", r.Methods)
	}
	if r := mustParse(t, text, "methods=none"); len(r.Methods) != 0 {
		t.Errorf("methods=none leaves %+v", r.Methods)
	}
	if r := mustParse(t, text, "data.path=", "schedule.factor=null"); r.Data.Path != "" || r.Schedule.Factor != 0.2 {
		t.Errorf("null does not give the default: %+v", r)
	}
}

func TestOverrideMessages(t *testing.T) {
	for _, test := range []struct{ set, want string }{
		{"train.epoch=3", "--set train.epoch=3: unknown key train.epoch; did you mean train.epochs?"},
		{"train.epochs=x", `--set train.epochs=x: train.epochs: want a whole number, got "x"`},
		{"train.epochs.x=1", "--set train.epochs.x=1: train.epochs has no keys: it is \"5\""},
		{"train.epochs", "--set train.epochs: want key=value with a dotted key, like train.epochs=10"},
		{"=3", "--set =3: want key=value with a dotted key, like train.epochs=10"},
		{"a..b=3", "--set a..b=3: want key=value with a dotted key, like train.epochs=10"},
		{"train.seed=*x", "--set train.seed=*x: anchors, aliases and merge keys are not allowed in a recipe: write the value out"},
		{"methods.absa=3", `--set methods.absa=3: methods[0]: options of absa: want a mapping like {key: value}, got "3"`},
	} {
		_, err := Parse("small.yaml", []byte(small+"train: {epochs: 5}\n"), []string{test.set})
		if err == nil || err.Error() != test.want {
			t.Errorf("%s:\ngot  %v\nwant %s", test.set, err, test.want)
		}
	}
	_, err := Parse("small.yaml", []byte(small+"methods: 3\n"), []string{"methods.a.b=1"})
	if want := `--set methods.a.b=1: methods is not a list: it is "3"`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestValidation(t *testing.T) {
	for _, test := range []struct{ set, want string }{
		{"batch={size: 64, leaf: 128}", "batch.size 64 is smaller than batch.ghost 128: use a batch.ghost that divides 64, or a batch.size of 128 or more"},
		{"batch.size=192", "batch.size 192 is not a multiple of batch.leaf 128: use 128 or 256, or a batch.leaf that divides 192"},
		{"batch={size: 64, leaf: 128, ghost: 32}", "batch.size 64 is not a multiple of batch.leaf 128: use 128, or a batch.leaf that divides 64"},
		{"batch.size=0", "batch.size 0 is out of range: use 1 to 16777216 samples"},
		{"batch.size=16777217", "batch.size 16777217 is out of range: use 1 to 16777216 samples"},
		{"batch.leaf=-1", "batch.leaf -1 is too small: use 1 or more samples that divide batch.size 128"},
		{"batch.ghost=-1", "batch.ghost -1 is too small: use 1 or more samples that divide batch.leaf 128"},
		{"batch.ghost=48", "batch.ghost 48 does not divide batch.leaf 128: use 32"},
		{"batch={sync_bn: true, ghost: 64}", "batch.ghost 64 with batch.sync_bn true: statistics are those of the whole batch; leave batch.ghost out"},
		{"batch.running=means", `batch.running "means" is not known: use sequential, scaled, mean; did you mean mean?`},
		{"batch.lanes=6", "batch.lanes 6 is not a power of two from 1 to 64: use 8"},
		{"batch.lanes=128", "batch.lanes 128 is not a power of two from 1 to 64: use 8"},
		{"batch.lanes=0", "batch.lanes 0 is not a power of two from 1 to 64: use 8"},
		{"model.fc_std=-1", "model.fc_std -1 is no standard deviation: use a number above 0, such as 0.01, or 0 for the default"},
		{"train.epochs=0", "train.epochs 0 is too few: use 1 or more"},
		{"train.precision=bf61", `train.precision "bf61" is not known: use f32, bf16, tf32; did you mean bf16?`},
		{"train.precision=tf23", `train.precision "tf23" is not known: use f32, bf16, tf32; did you mean tf32?`},
		{"train.precision=fp16", `train.precision "fp16" is not known: use f32, bf16, tf32; did you mean bf16?`},
		{"train.label_smoothing=1", "train.label_smoothing 1 is out of range: use 0 or more and less than 1"},
		{"train.eval_every=0", "train.eval_every 0 is too few: use 1 epoch or more"},
		{"train.log_per_epoch=-1", "train.log_per_epoch -1 is out of range: use a number of updates up to 1000000, such as 50, or 0 for none"},
		{"optimizer.lr=0", "optimizer.lr 0 is not a learning rate: use a number above 0"},
		{"optimizer.momentum=1", "optimizer.momentum 1 is out of range: use 0 or more and less than 1"},
		{"optimizer={momentum: 0, nesterov: true}", "optimizer.nesterov true needs momentum: set optimizer.momentum above 0"},
		{"optimizer.weight_decay=-1", "optimizer.weight_decay -1 is out of range: use 0 or more"},
		{"optimizer.decay_exclude=[bm]", `optimizer.decay_exclude "bm" is not known: use bn, bias; did you mean bn?`},
		{"optimizer.decay_exclude=[bn, bn]", `optimizer.decay_exclude "bn" is listed twice: list it once`},
		{"schedule.name=stp", `schedule.name "stp" is not known: use constant, step, cosine, poly, cyclic; did you mean step?`},
		{"schedule.name=step", "schedule.at is empty: schedule step needs the epochs at which the learning rate changes, like [30, 60]"},
		{"schedule.at=[0]", "schedule.at 0 is no epoch: use whole numbers above 0"},
		{"schedule.at=[30, 30]", "schedule.at 30 comes after 30: list the epochs in increasing order"},
		{"schedule.factor=0", "schedule.factor 0 is not a multiplier: use a number above 0, such as 0.2"},
		{"schedule.end_lr=-1", "schedule.end_lr -1 is not a learning rate: use 0 or more"},
		{"schedule.power=0", "schedule.power 0 is not an exponent: use a number above 0, such as 2"},
		{"schedule.peak=1", "schedule.peak 1 is no share of the run: use a number above 0 and below 1, such as 0.5"},
		{"schedule={name: cyclic, warmup_epochs: 5}", "schedule.warmup_epochs 5 with schedule cyclic, which rises by itself: leave it out"},
		{"schedule.after_warmup=true", "schedule.after_warmup true with schedule constant, whose rate does not fall over the run: leave it out"},
		{"schedule={name: poly, warmup_epochs: 90, after_warmup: true}", "schedule.warmup_epochs 90 leaves nothing of the run for schedule.after_warmup true: use less than train.epochs 90"},
		{"schedule.warmup_epochs=91", "schedule.warmup_epochs 91 does not fit into the run: use 0 to train.epochs 90"},
		{"schedule.warmup_from=2", "schedule.warmup_from 2 is not a fraction of the learning rate: use 0 to 1"},
		{"data.name=", "data.name is missing: name a data set, such as cifar10"},
		{"data.augment=[flop]", `data.augment "flop" is not known: use pad_crop, flip, cutout, random_resized_crop, autoaugment; did you mean flip?`},
		{"data.normalize=all", `data.normalize "all" is not known: use none, dataset`},
		{"data.pad=-1", "data.pad -1 is out of range: use 0 to 1024 pixels"},
		{"data={pad: 0, augment: [pad_crop]}", "data.pad 0 leaves pad_crop nothing to move: use 1 or more, or drop pad_crop from data.augment"},
		{"data.cutout_size=0", "data.cutout_size 0 is out of range: use 1 to 1024 pixels"},
		{"data.autoaugment=v0", `data.autoaugment "v0" is not known: use imagenet, cifar10, svhn`},
		{"data.train_limit=-1", "data.train_limit -1 is negative: use a number of samples, or 0 for all"},
		{"data.test_limit=-1", "data.test_limit -1 is negative: use a number of samples, or 0 for all"},
		{"model.name=", "model.name is missing: name a network, such as resnet20"},
		{"checkpoint.every_updates=-1", "checkpoint.every_updates -1 is negative: use a number of updates, or 0 to save none by their number"},
		{"checkpoint.keep=0", "checkpoint.keep 0 keeps no checkpoint: use 1 or more"},
		{"name=a/b", `name "a/b" cannot name a run: use up to 100 printable characters without slashes`},
		{"name=..", `name ".." cannot name a run: use up to 100 printable characters without slashes`},
	} {
		_, err := Parse("small.yaml", []byte(small), []string{test.set})
		if want := "small.yaml: " + test.want; err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", test.set, err, want)
		}
	}
}

func TestValidateRefusesNonFiniteValuesOfAProgram(t *testing.T) {
	r := mustParse(t, small)
	zero := 0.0
	r.Optimizer.LR, r.Schedule.Factor, r.Schedule.WarmupEpochs = 1/zero, zero/zero, zero/zero
	err := r.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v, want three lines", err)
	}
}

func TestBuiltinRecipes(t *testing.T) {
	got := BuiltinNames()
	for _, want := range []string{"cifar10-absa", "cifar10-bl", "quickstart"} {
		if !slices.IsSorted(got) || !slices.Contains(got, want) {
			t.Fatalf("built in: %q, want %s among them, in order", got, want)
		}
	}
	for _, name := range got {
		r, err := Load(name, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		src, err := Builtin(name)
		if err != nil || !strings.HasPrefix(string(src), "# "+name+": ") || !strings.Contains(string(src), "arXiv") {
			t.Errorf("%s: lacks its header", name)
		}
		if r.Name != name {
			t.Errorf("%s: name is %q", name, r.Name)
		}
		if slices.Contains([]string{"cifar10-abs", "cifar10-absa", "cifar10-bl", "cifar10-fb", "cifar10-gg"}, name) {
			checkCIFARArm(t, r)
		}
	}
}

// checkCIFARArm holds the arms of the comparison to what the paper's runs share.
func checkCIFARArm(t *testing.T, r *Recipe) {
	t.Helper()
	o, s := r.Optimizer, r.Schedule
	if r.Model.Name != "resnet20" || r.Data.Name != "cifar10" || len(r.Data.Augment) != 0 || r.Data.Normalize != "none" ||
		r.Train.Epochs != 90 || o.LR != 0.1 || o.Momentum != 0.9 || o.WeightDecay != 0 ||
		s.Name != "step" || !slices.Equal(s.At, []int{30, 60, 80}) || s.Factor != 0.2 || r.Batch.Ghost != 128 {
		t.Errorf("%s differs from the paper: %+v", r.Name, r)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("mine.yaml", []byte(small), 0o644); err != nil {
		t.Fatal(err)
	}
	if r, err := Load(filepath.Join(dir, "mine.yaml"), []string{"train.epochs=2"}); err != nil || r.Name != "mine" || r.Train.Epochs != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, err := Load("quickstart.yaml", nil); err != nil || r.Name != "quickstart" {
		t.Errorf("a built-in name with its extension: %+v, %v", r, err)
	}
	if err := os.WriteFile("quickstart", []byte("name: my own\n"+small), 0o644); err != nil {
		t.Fatal(err)
	}
	if r, err := Load("quickstart", nil); err != nil || r.Name != "my own" {
		t.Errorf("a file does not win over a built-in recipe: %+v, %v", r, err)
	}
	if err := os.Mkdir("cifar10-bl", 0o755); err != nil {
		t.Fatal(err)
	}
	if r, err := Load("cifar10-bl", nil); err != nil || r.Name != "cifar10-bl" {
		t.Errorf("a folder hides a built-in recipe: %+v, %v", r, err)
	}
	names := strings.Join(BuiltinNames(), ", ")
	for path, want := range map[string]string{
		"quickstrat": `recipe "quickstrat": no such file and no built-in recipe of that name; did you mean quickstart? built in are ` + names,
		".":          `recipe ".": this is a folder and no built-in recipe of that name; built in are ` + names,
	} {
		if _, err := Load(path, nil); err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", path, err, want)
		}
	}
	if _, err := Load("mine.yaml/x", nil); err == nil || !strings.HasPrefix(err.Error(), "reading recipe: ") {
		t.Errorf("a path below a file: %v", err)
	}
	if _, err := Load("cifar10-bl", []string{"train.epoch=1"}); err == nil || !strings.HasPrefix(err.Error(), "--set train.epoch=1: ") {
		t.Errorf("got %v", err)
	}
}
