package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/spf13/cobra"

	"broadside/engine/telemetry"
)

func newCompare() *cobra.Command {
	var out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "compare RUN RUN...",
		Short:   "Compare runs: a table, and a page with their curves and the recipes' differences",
		Example: "  broadside compare runs/bl runs/absa\n  broadside compare runs/* --html arms.html\n  broadside compare runs/bl runs/absa --json",
		Args:    arguments(1, math.MaxInt),
		RunE: func(cmd *cobra.Command, a []string) error {
			c, err := telemetry.Compare(a)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("%w: name run directories, such as runs/quickstart", err)
			case err != nil:
				return err
			}
			if !asJSON || cmd.Flags().Changed("html") {
				if err := c.WritePage(out); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), c)
			}
			if err := table(cmd.OutOrStdout(), "RUN\tTEST ACCURACY\tBEST\tUPDATES\tSAMPLES\tGRADIENT PASSES\tHVPS\tFINAL BATCH\tSECONDS", c.Runs, comparedLine); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), out)
			return err
		},
	}
	cmd.Flags().StringVar(&out, "html", "compare.html", "file to write the page to")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON; writes a page only where --html names it")
	return cmd
}

func comparedLine(r telemetry.ComparedRun) string {
	s, name := r.Summary, r.Name
	if !r.Ended {
		name += " (has not ended)"
	}
	return fmt.Sprintf("%s\t%.2f%%\t%.2f%%\t%d\t%d\t%d\t%d\t%d\t%.0f",
		name, 100*s.TestAccuracy, 100*s.BestTestAccuracy, s.Updates, s.SamplesSeen, s.GradPasses, s.HVPs, s.FinalBatch, s.WallSeconds)
}
