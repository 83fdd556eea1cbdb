package engine

import (
	"strings"
	"testing"

	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/recipe"
)

// imagined is a data set of which only the size is known.
func imagined(n, size, channels, classes int) *data.Pair {
	set := &data.Set{Name: "imagined", H: size, W: size, C: channels, Classes: classes, Labels: make([]int32, n)}
	return &data.Pair{Train: set, Test: set}
}

// Every recipe inside the program can be trained, by all that can be told without its data and a device.
func TestBuiltinRecipesCanBeTrained(t *testing.T) {
	sets := map[string]*data.Pair{"cifar10": imagined(50000, 32, 3, 10), "cifar100": imagined(50000, 32, 3, 100),
		"mnist": imagined(60000, 28, 1, 10), "fashion-mnist": imagined(60000, 28, 1, 10), "fashion-mnist-small": imagined(8000, 28, 1, 10),
		"folder": imagined(2000, 96, 3, 10)}
	for _, name := range recipe.BuiltinNames() {
		r, err := recipe.Load(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		pair, ok := sets[r.Data.Name]
		if !ok {
			t.Fatalf("%s: the test does not know %s", name, r.Data.Name)
		}
		c := Checker{pairs: map[data.Spec]*data.Pair{specOf(r.Data): pair}}
		if err := c.Check(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A check finds what a parser cannot know.
func TestCheckRefuses(t *testing.T) {
	pair := imagined(11*32, 8, 3, 4)
	for set, want := range map[string]string{
		"model.name=resnet19":               "resnet19",
		"batch.size=1056":                   "",
		"batch.size=1088":                   "never update",
		"batch={size: 512, leaf: 512}":      "352 samples",
		"methods=[absb]":                    "absb",
		"methods=[absa: {patience: 0}]":     "patience",
		"methods=[regime, fb]":              "both control",
		"schedule.name=cosine":              "",
		"optimizer.name=sdg":                "sdg",
		"batch={size: 32, ghost: 1}":        "",
		"model.zero_init_residual=true":     "",
		"data.augment=none":                 "",
		"methods=[gg: {max_batch: 100}]":    "max_batch",
		"methods=[batchsched]":              "methods.batchsched.at",
		"methods=[batchsched: {at: [1,9]}]": "only 3 epochs",
	} {
		r := parseRecipe(t, smallText, set)
		c := Checker{pairs: map[data.Spec]*data.Pair{specOf(r.Data): pair}}
		switch err := c.Check(r); {
		case want == "" && err != nil:
			t.Errorf("%s: %v", set, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v; want %q", set, err, want)
		}
	}
}

// Every method has a recipe that shows it.
func TestEveryMethodHasARecipe(t *testing.T) {
	for _, name := range methods.Names() {
		r, err := recipe.Load("cifar10-"+name, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, ok := r.Method(name); !ok {
			t.Errorf("recipe cifar10-%s does not use the method", name)
		}
	}
}
