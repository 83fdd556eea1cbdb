package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"broadside/engine"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

func newRecipe() *cobra.Command {
	cmd := &cobra.Command{Use: "recipe", Short: "Show, compare and check recipes, and list their keys",
		Example: "  broadside recipe keys\n  broadside recipe show quickstart\n  broadside recipe diff cifar10-bl cifar10-absa\n  broadside recipe validate my.yaml"}
	keys := listing("keys", "List every key with its default", func() ([]recipe.KeyDoc, error) { return recipe.Keys(), nil },
		"KEY\tTYPE\tDEFAULT\tWHAT", func(k recipe.KeyDoc) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s", k.Path, k.Type, k.Default, k.Doc)
		})
	keys.Example = examples("broadside recipe keys")
	cmd.AddCommand(newRecipeShow(), newRecipeDiff(), newRecipeValidate(), keys)
	return group(cmd)
}

func newRecipeShow() *cobra.Command {
	var sets []string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show RECIPE", Short: "Print a recipe with every default filled in",
		Example: "  broadside recipe show cifar10-absa --set batch.size=256\n  broadside recipe show quickstart --json", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			r, err := recipe.Load(a[0], sets)
			if err != nil {
				return err
			}
			if err := engine.FillOptions(r); err != nil {
				return err
			}
			text, err := r.YAML()
			if err != nil {
				return err
			}
			if asJSON {
				if text, err = yaml.YAMLToJSON(text); err != nil {
					return fmt.Errorf("recipe %s as JSON: %w", a[0], err)
				}
				return printJSON(cmd.OutOrStdout(), json.RawMessage(text))
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().StringArrayVar(&sets, "set", nil, "override a key (may be repeated)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newRecipeDiff() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "diff RECIPE RECIPE", Short: "Print the keys in which two recipes or runs differ",
		Long: `Print the keys in which two recipes differ once every default is filled in, also those of
methods. A recipe is a file, a built-in name, or the directory of a run. Names of
recipes and the order of methods do not count.`,
		Example: "  broadside recipe diff cifar10-bl cifar10-absa\n  broadside recipe diff my.yaml runs/absa --json", Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, a []string) error {
			var texts [][]byte
			for _, name := range a {
				text, err := resolved(name)
				if err != nil {
					return err
				}
				texts = append(texts, text)
			}
			different, err := telemetry.RecipeDifferences(texts...)
			if err != nil {
				return err
			}
			return printDifferences(cmd.OutOrStdout(), a, different, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// resolved returns a recipe with every default filled in: a file's, a built-in one's or a run's.
func resolved(name string) ([]byte, error) {
	if own := filepath.Join(name, telemetry.RecipeFile); isFile(own) {
		name = own
	}
	r, err := recipe.Load(name, nil)
	if err == nil {
		err = engine.Resolve(r)
	}
	if err != nil {
		return nil, err
	}
	return r.YAML()
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func printDifferences(w io.Writer, names []string, different []telemetry.Difference, asJSON bool) error {
	switch {
	case asJSON:
		if different == nil {
			different = []telemetry.Difference{}
		}
		return printJSON(w, map[string]any{"recipes": names, "differences": different})
	case len(different) == 0:
		_, err := fmt.Fprintln(w, "no differences")
		return err
	}
	return table(w, "KEY\t"+strings.Join(names, "\t"), different, func(d telemetry.Difference) string {
		line := d.Key
		for _, v := range d.Values {
			if v == "" {
				v = "-"
			}
			line += "\t" + v
		}
		return line
	})
}

// validity is what a check of a recipe found.
type validity struct {
	Recipe string   `json:"recipe"`
	Valid  bool     `json:"valid"`
	Errors []string `json:"errors"`
}

func newRecipeValidate() *cobra.Command {
	var sets []string
	var withData, asJSON bool
	cmd := &cobra.Command{
		Use: "validate RECIPE...", Short: "Check recipes and print every mistake with its line",
		Long: `Check recipes and print every mistake with its line: keys, values, names of data set,
model, optimizer and methods, options of methods, methods that conflict. With
--data the data are opened too, and the recipe is held against them as train does.
Where a key is unknown or a value has the wrong type, only such mistakes are told.
The exit status is 1 if there is a mistake.`,
		Example: "  broadside recipe validate my.yaml\n  broadside recipe validate my.yaml other.yaml --data --set data.path=/data/cifar-10-batches-bin", Args: arguments(1, math.MaxInt),
		RunE: func(cmd *cobra.Command, a []string) error {
			var found []validity
			var checker engine.Checker
			bad := 0
			for _, name := range a {
				v := validate(name, sets, withData, &checker)
				if !v.Valid {
					bad++
				}
				found = append(found, v)
			}
			if err := printValidity(cmd.OutOrStdout(), found, asJSON); err != nil {
				return err
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d recipes have mistakes", bad, len(a))
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&sets, "set", nil, "override a key (may be repeated)")
	cmd.Flags().BoolVar(&withData, "data", false, "open the data too, and check the recipe against them")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func validate(name string, sets []string, withData bool, checker *engine.Checker) validity {
	r, err := recipe.Examine(name, sets, engine.Validate)
	if err == nil && withData {
		if err = checker.Check(r); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
	}
	v := validity{Recipe: name, Valid: err == nil, Errors: []string{}}
	if err != nil {
		v.Errors = strings.Split(err.Error(), "\n")
	}
	return v
}

func printValidity(w io.Writer, found []validity, asJSON bool) error {
	if asJSON {
		return printJSON(w, found)
	}
	var errs []error
	for _, v := range found {
		if v.Valid {
			_, err := fmt.Fprintf(w, "%s: valid\n", v.Recipe)
			errs = append(errs, err)
		}
		for _, line := range v.Errors {
			_, err := fmt.Fprintln(w, line)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
