package main

import (
	"strings"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

// Shown recipes have every option of their methods, and are as before otherwise.
func TestRecipeShowsOptions(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range methods.Names() {
		text := must(t, "recipe", "show", "quickstart", "--set", "methods=["+name+"]")
		m, _ := methods.Lookup(name)
		for _, k := range recipe.KeysOf("", m.Options()) {
			if !strings.Contains(text, k.Path+": ") {
				t.Errorf("%s: no option %s in\n%s", name, k.Path, text)
			}
		}
	}
	// Training twice as long is the run's to do: it would be done twice.
	if text := must(t, "recipe", "show", "quickstart", "--set", "methods=[regime: {base_batch: 32, longer: true}]"); !strings.Contains(text, "longer_by: 0") {
		t.Errorf("shown as\n%s", text)
	}
}

func TestRecipeDiff(t *testing.T) {
	tinyFolder(t)
	write(t, "other.yaml", strings.Replace(read(t, "tiny.yaml"), "size: 16", "size: 32", 1)+"methods: [absa: {patience: 3, max_batch: 64}]\nname: another\n")
	must(t, "train", "tiny.yaml", "--run", "r", "--set", "train.seed=9")
	if out := must(t, "recipe", "diff", "tiny.yaml", "tiny.yaml"); out != "no differences\n" {
		t.Errorf("a recipe and itself: %q", out)
	}
	if out := must(t, "recipe", "diff", "tiny.yaml", "r"); out != "KEY         tiny.yaml  r\ntrain.seed  1          9\n" {
		t.Errorf("a recipe and its run: %q", out)
	}
	type diff struct {
		Recipes     []string
		Differences []telemetry.Difference
	}
	if d := decode[diff](t, must(t, "recipe", "diff", "r", "r", "--json")); d.Differences == nil || len(d.Differences) > 0 {
		t.Errorf("a run and itself: %+v", d)
	}
	found := map[string][]string{}
	d := decode[diff](t, must(t, "recipe", "diff", "tiny.yaml", "other.yaml", "--json"))
	for _, e := range d.Differences {
		found[e.Key] = e.Values
	}
	// An option that the file leaves out differs too: the other recipe has no such method.
	for key, want := range map[string]string{"batch.size": "16 32", "methods.absa.patience": " 3", "methods.absa.attack_fraction": " 0.2"} {
		if got := strings.Join(found[key], " "); got != want {
			t.Errorf("%s: %q; want %q", key, got, want)
		}
	}
	if _, ok := found["batch.leaf"]; ok || len(found["name"]) > 0 || strings.Join(d.Recipes, " ") != "tiny.yaml other.yaml" {
		t.Errorf("%+v", d)
	}
	refused(t, []mistake{
		{"one recipe", "recipe diff tiny.yaml", exitUsage, []string{"1 arguments", "recipe diff RECIPE RECIPE"}},
		{"no recipe", "recipe diff tiny.yaml none", exitFailure, []string{"none", "no such file"}},
		{"no run", "recipe diff tiny.yaml data", exitFailure, []string{"data", "this is a folder"}},
	})
}

// Every mistake is told, with the line of the key, and good recipes are named.
func TestRecipeValidate(t *testing.T) {
	tinyFolder(t)
	write(t, "values.yaml", `
data: {name: cifr10}
model: {name: resnet21}
train:
  epochs: 0
batch:
  size: 24
  leaf: 16
optimizer: {name: lars, lr: -1}
methods:
  - absa: {patience: 0}
  - abss
  - fb
  - gg: {max_batchh: 4}
`)
	write(t, "keys.yaml", "data: {name: mnist}\nmodel: {nmae: resnet20}\ntrain: {epochs: many}\n")
	write(t, "torn.yaml", "data: {name: mnist\n")
	r := broadside("recipe", "validate", "tiny.yaml", "values.yaml", "keys.yaml", "torn.yaml", "none.yaml", "quickstart")
	if r.status != exitFailure || r.errors != "broadside: 4 of 6 recipes have mistakes\n" {
		t.Errorf("status %d, %s", r.status, r.errors)
	}
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	want := []string{
		"tiny.yaml: valid",
		"values.yaml:5: train.epochs 0 is too few",
		"values.yaml:7: batch.size 24 is not a multiple of batch.leaf 16",
		"values.yaml:9: optimizer.lr -1 is not a learning rate",
		"values.yaml:2: data.name: unknown data set \"cifr10\"; did you mean cifar10?",
		"values.yaml:3: model.name: ",
		"values.yaml:9: optimizer.name is lars: other step rules than sgd are methods",
		"values.yaml:11: methods.absa.patience",
		"values.yaml:12: unknown method \"abss\"; did you mean abs?",
		"values.yaml:14: unknown key methods.gg.max_batchh; did you mean methods.gg.max_batch?",
		"keys.yaml:2: unknown key model.nmae; did you mean model.name?",
		"keys.yaml:3: train.epochs: want a whole number, got \"many\"",
		"torn.yaml:1: malformed YAML",
		"recipe \"none.yaml\": no such file",
		"quickstart: valid",
	}
	if len(lines) != len(want) {
		t.Fatalf("%d lines; want %d:\n%s", len(lines), len(want), r.out)
	}
	for i, l := range lines {
		if !strings.HasPrefix(l, want[i]) {
			t.Errorf("line %d: %s; want %s", i, l, want[i])
		}
	}
	r = broadside("recipe", "validate", "tiny.yaml", "keys.yaml", "--json")
	if v := decode[[]validity](t, r.out); r.status != exitFailure || len(v) != 2 || !v[0].Valid || v[1].Valid || len(v[1].Errors) != 2 {
		t.Errorf("status %d, %+v", r.status, v)
	}
	for _, name := range recipe.BuiltinNames() {
		must(t, "recipe", "validate", name)
	}
}

// With --data a recipe is held against its data too.
func TestRecipeValidateWithData(t *testing.T) {
	tinyFolder(t)
	if out := must(t, "recipe", "validate", "tiny.yaml", "--data"); out != "tiny.yaml: valid\n" {
		t.Errorf("printed %q", out)
	}
	for set, want := range map[string]string{"data.path=nowhere": "nowhere", "batch.size=304": "3 epochs of 96 samples", "batch={size: 128, leaf: 128}": "fewer than one leaf of 128",
		"methods=[absa,gg]": "both control the batch"} {
		r := broadside("recipe", "validate", "tiny.yaml", "--data", "--set", set)
		if r.status != exitFailure || !strings.Contains(r.out, want) || !strings.HasPrefix(r.out, "tiny.yaml: ") {
			t.Errorf("%s: status %d, %s", set, r.status, r.out)
		}
		if r := broadside("recipe", "validate", "tiny.yaml", "--set", set); (r.status == 0) != !strings.HasPrefix(set, "methods") {
			t.Errorf("%s without --data: status %d, %s", set, r.status, r.out)
		}
	}
	refused(t, []mistake{{"validate nothing", "recipe validate", exitUsage, []string{"0 arguments", "RECIPE..."}}})
}
