package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"broadside/engine/methods"
	"broadside/engine/recipe"
	"broadside/engine/suggest"
	"broadside/engine/sweep"
	"broadside/models"
)

// Every command has help with examples of itself, and every example is a command line that would be taken.
func TestHelp(t *testing.T) {
	t.Chdir(t.TempDir())
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		out := must(t, append(strings.Fields(path)[1:], "--help")...)
		_, example, ok := strings.Cut(out, "Examples:\n")
		example, _, _ = strings.Cut(example, "\n\n")
		if !ok || cmd.Short == "" {
			t.Errorf("%s --help has no example: %q", path, out)
		}
		for _, l := range strings.Split(example, "\n") {
			if !strings.HasPrefix(l, "  "+path+" ") && l != "  "+path {
				t.Errorf("%s --help has the example %q", path, l)
			} else if err := checkLine(shellWords(l)[1:]); err != nil {
				t.Errorf("%s --help has the example %q: %v", path, l, err)
			}
		}
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && c.Name() != "help" {
				visit(c)
			}
		}
	}
	root := newRoot()
	visit(root)
	for _, c := range root.Commands() {
		if c.GroupID == "" && c.IsAvailableCommand() {
			t.Errorf("%s is in no group", c.Name())
		}
	}
	if out := must(t); !strings.Contains(out, "\nTrain:\n") || strings.Contains(out, "Additional Commands") {
		t.Errorf("broadside alone printed %q", out)
	}
}

