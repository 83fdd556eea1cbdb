package recipe

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// options stands for the options of a method.
type options struct {
	MaxBatch int       `yaml:"max_batch" doc:"largest batch"`
	Patience int       `yaml:"patience" doc:"epochs without growth"`
	Epsilon  float64   `yaml:"epsilon" doc:"step"`
	Small    float32   `yaml:"small"`
	Compat   string    `yaml:"compat"`
	On       bool      `yaml:"on"`
	Rates    []float64 `yaml:"rates"`
	Inner    inner     `yaml:"inner"`
	Hidden   int
	Skipped  int `yaml:"-"`
}

type inner struct {
	Depth uint32 `yaml:"depth"`
}

func defaults() *options { return &options{MaxBatch: 16384, Patience: 10, Epsilon: 0.005, Hidden: 7} }

func TestDecodeMethod(t *testing.T) {
	r := mustParse(t, small+"methods:\n  - absa:\n      patience: 3\n      rates: [1, 2.5]\n      inner: {depth: 2}\n      on: true\n      compat: hessianflow\n")
	got := defaults()
	if err := Decode(r.Methods[0], got); err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Patience, want.Rates, want.Inner.Depth, want.On, want.Compat = 3, []float64{1, 2.5}, 2, true, "hessianflow"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDecodeMethodMessages(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"{patiense: 3}", "small.yaml:4: unknown key methods.absa.patiense; did you mean methods.absa.patience?"},
		{"{depth: 3}", "small.yaml:4: unknown key methods.absa.depth; did you mean methods.absa.inner.depth?"},
		{"{Hidden: 3}", "small.yaml:4: unknown key methods.absa.Hidden"},
		{"{patience: x}", `small.yaml:4: methods.absa.patience: want a whole number, got "x"`},
		{"{inner: {depth: -1}}", `small.yaml:4: methods.absa.inner.depth: want a whole number, 0 or more, got "-1"`},
		{"{inner: {dept: 1}}", "small.yaml:4: unknown key methods.absa.inner.dept; did you mean methods.absa.inner.depth?"},
		{"{small: 1e60}", `small.yaml:4: methods.absa.small: want a number, got "1e60"`},
	} {
		r := mustParse(t, small+"methods:\n  - absa: "+test.text+"\n")
		if err := Decode(r.Methods[0], defaults()); err == nil || err.Error() != test.want {
			t.Errorf("%s:\ngot  %v\nwant %s", test.text, err, test.want)
		}
	}
	r := mustParse(t, small, "methods.absa.patiense=2")
	want := "--set methods.absa.patiense=2: unknown key methods.absa.patiense; did you mean methods.absa.patience?"
	if err := Decode(r.Methods[0], defaults()); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestDecodeWantsAPointerToAStruct(t *testing.T) {
	for _, into := range []any{nil, options{}, new(int), (*options)(nil)} {
		if err := Decode(Method{Name: "m"}, into); err == nil {
			t.Errorf("%T is accepted", into)
		}
	}
	type odd struct {
		M map[string]int `yaml:"m"`
	}
	r := mustParse(t, small+"methods: [x: {m: {a: 1}}]\n")
	if err := Decode(r.Methods[0], &odd{}); err == nil || !strings.Contains(err.Error(), "map[string]int") {
		t.Errorf("a field that cannot be decoded: %v", err)
	}
}

