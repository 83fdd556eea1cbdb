package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"broadside/engine/methods"
	"broadside/engine/recipe"
	"broadside/engine/suggest"
	"broadside/models"
)

// listing is a command that prints a table, or its rows as JSON.
func listing[T any](use, short string, rows func() ([]T, error), header string, line func(T) string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: use, Short: short, Args: arguments(0, 0), Example: examples("broadside " + use),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := rows()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), all)
			}
			return table(cmd.OutOrStdout(), header, all, line)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// examples shows a listing both ways.
func examples(command string) string { return "  " + command + "\n  " + command + " --json" }

// table aligns tab-separated cells.
func table[T any](w io.Writer, header string, rows []T, line func(T) string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, header)
	for _, r := range rows {
		fmt.Fprintln(tw, line(r))
	}
	return tw.Flush()
}

type modelRow struct {
	Name       string `json:"name"`
	Input      string `json:"input"`
	Classes    int    `json:"classes"`
	Parameters int    `json:"parameters"`
	Doc        string `json:"doc"`
}

func newModels() *cobra.Command {
	rows := func() ([]modelRow, error) {
		var out []modelRow
		for _, f := range models.Families() {
			for _, name := range f.Examples {
				n, err := models.New(name, f.Input, f.Classes())
				if err != nil {
					return nil, err
				}
				out = append(out, modelRow{name, f.Input.String(), f.Classes(), n.ParamCount(), f.Doc})
			}
		}
		return out, nil
	}
	return listing("models", "List the architectures", rows, "NAME\tINPUT\tCLASSES\tPARAMETERS\tWHAT",
		func(r modelRow) string {
			return fmt.Sprintf("%s\t%s\t%d\t%d\t%s", r.Name, r.Input, r.Classes, r.Parameters, r.Doc)
		})
}

type methodRow struct {
	Name      string          `json:"name"`
	Doc       string          `json:"doc"`
	Paper     string          `json:"paper"`
	Cost      string          `json:"cost"`
	Status    string          `json:"status"`
	Equations string          `json:"equations"`
	Limits    string          `json:"limits"`
	Options   []recipe.KeyDoc `json:"options"`
}

func methodRowOf(m methods.Info) methodRow {
	options := reflect.ValueOf(m.Options()).Elem().Interface()
	return methodRow{m.Name, m.Doc, m.Paper, m.Cost, cmp.Or(m.Status, "as published"), m.Equations, m.Limits,
		recipe.KeysOf("methods."+m.Name, options)}
}

func newMethods() *cobra.Command {
	rows := func() ([]methodRow, error) {
		var out []methodRow
		for _, m := range methods.All() {
			out = append(out, methodRowOf(m))
		}
		return out, nil
	}
	cmd := listing("methods", "List the methods; explain one", rows, "METHOD\tWHAT\tSTATE\tCOST\tPAPER",
		func(r methodRow) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s\t%s", r.Name, r.Doc, r.Status, r.Cost, r.Paper)
		})
	cmd.AddCommand(newMethodsExplain())
	return cmd
}

func newMethodsExplain() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "explain METHOD", Short: "Print a method's equations, options and limits",
		Example: "  broadside methods explain absa\n  broadside methods explain absa --json", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			m, ok := methods.Lookup(a[0])
			if !ok {
				return suggest.Unknown("method", a[0], methods.Names())
			}
			r := methodRowOf(m)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), r)
			}
			return explain(cmd.OutOrStdout(), r)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// explain prints all that is known of a method.
func explain(w io.Writer, r methodRow) error {
	fmt.Fprintf(w, "%s: %s\n\npaper:  %s\nstate:  %s\ncost:   %s\nlimits: %s\n\n", r.Name, r.Doc, r.Paper, r.Status, r.Cost, r.Limits)
	for _, l := range strings.Split(r.Equations, "\n") {
		fmt.Fprintln(w, "  "+l)
	}
	fmt.Fprintln(w)
	return table(w, "OPTION\tDEFAULT\tWHAT", r.Options, func(o recipe.KeyDoc) string {
		return fmt.Sprintf("%s\t%s\t%s", o.Path[strings.LastIndex(o.Path, ".")+1:], o.Default, o.Doc)
	})
}

func newRecipe() *cobra.Command {
	cmd := &cobra.Command{Use: "recipe", Short: "List the recipe's keys, or show a recipe as it resolves",
		Example: "  broadside recipe keys\n  broadside recipe show quickstart"}
	keys := listing("keys", "List every key with its default", func() ([]recipe.KeyDoc, error) { return recipe.Keys(), nil },
		"KEY\tTYPE\tDEFAULT\tWHAT", func(k recipe.KeyDoc) string {
			return fmt.Sprintf("%s\t%s\t%s\t%s", k.Path, k.Type, k.Default, k.Doc)
		})
	keys.Example = examples("broadside recipe keys")
	cmd.AddCommand(keys, newRecipeShow())
	return group(cmd)
}

func newRecipeShow() *cobra.Command {
	var sets []string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show RECIPE", Short: "Print a recipe with every default filled in",
		Example: "  broadside recipe show cifar10-absa --set batch.size=256", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			r, err := recipe.Load(a[0], sets)
			if err != nil {
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
