package main

import (
	"strings"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/recipe"
)

func TestListings(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct{ command, key, want string }{
		{"models", "name", "resnet20"},
		{"methods", "name", "absa"},
		{"data", "name", "fashion-mnist-small"},
		{"recipe keys", "path", "batch.ghost"},
		{"doctor", "what", "CPU kernels"},
	} {
		args := strings.Fields(c.command)
		lines := strings.Split(must(t, args...), "\n")
		found := false
		for _, l := range lines[1:] {
			found = found || strings.HasPrefix(l, c.want+" ")
		}
		if !found || !strings.Contains(lines[0], "  WHAT") && !strings.HasPrefix(lines[0], "WHAT  ") {
			t.Errorf("%s printed no line for %s: %q", c.command, c.want, lines)
		}
		found = false
		for _, row := range decode[[]map[string]any](t, must(t, append(args, "--json")...)) {
			found = found || row[c.key] == c.want
		}
		if !found {
			t.Errorf("%s --json has no %s %s", c.command, c.key, c.want)
		}
	}
	if left := contents(t); left != ".\n" {
		t.Errorf("the listings left files: %q", left)
	}
}

// Every method can be explained: equations, limits, and an option with its default.
func TestMethodsExplain(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, m := range methods.All() {
		if m.Equations == "" || m.Limits == "" || m.Paper == "" || m.Cost == "" || m.Doc == "" {
			t.Errorf("method %s lacks part of its description: %+v", m.Name, m)
		}
		text := must(t, "methods", "explain", m.Name)
		for _, want := range []string{m.Paper, m.Limits, strings.Split(m.Equations, "\n")[0], "OPTION"} {
			if !strings.Contains(text, want) {
				t.Errorf("methods explain %s does not say %q", m.Name, want)
			}
		}
		if r := decode[map[string]any](t, must(t, "methods", "explain", m.Name, "--json")); r["equations"] != m.Equations {
			t.Errorf("methods explain %s --json: %v", m.Name, r)
		}
	}
	if r := broadside("methods", "explain", "abssa"); r.status == 0 || !strings.Contains(r.errors, "did you mean absa") {
		t.Errorf("an unknown method: %+v", r)
	}
}

func TestRecipeShow(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range recipe.BuiltinNames() {
		text := must(t, "recipe", "show", name, "--set", "train.seed=12345")
		write(t, "again.yaml", text)
		if again := must(t, "recipe", "show", "again.yaml"); again != text {
			t.Errorf("%s does not read back: %s", name, again)
		}
		r := decode[struct {
			Name  string
			Train struct {
				Seed int `json:"seed"`
			}
			Methods []map[string]map[string]any
		}](t, must(t, "recipe", "show", name, "--json", "--set", "train.seed=12345"))
		if r.Name != name || r.Train.Seed != 12345 || len(r.Methods) != strings.Count(text, "\n  - ") {
			t.Errorf("%s as JSON: %+v", name, r)
		}
	}
}