func TestNewMethodRoundTrips(t *testing.T) {
	in := defaults()
	in.Epsilon, in.Compat, in.Rates, in.On = 1e-9, "a, {b}: \"c\" # d\n", []float64{-1.5, 1e300}, true
	m, err := NewMethod("absa", in)
	if err != nil {
		t.Fatal(err)
	}
	r := mustParse(t, small)
	r.Methods = []Method{m}
	text, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Parse("back.yaml", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := &options{Hidden: 7}
	if err := Decode(back.Methods[0], got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, in) {
		t.Errorf("got %+v, want %+v\n%s", got, in, text)
	}
	if m, err := NewMethod("bare", nil); err != nil || Decode(m, &options{}) != nil {
		t.Errorf("a method without options: %+v, %v", m, err)
	}
	if _, err := NewMethod("bad", 3); err == nil {
		t.Error("a number is accepted as options")
	}
}

func TestYAMLIsStableAndRoundTrips(t *testing.T) {
	want := `name: small
data:
  name: cifar10
  path: ""
  coarse: false
  augment: [flip]
  normalize: none
  pad: 4
  cutout_size: 16
  autoaugment: imagenet
  train_limit: 0
  test_limit: 0
  size: 0
  resize: 0
  crop_area: 0.08
  val_share: 0.1
  max_bad: 0
  max_memory_gb: 4
  decoder: auto
model:
  name: resnet20
  zero_init_residual: false
  fc_std: 0
  weights: ""
train:
  epochs: 90
  seed: 1
  precision: f32
  label_smoothing: 0
  eval_every: 1
  log_per_epoch: 50
  on_device_loss: stop
  on_anomaly: stop
  anomaly_z: 0
batch:
  size: 128
  leaf: 128
  ghost: 128
  lanes: 8
  running: sequential
  drop_last: false
  sync_bn: false
optimizer:
  name: sgd
  lr: 1.0e-07
  momentum: 0.9
  nesterov: false
  weight_decay: 0
  decay_exclude: []
schedule:
  name: constant
  at: []
  factor: 0.2
  end_lr: 0
  power: 2
  peak: 0.5
  warmup_epochs: 0
  warmup_from: 0
  after_warmup: false
checkpoint:
  every_updates: 500
  keep: 3
  every_minutes: 5
  best: false
methods:
  - b: {k: 1e-3, s: "1e-3", "odd key": [a, null, {}]}
  - a: {}
`
	r := mustParse(t, small+`
methods:
  - b: {k: 1e-3, s: "1e-3", odd key: [a, null, {}]}
  - a
`, "optimizer.lr=1e-7", "data.augment=[flip]")
	got, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	again, err := mustParse(t, string(got)).YAML()
	if err != nil || string(again) != want {
		t.Errorf("the second round gives\n%s, %v", again, err)
	}
}

func TestYAMLRefusesAnInvalidRecipe(t *testing.T) {
	r := mustParse(t, small)
	r.Optimizer.LR = math.Inf(1)
	if _, err := r.YAML(); err == nil {
		t.Error("a recipe that cannot be read back was written")
	}
}

func TestKeysDocumentEveryField(t *testing.T) {
	keys := Keys()
	byPath := map[string]KeyDoc{}
	for _, k := range keys {
		byPath[k.Path] = k
		if k.Doc == "" || k.Type == "" || k.Default == "" {
			t.Errorf("%+v is incomplete", k)
		}
	}
	for _, want := range []KeyDoc{
		{"batch.leaf", "a whole number", "the smaller of 128 and batch.size", ""},
		{"data.path", "text", `""`, ""},
		{"data.augment", "a list of names", "[]", ""},
		{"schedule.at", "a list of whole numbers", "[]", ""},
		{"optimizer.lr", "a number", "0.1", ""},
		{"optimizer.nesterov", "true or false", "false", ""},
		{"train.seed", "a whole number, 0 or more", "1", ""},
		{"methods", "a list of methods", "[]", ""},
	} {
		got := byPath[want.Path]
		got.Doc = ""
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if len(keys) != 58 || keys[0].Path != "name" || keys[len(keys)-1].Path != "methods" {
		t.Errorf("%d keys from %s to %s", len(keys), keys[0].Path, keys[len(keys)-1].Path)
	}
	got := paths(KeysOf("methods.absa", defaults()))
	if !slices.Contains(got, "methods.absa.inner.depth") || slices.Contains(got, "methods.absa.Hidden") {
		t.Errorf("keys of a method: %q", got)
	}
}

// FuzzParse checks that no input panics, and that every recipe that is accepted can be written and
// read back to the same text.
func FuzzParse(f *testing.F) {
	for _, name := range BuiltinNames() {
		src, err := Builtin(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src, "train.epochs=3")
	}
	f.Add([]byte(small+"methods:\n- a: {b: [1, 'x', \"\\u0001\", null, |\n x\n]}\n"), "methods.a.b=[1, {c: d}]")
	f.Add([]byte("a: &x [*x]\n"), "methods=none")
	f.Add([]byte("? [a]\n: {b: -\n"), "a.b=: -")
	f.Fuzz(func(t *testing.T, text []byte, set string) {
		r, err := Parse("fuzz.yaml", text, []string{set})
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an empty error")
			}
			return
		}
		first, err := r.YAML()
		if err != nil {
			t.Fatalf("writing an accepted recipe: %v", err)
		}
		back, err := Parse("fuzz.yaml", first, nil)
		if err != nil {
			t.Fatalf("reading back: %v\n%s", err, first)
		}
		second, err := back.YAML()
		if err != nil || string(first) != string(second) {
			t.Fatalf("%v\nfirst\n%s\nsecond\n%s", err, first, second)
		}
	})
}
