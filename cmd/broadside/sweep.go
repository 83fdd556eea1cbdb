package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"broadside/engine"
	"broadside/engine/collective/join"
	"broadside/engine/sweep"
	"broadside/engine/telemetry"
)

// sweepFlags are the flags of the sweep.
type sweepFlags struct {
	deviceFlags
	sets   []string
	seeds  []uint
	dir    string
	dryRun bool
	json   bool
}

func newSweep() *cobra.Command {
	var f sweepFlags
	cmd := &cobra.Command{
		Use:   "sweep RECIPE",
		Short: "Train a recipe at every point of a grid of settings",
		Long: `Train a recipe at every point of a grid of settings, each in a directory of its own below the run directory.
The same command goes on with a sweep that was stopped: runs that are done, or have diverged, are not trained again.
The table has mean and standard deviation over the seeds; median is that of each run's last five test accuracies.`,
		Example: `  broadside sweep quickstart --set batch.size=64,128 --set optimizer.lr=0.05,0.1 --seeds 1,2,3 --run runs/grid
  broadside sweep cifar10-adabatch --set methods.adabatch.growth=1,2,4 --dry-run
  broadside sweep my.yaml --set 'schedule.at=[30,60],[40,80]' --set train.epochs=90`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a[0]) },
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, "values that a key of the recipe takes, as in --set batch.size=64,128 (may be repeated); one value is an override")
	cmd.Flags().UintSliceVar(&f.seeds, "seeds", nil, "train every point with each of these seeds, as in 1,2,3")
	cmd.Flags().StringVar(&f.dir, "run", "", "directory of the runs (default runs/NAME-sweep)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "check and list the runs; train none")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func (f *sweepFlags) run(cmd *cobra.Command, recipe string) error {
	o, err := f.options(cmd)
	if err != nil {
		return err
	}
	if err := oneProcess(cmd); err != nil {
		return err
	}
	runs, err := f.plan(cmd, recipe)
	if err != nil {
		return err
	}
	if !f.dryRun {
		o.TensorBoard = true
		if err := trainRuns(cmd, runs, o); err != nil {
			return err
		}
	}
	return f.print(cmd.OutOrStdout(), runs)
}

// oneProcess refuses several runs in several processes.
func oneProcess(cmd *cobra.Command) error {
	if _, size := join.Processes(); size > 1 {
		return usageError{errors.New("several runs are trained in one process: start each with a train of its own instead"), cmd.CommandPath()}
	}
	return nil
}

// trainRuns trains runs one after the other.
func trainRuns(cmd *cobra.Command, runs []*sweep.Run, o engine.Options) error {
	told := func() bool { return true }
	err := sweep.Train(cmd.Context(), runs, func(number int, r *sweep.Run) engine.Options {
		told()
		fmt.Fprintf(cmd.ErrOrStderr(), "run %d of %d: %s\n", number, len(runs), r.Dir)
		o.Progress = telemetry.NewProgress(cmd.ErrOrStderr())
		told = tellOfStop(cmd.Context(), o.Progress)
		return o
	})
	if err != nil {
		return fmt.Errorf("%w (the same command goes on)", err)
	}
	return nil
}

// plan reads the flags and finds the runs.
func (f *sweepFlags) plan(cmd *cobra.Command, recipe string) ([]*sweep.Run, error) {
	var axes []sweep.Axis
	for _, s := range f.sets {
		a, err := sweep.ParseAxis(s)
		if err != nil {
			return nil, usageError{err, cmd.CommandPath()}
		}
		axes = append(axes, a)
	}
	if f.dir == "" {
		f.dir = runsOf(recipe, "-sweep")
	}
	return sweep.Plan(recipe, axes, seedsOf(f.seeds), f.dir)
}

// runsOf is the default directory of several runs of a recipe.
func runsOf(recipe, suffix string) string {
	return filepath.Join("runs", strings.TrimSuffix(filepath.Base(recipe), filepath.Ext(recipe))+suffix)
}

func seedsOf(flag []uint) (out []uint64) {
	for _, s := range flag {
		out = append(out, uint64(s))
	}
	return out
}

// print prints the runs of a dry run, else what the points came to.
func (f *sweepFlags) print(w io.Writer, runs []*sweep.Run) error {
	points := sweep.Points(runs)
	switch {
	case f.json:
		return printJSON(w, map[string]any{"runs": runs, "points": points})
	case f.dryRun:
		return table(w, "RUN\tSTATE", runs, func(r *sweep.Run) string { return r.Dir + "\t" + r.State })
	}
	header := ""
	for _, s := range points[0].Settings {
		header += s.Key + "\t"
	}
	return table(w, header+"TEST ACCURACY\tMEDIAN OF LAST 5\tBEST\tUPDATES\tSECONDS\tRUNS", points, pointLine)
}

func pointLine(p *sweep.Point) string {
	line := ""
	for _, s := range p.Settings {
		line += s.Value + "\t"
	}
	runs := fmt.Sprintf("%d done", p.Done)
	if p.Diverged > 0 {
		runs += fmt.Sprintf(", %d diverged", p.Diverged)
	}
	if p.Done == 0 {
		return line + "-\t-\t-\t-\t-\t" + runs
	}
	return line + fmt.Sprintf("%s\t%s\t%s\t%.0f\t%.0f\t%s", percent(p.Accuracy), percent(p.Median), percent(p.Best),
		p.Updates.Mean, p.WallSeconds.Mean, runs)
}

// percent writes a mean and its deviation, if there is one.
func percent(s *sweep.Spread) string {
	if s.Deviation == nil {
		return fmt.Sprintf("%.2f%%", 100*s.Mean)
	}
	return fmt.Sprintf("%.2f%% ± %.2f", 100*s.Mean, 100**s.Deviation)
}
