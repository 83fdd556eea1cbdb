package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"broadside/engine/collective/join"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/engine/recipe"
	"broadside/engine/suggest"
	"broadside/engine/telemetry"
	"broadside/kernels"
	"broadside/models"
)

// shells are those that completion writes a script for.
var shells = []string{"bash", "zsh", "fish", "powershell"}

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a script that completes commands, flags, recipes, methods, runs and keys in a shell",
		Long: `Print a script for bash, zsh, fish or powershell. With it the shell completes
commands and flags, and names of recipes, methods, models, data sets, runs and the
keys of --set. For the current shell only:

  bash:        source <(broadside completion bash)
  zsh:         source <(broadside completion zsh)
  fish:        broadside completion fish | source
  powershell:  broadside completion powershell | Out-String | Invoke-Expression

The examples keep it for every new one. bash needs the package bash-completion.`,
		Example: `  broadside completion bash > ~/.local/share/bash-completion/completions/broadside
  broadside completion zsh > "${fpath[1]}/_broadside"
  broadside completion fish > ~/.config/fish/completions/broadside.fish
  broadside completion powershell > broadside.ps1`,
		Args:      arguments(1, 1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, a []string) error {
			root, w := cmd.Root(), cmd.OutOrStdout()
			switch a[0] {
			case "bash":
				return root.GenBashCompletionV2(w, true)
			case "zsh":
				return root.GenZshCompletion(w)
			case "fish":
				return root.GenFishCompletion(w, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(w)
			}
			return usageError{suggest.Unknown("shell", a[0], shells), cmd.CommandPath()}
		},
	}
}

// completer returns what may stand where toComplete has been typed.
type completer func(toComplete string) ([]cobra.Completion, cobra.ShellCompDirective)

// places are the completions of arguments, by their names in the usage line.
var places = map[string]completer{
	"RECIPE": completeRecipe, "METHOD": completeMethod, "RUN": completeRun, "CHECKPOINT|RUN": completeRun,
	"NAME": words(data.Names()...),
}

// flagValues are the completions of the values of flags, wherever a command has such a flag.
var flagValues = map[string]completer{
	"set": completeSet, "run": completeRun, "model": completeModel, "shapes": completeModel,
	"device":     words("auto", "cpu", "cuda", "cuda:0", "cpu:0,1"),
	"all-reduce": words(join.Names()...),
	"precision":  words(kernels.PrecisionNames()...),
	"attack":     words("fgsm", "pgd"),
	"bn":         words("eval", "ghost"),
	"start":      words("random", "clean"),
}

// complete has every command below cmd complete its arguments and flags.
func complete(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil && cmd.ValidArgs == nil && !cmd.HasSubCommands() {
		cmd.ValidArgsFunction = argumentsOf(strings.Fields(cmd.Use)[1:])
	}
	for name, c := range flagValues {
		if _, taken := cmd.GetFlagCompletionFunc(name); cmd.Flags().Lookup(name) == nil || taken {
			continue
		}
		err := cmd.RegisterFlagCompletionFunc(name, func(_ *cobra.Command, _ []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return fitting(c, toComplete)
		})
		if err != nil {
			panic(err) // the flag exists and has none
		}
	}
	for _, c := range cmd.Commands() {
		complete(c)
	}
}

