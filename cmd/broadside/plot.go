package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/spf13/cobra"

	"broadside/engine/telemetry"
)

func newPlot() *cobra.Command {
	var out, x string
	var ys []string
	cmd := &cobra.Command{
		Use:   "plot RUN...",
		Short: "Draw runs' curves as a PNG or SVG file",
		Long: `Draw runs' curves as a PNG or SVG file: a plot for each of --y.

--y takes loss, accuracy (of training and test together), train_loss,
test_loss, train_accuracy, test_accuracy, batch, lr, eigenvalue, speed,
attack_fraction, grad_passes, hvps, and the names of values that methods
report, such as gns. density and landscape are of a run's newest measurement
by 'broadside curvature', and have their own axes.`,
		Example: `  broadside plot runs/quickstart
  broadside plot runs/bl runs/absa --y test_accuracy,batch --x updates --out arms.svg
  broadside plot runs/absa --y density,landscape --out hessian.png`,
		Args: arguments(1, math.MaxInt),
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := telemetry.CheckFigureFile(out); err != nil {
				return usageError{fmt.Errorf("--out %w", err), cmd.CommandPath()}
			}
			f, err := telemetry.NewFigure(a, x, ys)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("%w: name run directories, such as runs/quickstart", err)
			case err != nil:
				return err
			}
			if err := f.Write(out); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), out)
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "plot.png", "file to write, by its end a PNG or SVG")
	cmd.Flags().StringVar(&x, "x", "epoch", "what to draw over: epoch, updates, samples or time")
	cmd.Flags().StringSliceVar(&ys, "y", []string{"loss", "accuracy"}, "what to draw, as in loss,accuracy,batch")
	return cmd
}
