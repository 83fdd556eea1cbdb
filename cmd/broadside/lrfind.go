package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"broadside/engine"
	"broadside/engine/collective/join"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

// lrFindFlags are the flags of the range test.
type lrFindFlags struct {
	deviceFlags
	test engine.LRFindOptions
	sets []string
	plot string
	csv  string
	json bool
}

func newLRFind() *cobra.Command {
	var f lrFindFlags
	cmd := &cobra.Command{
		Use:   "lr-find RECIPE",
		Short: "Find a learning rate by a range test",
		Long: `Train a recipe's network for some updates whose learning rate grows exponentially
(Smith 2015), and suggest the rate at which the smoothed loss falls fastest per
factor of the rate. The recipe's batch, data, optimizer and seed count; its
methods and schedule are left out. Nothing is written but the plot and the table.

The smoothed loss is a moving average divided by the sum of its weights. The test
stops where it is more than --diverge times its lowest so far.`,
		Example: `  broadside lr-find quickstart
  broadside lr-find cifar10-bl --set data.path=/data/cifar-10-batches-bin --set batch.size=1024 --plot lr.png
  broadside lr-find my.yaml --from 1e-4 --to 100 --updates 200 --csv lr.csv --json`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := f.check(); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			return f.run(cmd, a[0])
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&f.sets, "set", nil, "override a key of the recipe, as in --set batch.size=512 (may be repeated)")
	flags.Float64Var(&f.test.From, "from", 1e-5, "learning rate of the first update")
	flags.Float64Var(&f.test.To, "to", 10, "learning rate of the last update")
	flags.IntVar(&f.test.Updates, "updates", 100, "updates, if the loss does not diverge before")
	flags.Float64Var(&f.test.Smoothing, "smoothing", 0.98, "weight of the past in the smoothed loss")
	flags.Float64Var(&f.test.Diverge, "diverge", 4, "stop at a smoothed loss of so many times the lowest")
	flags.StringVar(&f.plot, "plot", "lr-find.svg", "file to draw the losses into, .svg or .png; empty: none")
	flags.StringVar(&f.csv, "csv", "", "file to write the losses to as a table")
	flags.BoolVar(&f.json, "json", false, "print JSON; draws a plot only where --plot names one")
	return cmd
}

// leastUpdates gives the test a first tenth to leave out and enough to find a slope in.
const leastUpdates = 10

func (f *lrFindFlags) check() error {
	switch t := f.test; {
	case !(t.From > 0):
		return fmt.Errorf("--from %g: must be above 0", t.From)
	case !(t.To > t.From) || t.To > 1e30:
		return fmt.Errorf("--to %g: must be above --from %g and at most 1e30", t.To, t.From)
	case t.Updates < leastUpdates:
		return fmt.Errorf("--updates %d: must be at least %d", t.Updates, leastUpdates)
	case !(t.Smoothing >= 0 && t.Smoothing < 1):
		return fmt.Errorf("--smoothing %g: must be at least 0 and below 1", t.Smoothing)
	case !(t.Diverge > 1):
		return fmt.Errorf("--diverge %g: must be above 1", t.Diverge)
	}
	if f.plot != "" {
		if err := telemetry.CheckFigureFile(f.plot); err != nil {
			return fmt.Errorf("--plot: %w", err)
		}
	}
	return nil
}

func (f *lrFindFlags) run(cmd *cobra.Command, name string) error {
	o, err := f.options(cmd)
	if err != nil {
		return err
	}
	if f.json && !cmd.Flags().Changed("plot") {
		f.plot = ""
	}
	for _, path := range []string{f.plot, f.csv} { // found out now, not after the test
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("writing the losses: %w", err)
		}
	}
	r, err := recipe.Load(name, f.sets)
	if err != nil {
		return err
	}
	found, err := engine.FindLR(cmd.Context(), r, o, f.test)
	if err != nil {
		return err
	}
	if rank, _ := join.Processes(); rank == 0 {
		if err := f.write(r.Name, found); err != nil {
			return err
		}
	}
	if f.json {
		return printJSON(cmd.OutOrStdout(), found)
	}
	f.print(cmd.OutOrStdout(), name, found)
	return nil
}

// write writes the files that are asked for.
func (f *lrFindFlags) write(name string, found *engine.LRFind) error {
	if f.plot != "" && len(found.Points) > 0 {
		p := telemetry.RangeTest{Title: fmt.Sprintf("Learning rates of %s, batch %d", name, found.Batch), Suggested: found.Suggested}
		for _, at := range found.Points {
			p.Rates, p.Losses, p.Smoothed = append(p.Rates, at.LR), append(p.Losses, at.Loss), append(p.Smoothed, at.Smoothed)
		}
		if err := p.Figure().Write(f.plot); err != nil {
			return err
		}
	}
	if f.csv == "" {
		return nil
	}
	file, err := os.Create(f.csv)
	if err != nil {
		return fmt.Errorf("writing the losses: %w", err)
	}
	if err := errors.Join(writeRates(file, found.Points), file.Close()); err != nil {
		return fmt.Errorf("writing the losses to %s: %w", f.csv, err)
	}
	return nil
}

// writeRates writes the points with all their digits.
func writeRates(w io.Writer, points []engine.LRPoint) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"lr", "loss", "smoothed_loss"}}
	for _, p := range points {
		var row []string
		for _, v := range []float64{p.LR, p.Loss, p.Smoothed} {
			row = append(row, strconv.FormatFloat(v, 'g', -1, 64))
		}
		rows = append(rows, row)
	}
	return out.WriteAll(rows)
}

// print writes the result for people, with what to pass on.
func (f *lrFindFlags) print(w io.Writer, name string, found *engine.LRFind) {
	if len(found.Ignored) > 0 {
		fmt.Fprintf(w, "left out: the recipe's schedule and its methods: %s\n", strings.Join(found.Ignored, ", "))
	}
	fmt.Fprintf(w, "%d updates of %d samples, learning rates from %g to %g", len(found.Points), found.Batch, f.test.From, f.test.To)
	if found.Stopped != "" {
		fmt.Fprintf(w, "; stopped early: %s", found.Stopped)
	}
	fmt.Fprintln(w)
	if found.Suggested == nil {
		fmt.Fprintln(w, "no suggestion: the loss never falls; try a smaller --from, or more --updates")
	} else {
		fmt.Fprintf(w, "suggested learning rate: %.3g, where the loss falls fastest; it is lowest at %.3g\n", *found.Suggested, found.Lowest)
		fmt.Fprintf(w, "  broadside train %s --set optimizer.lr=%.3g\n", name, *found.Suggested)
	}
	if f.plot != "" && len(found.Points) > 0 {
		fmt.Fprintln(w, f.plot)
	}
}