// argumentsOf completes the arguments that a usage line names.
func argumentsOf(names []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, given []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		i := min(len(given), len(names)-1)
		if i < 0 || i < len(given) && !strings.HasSuffix(names[i], "...") {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		if c, ok := places[strings.TrimSuffix(names[i], "...")]; ok {
			return fitting(c, toComplete)
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
}

// fitting are the completions that go on from what has been typed.
func fitting(c completer, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	all, directive := c(toComplete)
	return slices.DeleteFunc(slices.Clone(all), func(s cobra.Completion) bool { return !strings.HasPrefix(s, toComplete) }), directive
}

// words completes one of some words.
func words(all ...string) completer {
	return func(string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeRecipe completes names of recipes inside the program, and recipe files.
func completeRecipe(toComplete string) (out []cobra.Completion, _ cobra.ShellCompDirective) {
	for _, name := range recipe.BuiltinNames() {
		out = append(out, cobra.CompletionWithDesc(name, recipeTitle(name)))
	}
	return append(out, matching(toComplete, func(path string) bool {
		return isFile(path) && slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(path))
	})...), cobra.ShellCompDirectiveDefault // which completes files if nothing else fits
}

// sentenceEnd ends a sentence but not an abbreviation, as in "et al. 2018".
var sentenceEnd = regexp.MustCompile(`\.( [A-Z]|$)`)

// recipeTitle is the first sentence that a recipe inside the program says of itself, after its name.
func recipeTitle(name string) string {
	text, err := recipe.Builtin(name)
	if err != nil {
		return ""
	}
	var words []string
	for line := range strings.Lines(string(text)) {
		comment, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !ok || strings.TrimSpace(comment) == "" {
			break
		}
		words = append(words, strings.Fields(comment)...)
	}
	title := strings.TrimSpace(strings.TrimPrefix(strings.Join(words, " "), name+":"))
	if end := sentenceEnd.FindStringIndex(title); end != nil {
		title = title[:end[0]]
	}
	return title
}

func completeMethod(string) (out []cobra.Completion, _ cobra.ShellCompDirective) {
	for _, m := range methods.All() {
		out = append(out, cobra.CompletionWithDesc(m.Name, m.Doc))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func completeModel(string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return models.Names(), cobra.ShellCompDirectiveNoFileComp
}

// completeRun completes directories of runs, in runs/ where nothing has been typed.
func completeRun(toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	isRun := func(path string) bool { return isFile(filepath.Join(path, telemetry.RecipeFile)) }
	out := matching(toComplete, isRun)
	if !strings.Contains(toComplete, "/") {
		out = append(out, matching(runsDir+"/", isRun)...)
	}
	return out, cobra.ShellCompDirectiveDefault
}

// mostMatches bounds how many entries of a directory are looked at.
const mostMatches = 1000

// matching lists the entries of a directory that begin with a path and are fit.
func matching(path string, fit func(path string) bool) (out []cobra.Completion) {
	dir, name := filepath.Split(path)
	f, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, _ := f.ReadDir(mostMatches) // as many as can be read
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), name) && fit(dir+e.Name()) {
			out = append(out, dir+e.Name())
		}
	}
	slices.Sort(out)
	return out
}

// completeSet completes keys of a recipe, and after "=" the values of those that have a few.
func completeSet(toComplete string) (out []cobra.Completion, _ cobra.ShellCompDirective) {
	if key, _, ok := strings.Cut(toComplete, "="); ok {
		for _, v := range valuesOf(key) {
			out = append(out, key+"="+v)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	for _, k := range setKeys(toComplete) {
		end := "="
		if strings.HasSuffix(k.Path, ".") {
			end = ""
		}
		out = append(out, cobra.CompletionWithDesc(k.Path+end, k.Doc))
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// setKeys are the keys of recipes; below "methods." the methods, and below a method its options.
func setKeys(toComplete string) []recipe.KeyDoc {
	rest, ok := strings.CutPrefix(toComplete, "methods.")
	if !ok {
		return recipe.Keys()
	}
	if name, _, ok := strings.Cut(rest, "."); ok {
		if m, ok := methods.Lookup(name); ok {
			return recipe.KeysOf("methods."+name, m.Options())
		}
		return nil
	}
	var out []recipe.KeyDoc
	for _, m := range methods.All() {
		out = append(out, recipe.KeyDoc{Path: fmt.Sprintf("methods.%s.", m.Name), Doc: m.Doc})
	}
	return out
}

// valuesOf are the values of a key, of those that have a few.
func valuesOf(key string) []string {
	switch key {
	case "data.name":
		return data.Names()
	case "optimizer.name":
		return []string{"sgd"}
	case "model.name":
		return models.Names()
	case "methods":
		return methods.Names()
	}
	if v := recipe.Choices(key); v != nil {
		return v
	}
	for _, k := range setKeys(key) {
		if k.Path == key && k.Type == "true or false" {
			return []string{"true", "false"}
		}
	}
	return nil
}
