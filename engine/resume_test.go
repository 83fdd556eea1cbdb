package engine

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

const oldRun = `
name: old
data: {name: fashion-mnist-small, augment: [flip], train_limit: 64, test_limit: 10}
model: {name: f1}
train: {epochs: 2}
batch: {size: 32, leaf: 16, ghost: 16}
methods: [swap: {stop_accuracy: 2, workers: 1, epochs: 1, batch: 32}]
`

// without removes keys of the recipe of a run, as a version that did not know them left it.
func without(t *testing.T, dir string, keys ...string) {
	t.Helper()
	path := filepath.Join(dir, telemetry.RecipeFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		shorter := regexp.MustCompile(`(?m)^  `+key+`: .*\n|, `+key+`: [^,}]*`).ReplaceAll(text, nil)
		if len(shorter) == len(text) {
			t.Fatalf("the recipe has no %s:\n%s", key, text)
		}
		text = shorter
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A run whose recipe lacks keys, as one of an older version does, is resumed if they would have their defaults.
func TestResumeOfARunWithoutNewerKeys(t *testing.T) {
	dir, resume := t.TempDir(), false
	train := func(sets ...string) error {
		_, err := Train(context.Background(), parseRecipe(t, oldRun, sets...), Options{Device: "cpu", Devices: 1, RunDir: dir, Resume: resume})
		return err
	}
	if err := train(); err != nil {
		t.Fatal(err)
	}
	resume = true
	without(t, dir, "sync_bn", "running", "fc_std", "peak", "after_warmup", "power", "keep_momentum")
	if err := train(); err != nil {
		t.Errorf("with defaults: %v", err)
	}
	if r, err := RunRecipe(dir, nil); err != nil {
		t.Error(err)
	} else if _, err := Train(context.Background(), r, Options{Device: "cpu", Devices: 1, RunDir: dir, Resume: true}); err != nil {
		t.Errorf("by the run's own recipe: %v", err)
	}
	if state, err := StateOf(dir, resolved(t, parseRecipe(t, oldRun))); err != nil || state != EndedRun {
		t.Errorf("the run's state is %v, %v", state, err)
	}
	for _, set := range []string{"batch.running=mean", "model.fc_std=0.1", "methods.swap.keep_momentum=true"} {
		if err := train(set); err == nil || !strings.Contains(err.Error(), "a resume must not change it") {
			t.Errorf("%s: %v", set, err)
		}
	}
}

// resolved writes out the options of a recipe's methods.
func resolved(t *testing.T, r *recipe.Recipe) *recipe.Recipe {
	t.Helper()
	if _, err := openMethods(r); err != nil {
		t.Fatal(err)
	}
	return r
}

// A recipe that this version cannot read is named.
func TestResumeOfAnUnreadableRecipe(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, telemetry.RecipeFile)
	for text, want := range map[string]string{
		oldRun + "later: {key: 1}\n":                       path + ":8: unknown key later",
		strings.Replace(oldRun, "swap", "nosuchmethod", 1): path + `:7: unknown method "nosuchmethod"`,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := StateOf(dir, parseRecipe(t, oldRun)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