// fence matches a block of commands or code.
var fence = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```")

// program matches the word that starts this program in a document: by its path, or as the image of a container.
var program = regexp.MustCompile(`^(bin/)?broadside(-cuda|-mpi|-mpi-cuda)?$`)

// Every command in a document would be taken. TestDocumentedCommandsRun runs them.
func TestDocumentedCommands(t *testing.T) {
	checked := 0
	for path, lines := range documents(t) {
		for _, line := range lines {
			args, ok := argumentsIn(line)
			if !ok {
				continue
			}
			checked++
			if err := checkLine(args); err != nil {
				t.Errorf("%s: %s: %v", path, line, err)
			}
		}
	}
	if checked < 40 {
		t.Errorf("%d commands were checked: the documents are not read as they should be", checked)
	}
}

// documents are the lines of the blocks of commands and code in README.md and docs.
func documents(t *testing.T) map[string][]string {
	t.Helper()
	files := []string{"../../README.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../docs/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	lines := map[string][]string{}
	for _, path := range files {
		name := strings.TrimPrefix(path, "../../")
		for _, block := range fence.FindAllStringSubmatch(read(t, path), -1) {
			lines[name] = append(lines[name], strings.Split(strings.ReplaceAll(block[1], "\\\n", " "), "\n")...)
		}
	}
	return lines
}

// argumentsIn returns the arguments of this program in a line of a document, if the line starts it.
func argumentsIn(line string) (args []string, ok bool) {
	words := shellWords(line)
	for i, w := range words {
		first := i == 0 || words[0] == "mpirun" || words[0] == "docker" && len(words) > 1 && words[1] == "run"
		if first && program.MatchString(w) {
			return words[i+1:], true
		}
	}
	return nil, false
}

// shellWords splits a command as a shell does, up to a comment, a pipe or a redirection.
func shellWords(line string) (words []string) {
	var word strings.Builder
	var quote rune
	begun := false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, c := range line {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ' || c == '\t':
			end()
		case c == '|' || c == '>' || c == '&' || c == ';' || c == '#' && !begun:
			end()
			return words
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	end()
	return words
}

// checkLine says why arguments would not be taken: a command, flag, number of arguments, recipe, method, model or key
// that does not exist. It does nothing else, and does not look for files.
func checkLine(args []string) error {
	cmd, rest, err := newRoot().Find(args)
	if err != nil {
		return err
	}
	switch err := cmd.ParseFlags(rest); {
	case errors.Is(err, pflag.ErrHelp):
		return nil
	case err != nil:
		return err
	}
	rest = cmd.Flags().Args()
	if err := cmd.ValidateArgs(rest); err != nil {
		return err
	}
	if err := checkNames(cmd, rest); err != nil {
		return err
	}
	for _, flag := range []string{"model", "shapes"} {
		if f := cmd.Flags().Lookup(flag); f != nil && f.Changed {
			if _, err := models.Lookup(f.Value.String()); err != nil {
				return err
			}
		}
	}
	if f := cmd.Flags().Lookup("set"); f != nil {
		return checkSets(cmd, rest, f.Value.(pflag.SliceValue).GetSlice())
	}
	return nil
}

// checkNames checks what the usage line calls recipe or method.
func checkNames(cmd *cobra.Command, args []string) error {
	names := strings.Fields(cmd.Use)[1:]
	for i, a := range args {
		if len(names) == 0 {
			return nil
		}
		_, isMethod := methods.Lookup(a)
		switch name := strings.TrimSuffix(names[min(i, len(names)-1)], "..."); {
		case name == "METHOD" && !isMethod:
			return suggest.Unknown("method", a, methods.Names())
		case name == "RECIPE" && !isRecipe(a) && !(cmd.Name() == "diff" && strings.HasPrefix(a, "runs/")):
			return suggest.Unknown("recipe", a, recipe.BuiltinNames())
		}
	}
	return nil
}

// isRecipe reports whether a name is that of a recipe inside the program, or could be that of a file.
func isRecipe(name string) bool {
	return slices.Contains(recipe.BuiltinNames(), name) || strings.HasSuffix(name, ".yaml")
}

// checkSets checks overrides: by their keys, and in a recipe inside the program by their values.
func checkSets(cmd *cobra.Command, args, sets []string) error {
	var first []string
	for _, s := range sets {
		if cmd.Name() == "sweep" {
			a, err := sweep.ParseAxis(s)
			if err != nil {
				return err
			}
			s = a.Key + "=" + a.Values[0]
		}
		first = append(first, s)
		key, _, ok := strings.Cut(s, "=")
		if known := keysBeside(key); !ok || !slices.Contains(known, key) {
			return fmt.Errorf("--set %s: %w", s, suggest.Unknown("key", key, known))
		}
	}
	if len(args) > 0 && slices.Contains(recipe.BuiltinNames(), args[0]) {
		_, err := recipe.Load(args[0], first)
		return err
	}
	return nil
}

// keysBeside are the keys of recipes, and those of the method that a key belongs to.
func keysBeside(key string) (out []string) {
	sections := map[string]bool{}
	for _, k := range append(recipe.Keys(), setKeys(key)...) {
		out = append(out, k.Path)
		if section, _, ok := strings.Cut(k.Path, "."); ok && !sections[section] {
			sections[section] = true
			out = append(out, section)
		}
	}
	return out
}

// The checks can fail: each of these lines has a mistake.
func TestDocumentedMistakes(t *testing.T) {
	t.Chdir(t.TempDir())
	for line, want := range map[string]string{
		"bin/broadside trian quickstart":                          "trian",
		"bin/broadside train quickstrat":                          "did you mean quickstart",
		"broadside train quickstart --resum":                      "resum",
		"broadside train my.yaml --set batch.sise=3  # a comment": "did you mean batch.size",
		"broadside train my.yaml --set methods.absa.patiense=3":   "did you mean methods.absa.patience",
		"broadside train cifar10-bl --set batch.size=130 | cat":   "not a multiple",
		"broadside sweep my.yaml --set batch.size=1,,2":           "is empty",
		"broadside eval":                                              "0 arguments",
		"broadside methods explain absb":                              "did you mean abs",
		"bin/broadside-cuda bench step --model resnet":                "unknown model",
		"mpirun -np 4 bin/broadside-mpi train nothing":                "unknown recipe",
		"docker run --rm broadside-cuda train quickstart --devices x": "invalid",
		"broadside recipe diff quickstart other":                      "unknown recipe",
		"broadside train quickstart > log":                            "",
		"broadside train 'my.yaml' --set 'schedule.at=[30, 60]'":      "",
		"docker run -v broadside-runs:/home broadside-cuda doctor":    "",
	} {
		args, ok := argumentsIn(line)
		if !ok {
			t.Errorf("%s: not found", line)
			continue
		}
		if err := checkLine(args); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", line, err, want)
		}
	}
	for _, line := range []string{"make demo", "docker build -t broadside-cuda .", "python3 broadside train", "# bin/broadside train"} {
		if args, ok := argumentsIn(line); ok {
			t.Errorf("%s: read as %q", line, args)
		}
	}
}
