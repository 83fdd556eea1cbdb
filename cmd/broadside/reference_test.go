package main

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/recipe"
)

//go:generate go test -run TestRecipeReference -update .

var update = flag.Bool("update", false, "write docs/RECIPE.md anew")

const referenceFile = "../../docs/RECIPE.md"

// The reference of recipes in docs/RECIPE.md says what the code says.
func TestRecipeReference(t *testing.T) {
	want := reference()
	if *update {
		if err := os.WriteFile(referenceFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Split(read(t, referenceFile), "\n")
	for i, line := range strings.Split(want, "\n") {
		if i >= len(got) || got[i] != line {
			t.Fatalf("docs/RECIPE.md:%d is stale: write it anew with 'go generate ./cmd/broadside'; it should have\n%s", i+1, line)
		}
	}
	if strings.Join(got, "\n") != want {
		t.Fatal("docs/RECIPE.md has more lines than it should: write it anew with 'go generate ./cmd/broadside'")
	}
}

// The reference names every key, option and recipe; a key without a description is a mistake.
func TestReferenceIsWhole(t *testing.T) {
	text := reference()
	for _, k := range recipe.Keys() {
		if k.Doc == "" || !strings.Contains(text, "| `"+k.Path+"` |") {
			t.Errorf("key %s: %q", k.Path, k.Doc)
		}
	}
	for _, m := range methods.All() {
		if !strings.Contains(text, "\n### "+m.Name+"\n") {
			t.Errorf("no method %s", m.Name)
		}
		for _, o := range methodRowOf(m).Options {
			if o.Doc == "" {
				t.Errorf("option %s has no description", o.Path)
			}
		}
	}
	for _, name := range recipe.BuiltinNames() {
		if recipeTitle(name) == "" || !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("recipe %s: %q", name, recipeTitle(name))
		}
	}
}

// reference writes the document.
func reference() string {
	var out strings.Builder
	out.WriteString(`# Recipes

<!-- Written by 'go generate ./cmd/broadside' from the code; a test fails while it is stale. -->

A recipe is a YAML file that says everything about a run. Every key has a default, but for the names of data set and model; a key
that does not exist is refused. ` + "`--set key=value`" + ` overrides a key for one run, options of methods too (` + "`--set methods.absa.patience=5`" + `).
` + "`broadside recipe show`" + ` prints a recipe with every default filled in, ` + "`recipe diff`" + ` what tells two apart, ` + "`recipe validate`" + ` every mistake
with its line.

` + "```yaml\n" + exampleRecipe + "```\n")
	out.WriteString("\n## Keys\n")
	section := ""
	for _, k := range recipe.Keys() {
		if head, _, _ := strings.Cut(k.Path, "."); head != section {
			section = head
			fmt.Fprintf(&out, "\n### %s\n\n| key | value | default | what it is |\n|---|---|---|---|\n", head)
		}
		writeKey(&out, k, recipe.Choices(k.Path))
	}
	out.WriteString("\n## Data sets\n\n| `data.name` | what | files in `data.path` |\n|---|---|---|\n")
	for _, s := range data.Sets() {
		fmt.Fprintf(&out, "| `%s` | %s | %s |\n", s.Name, cell(s.Title), cell(map[bool]string{true: "none: bundled", false: s.Files}[s.Bundled]))
	}
	out.WriteString("\n## Methods\n\nAny number, in any order, as in `methods: [lars: {coefficient: 0.01}, clip]`. [METHODS.md](METHODS.md) groups them;\n`broadside methods explain NAME` prints equations.\n")
	for _, m := range methods.All() {
		writeMethod(&out, methodRowOf(m))
	}
	out.WriteString("\n## Recipes inside the program\n\n`broadside train NAME` trains them, `broadside recipe show NAME` prints them.\n\n| recipe | what |\n|---|---|\n")
	for _, name := range recipe.BuiltinNames() {
		fmt.Fprintf(&out, "| `%s` | %s |\n", name, cell(recipeTitle(name)))
	}
	return out.String()
}

const exampleRecipe = `name: mine
data:      {name: cifar10, path: /data/cifar-10-batches-bin, augment: [pad_crop, flip]}
model:     {name: resnet20}
train:     {epochs: 90}
batch:     {size: 128}
optimizer: {lr: 0.1}
schedule:  {name: step, at: [30, 60, 80]}
methods:
  - absa: {max_batch: 16384}
`

func TestExampleRecipe(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "mine.yaml", exampleRecipe)
	must(t, "recipe", "validate", "mine.yaml")
}

func writeKey(out *strings.Builder, k recipe.KeyDoc, choices []string) {
	kind := k.Type
	if len(choices) > 0 {
		kind += ": " + strings.Join(choices, ", ")
	}
	fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", k.Path, cell(kind), cell(k.Default), cell(k.Doc))
}

func writeMethod(out *strings.Builder, m methodRow) {
	fmt.Fprintf(out, "\n### %s\n\n%s. %s; costs %s. %s\n\nLimits: %s.\n", m.Name, sentence(m.Doc), strings.TrimSuffix(m.Paper, "."), m.Cost, state(m.Status), strings.TrimSuffix(m.Limits, "."))
	if len(m.Options) == 0 {
		return
	}
	out.WriteString("\n| option | value | default | what it is |\n|---|---|---|---|\n")
	for _, o := range m.Options {
		o.Path = o.Path[strings.LastIndex(o.Path, ".")+1:]
		writeKey(out, o, nil)
	}
}

func state(status string) string { return sentence(status) + "." }

// sentence begins with a capital letter and has no end.
func sentence(s string) string {
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".")
}

// cell escapes what ends a cell of a table or begins markup.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "*", `\*`, "<", "&lt;", "_", `\_`).Replace(s)
}

func TestCell(t *testing.T) {
	if got := cell("a|b\nc_d*<"); got != `a\|b c\_d\*&lt;` {
		t.Errorf("%q", got)
	}
	if !reflect.DeepEqual([]string{sentence("grow."), state("as published")}, []string{"Grow", "As published."}) {
		t.Error("sentences")
	}
}
