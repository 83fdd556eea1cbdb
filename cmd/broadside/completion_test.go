package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"broadside/engine/methods"
	"broadside/engine/recipe"
	"broadside/models"
)

// completions asks as a shell does, and returns what may stand in the last place without the explanations, and what
// the shell may do beyond it.
func completions(t *testing.T, args ...string) (out []string, directive string) {
	t.Helper()
	for line := range strings.Lines(must(t, append([]string{cobra.ShellCompRequestCmd}, args...)...)) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		out = append(out, word)
	}
	return out[:len(out)-1], out[len(out)-1]
}

const files, noFiles, noFilesNoSpace = ":0", ":4", ":6"

func TestCompletion(t *testing.T) {
	tinyFolder(t)
	write(t, "runs/a/recipe.yaml", "")
	write(t, "runs/b/recipe.yaml", "")
	write(t, "runs/nothing/x", "")
	write(t, "elsewhere/deep/c/recipe.yaml", "")
	write(t, "recipes/one.yml", "")
	write(t, "recipes/two.txt", "")
	for _, c := range []struct {
		typed     string
		want      string
		directive string
	}{
		{"tra", "train", noFiles},
		{"recipe v", "validate", noFiles},
		{"train cifar10-absa", "cifar10-absa", files},
		{"train quick", "quickstart", files},
		{"train ti", "tiny.yaml", files},
		{"train recipes/", "recipes/one.yml", files},
		{"train /nowhere/", "", files},
		{"train quickstart x", "", noFiles},
		{"recipe validate tiny.yaml quick", "quickstart", files},
		{"eval r", "runs/a runs/b", files},
		{"eval runs/b", "runs/b", files},
		{"eval elsewhere/deep/", "elsewhere/deep/c", files},
		{"compare runs/a runs/", "runs/a runs/b", files},
		{"train --run ru", "runs/a runs/b", files},
		{"methods explain absa", "absa", noFiles},
		{"methods explain lar", "lars", noFiles},
		{"train --set batch.l", "batch.leaf= batch.lanes=", noFilesNoSpace},
		{"train --set methods.lamb", "methods.lamb.", noFilesNoSpace},
		{"train --set methods.sam.r", "methods.sam.rho=", noFilesNoSpace},
		{"train --set methods.none.", "", noFilesNoSpace},
		{"train --set schedule.name=", "schedule.name=constant schedule.name=step schedule.name=cosine schedule.name=poly schedule.name=cyclic", noFiles},
		{"train --set model.name=resnet11", "model.name=resnet110", noFiles},
		{"train --set data.name=cifar10", "data.name=cifar10 data.name=cifar100", noFiles},
		{"train --set checkpoint.best=", "checkpoint.best=true checkpoint.best=false", noFiles},
		{"train --set methods.sam.adaptive=t", "methods.sam.adaptive=true", noFiles},
		{"train --set train.epochs=", "", noFiles},
		{"lr-find quickstart --set optimizer.l", "optimizer.lr=", noFilesNoSpace},
		{"train --device cu", "cuda cuda:0", noFiles},
		{"train --all-reduce t", "tree", noFiles},
		{"eval --attack p", "pgd", noFiles},
		{"curvature --bn g", "ghost", noFiles},
		{"bench step --model wrn-16-4", "wrn-16-4", noFiles},
		{"bench step --precision b", "bf16", noFiles},
		{"bench kernels --shapes resnet9", "resnet9", noFiles},
		{"data verify fashion-mnist-s", "fashion-mnist-small", noFiles},
		{"completion f", "fish", noFiles},
		{"models x", "", noFiles},
	} {
		got, directive := completions(t, strings.Fields(c.typed)...)
		if strings.Join(got, " ") != c.want || directive != c.directive {
			t.Errorf("%s: %q %s; want %q %s", c.typed, got, directive, c.want, c.directive)
		}
	}
	for typed, want := range map[string][]string{"train": recipe.BuiltinNames(), "methods explain": methods.Names(), "bench step --model": models.Names()} {
		got, _ := completions(t, append(strings.Fields(typed), "")...)
		for _, name := range want {
			if !slices.Contains(got, name) {
				t.Errorf("%s: no %s in %q", typed, name, got)
			}
		}
	}
}

// Every value that is offered for a key is one that a recipe takes.
func TestCompletedValues(t *testing.T) {
	for _, k := range recipe.Keys() {
		for _, v := range valuesOf(k.Path) {
			set := k.Path + "=" + v
			if strings.HasPrefix(k.Type, "a list") {
				set = k.Path + "=[" + v + "]"
			}
			if _, err := recipe.Load("cifar10-bl", []string{"schedule.at=[1]", "schedule.name=cosine", "optimizer.momentum=0.9", set}); err != nil {
				t.Errorf("%s: %v", set, err)
			}
		}
	}
	if got := valuesOf("train.on_device_loss"); !slices.Equal(got, []string{"stop", "redistribute"}) {
		t.Errorf("values %q", got)
	}
}

// The scripts are those of the shells: bash reads its own without a complaint, where there is one.
func TestCompletionScripts(t *testing.T) {
	for shell, want := range map[string]string{"bash": "complete -o default", "zsh": "#compdef broadside", "fish": "complete -c broadside", "powershell": "Register-ArgumentCompleter"} {
		script := must(t, "completion", shell)
		if !strings.Contains(script, want) {
			t.Errorf("%s: no %q", shell, want)
		}
		if path, err := exec.LookPath(shell); err == nil && shell != "powershell" {
			cmd := exec.Command(path, "-n")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v, %s", shell, err, out)
			}
		}
	}
	t.Chdir(t.TempDir())
	refused(t, []mistake{
		{"no shell", "completion", exitUsage, []string{"0 arguments", "completion SHELL"}},
		{"another shell", "completion bsh", exitUsage, []string{"unknown shell", "did you mean bash?"}},
	})
}
