package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"broadside/engine"
	"broadside/engine/sweep"
)

// seedRuns is a recipe trained once for each of some seeds.
type seedRuns struct {
	options engine.Options
	sets    []string
	seeds   []uint
	dir     string
	dryRun  bool
	json    bool
}

// trainSeeds trains the runs that are not done and prints what all came to.
func trainSeeds(cmd *cobra.Command, a []string, s seedRuns) error {
	switch {
	case len(a) == 0:
		return usageError{errors.New("--seeds needs a recipe: name it, also to go on with runs that were stopped"), cmd.CommandPath()}
	case s.dryRun:
		return usageError{errors.New("--dry-run is of one run: leave out --seeds, and multiply"), cmd.CommandPath()}
	}
	if err := oneProcess(cmd); err != nil {
		return err
	}
	if s.dir == "" {
		s.dir = runsOf(a[0], "-seeds")
	}
	runs, err := sweep.PlanSeeds(a[0], s.sets, seedsOf(s.seeds), s.dir)
	if err != nil {
		return err
	}
	if err := trainRuns(cmd, runs, s.options); err != nil {
		return err
	}
	point := sweep.Points(runs)[0]
	if s.json {
		return printJSON(cmd.OutOrStdout(), map[string]any{"runs": runs, "points": []*sweep.Point{point}})
	}
	return printSeeds(cmd.OutOrStdout(), runs, point)
}

// printSeeds prints a line for each seed, then mean and standard deviation.
func printSeeds(w io.Writer, runs []*sweep.Run, p *sweep.Point) error {
	err := table(w, "SEED\tTEST ACCURACY\tBEST\tUPDATES\tSECONDS\tRUN", runs, func(r *sweep.Run) string {
		if r.State == sweep.Diverged {
			return fmt.Sprintf("%d\tdiverged\t-\t-\t-\t%s", r.Seed, r.Dir)
		}
		s := r.Summary
		return fmt.Sprintf("%d\t%.2f%%\t%.2f%%\t%d\t%.0f\t%s", r.Seed, 100*s.TestAccuracy, 100*s.BestTestAccuracy, s.Updates, s.WallSeconds, r.Dir)
	})
	if err != nil {
		return err
	}
	note := ""
	if p.Diverged > 0 {
		note = fmt.Sprintf("; %d diverged", p.Diverged)
	}
	if p.Done == 0 {
		_, err = fmt.Fprintln(w, "no run is done"+note)
		return err
	}
	_, err = fmt.Fprintf(w, "test accuracy %s (best %s), mean and standard deviation over %d seeds%s\n", percent(p.Accuracy), percent(p.Best), p.Done, note)
	return err
}
