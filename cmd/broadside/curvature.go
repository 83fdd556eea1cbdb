package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"broadside/engine"
	"broadside/engine/collective/join"
	"broadside/engine/curvature"
)

// curvatureFlags say what to measure of a Hessian.
type curvatureFlags struct {
	modelFlags
	o         engine.CurvatureOptions
	bn        string
	trace     bool
	density   bool
	landscape bool
	probes    curvature.TraceOptions
	lanczos   curvature.DensityOptions
	around    curvature.LandscapeOptions
	csv       string
	vectors   string
}

func newCurvature() *cobra.Command {
	var f curvatureFlags
	cmd := &cobra.Command{
		Use:   "curvature CHECKPOINT|RUN",
		Short: "Measure eigenvalues, trace and spectral density of the Hessian of the training loss",
		Long: `Measure the Hessian of the mean cross-entropy over the first training samples,
without augmentation or weight decay, by exact Hessian-vector products. A
product costs about two gradients.

The top eigenvalues come from power iteration. They take at most --iterations
products each, and --top + 1 vectors of the size of the parameters.
--trace is Hutchinson's estimate: at most --probes products, 2 vectors.
--density is stochastic Lanczos quadrature with full re-orthogonalisation:
--starts times --lanczos-steps products, --lanczos-steps + 1 vectors.
--landscape is the loss at --points shifts of the parameters along the top
eigenvector, or over the plane of the top two: a forward pass over the samples
for each of --points or its square, 1 vector.
--eigenvectors writes the eigenvectors as a .npy file of NumPy, float32 of shape
[--top, parameters]: the tensors in the order of PyTorch's model.parameters().

Of a run directory, the measurement is also kept in RUN/curvature.json, where
report, plot and serve find it: the parts of one Hessian, as of several
commands, together. --csv writes eigenvalues.csv, trace.csv, density.csv,
quadrature.csv (what the density is made of) and landscape.csv.`,
		Example: `  broadside curvature runs/quickstart --top 3
  broadside curvature runs/absa --samples 1024 --bn ghost --json
  broadside curvature runs/absa --trace --density --csv spectrum
  broadside curvature runs/absa --top 5 --eigenvectors eigenvectors.npy
  broadside curvature runs/absa --landscape --dimensions 2 --json`,
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
	flags.IntVar(&f.o.Samples, "samples", 128, "training samples to measure on")
	flags.IntVar(&f.o.Top.K, "top", 1, "eigenvalues, by falling magnitude")
	flags.IntVar(&f.o.Top.MaxIterations, "iterations", 100, "most power iterations per eigenvalue")
	flags.Float64Var(&f.o.Top.Tolerance, "tolerance", 1e-4, "relative change at which the iteration stops")
	flags.StringVar(&f.bn, "bn", "eval", "batch normalisation by running statistics (eval) or by each ghost's own (ghost)")
	flags.Uint64Var(&f.o.Seed, "seed", 1, "seed of the random vectors")
	flags.BoolVar(&f.trace, "trace", false, "estimate the trace")
	flags.IntVar(&f.probes.MaxProbes, "probes", 100, "most probes of the trace")
	flags.Float64Var(&f.probes.Tolerance, "trace-tolerance", 1e-3, "relative change of the mean at which the trace stops; 0: after all probes")
	flags.BoolVar(&f.density, "density", false, "estimate the density of the eigenvalues")
	flags.IntVar(&f.lanczos.Steps, "lanczos-steps", 100, "Lanczos steps of each start")
	flags.IntVar(&f.lanczos.Starts, "starts", 1, "random start vectors of the density")
	flags.StringVar(&f.csv, "csv", "", "write the measurement as CSV files into this folder; the density smoothed, 10000 points")
	flags.StringVar(&f.vectors, "eigenvectors", "", "write the eigenvectors to this .npy file")
	flags.BoolVar(&f.landscape, "landscape", false, "sample the loss along the top eigenvectors")
	flags.IntVar(&f.around.Dimensions, "dimensions", 1, "eigenvectors that the landscape spans, 1 or 2")
	flags.IntVar(&f.around.Points, "points", 21, "points of the landscape along each eigenvector")
	flags.Float64Var(&f.around.Span, "span", 0.5, "the landscape goes this far to either side")
	return cmd
}

// check checks the flags and passes on what is asked for.
func (f *curvatureFlags) check() error {
	for _, n := range []struct {
		name         string
		value, least int
	}{{"samples", f.o.Samples, 1}, {"top", f.o.Top.K, 1}, {"iterations", f.o.Top.MaxIterations, 1}, {"probes", f.probes.MaxProbes, 2},
		{"lanczos-steps", f.lanczos.Steps, 1}, {"starts", f.lanczos.Starts, 1}, {"dimensions", f.around.Dimensions, 1}, {"points", f.around.Points, 2}} {
		if n.value < n.least {
			return fmt.Errorf("--%s %d: must be at least %d", n.name, n.value, n.least)
		}
	}
	switch {
	case !(f.o.Top.Tolerance > 0):
		return fmt.Errorf("--tolerance %g: must be above 0", f.o.Top.Tolerance)
	case !(f.probes.Tolerance >= 0):
		return fmt.Errorf("--trace-tolerance %g: must be at least 0", f.probes.Tolerance)
	case !(f.around.Span > 0):
		return fmt.Errorf("--span %g: must be above 0", f.around.Span)
	case f.around.Dimensions > 2:
		return fmt.Errorf("--dimensions %d: must be 1 or 2", f.around.Dimensions)
	case filepath.Ext(f.csv) == ".csv":
		return fmt.Errorf("--csv %s: name a folder; it receives several files", f.csv)
	}
	if f.trace {
		f.o.Trace = &f.probes
	}
	if f.density {
		f.o.Density = &f.lanczos
	}
	if f.landscape {
		f.o.Landscape = &f.around
		f.o.Top.K = max(f.o.Top.K, f.around.Dimensions)
	}
	f.o.Ghost, f.o.Vectors = f.bn == "ghost", f.vectors != ""
	return checkBatchNorm(f.bn)
}

// checkBatchNorm checks --bn.
func checkBatchNorm(bn string) error {
	if bn != "eval" && bn != "ghost" {
		return fmt.Errorf("--bn %q: must be eval or ghost", bn)
	}
	return nil
}

// run measures and prints.
func (f *curvatureFlags) run(cmd *cobra.Command, checkpoint string) error {
	if _, err := os.Stat(filepath.Dir(f.vectors)); err != nil {
		return fmt.Errorf("writing the eigenvectors: %w", err)
	}
	if f.csv != "" { // found out now, not after the measurement
		if err := checkFolder(f.csv); err != nil {
			return fmt.Errorf("writing the measurement as tables: %w", err)
		}
	}
	m, err := f.open(cmd, checkpoint)
	if err != nil {
		return err
	}
	defer m.Close()
	c, err := m.Curvature(f.o)
	if err != nil {
		return err
	}
	if rank, _ := join.Processes(); rank == 0 && f.vectors != "" {
		if err := writeArray(f.vectors, []int{len(c.Vectors), len(c.Vectors[0])}, slices.Concat(c.Vectors...)); err != nil {
			return err
		}
	}
	if f.json {
		err = printJSON(cmd.OutOrStdout(), c)
	} else {
		f.print(cmd.OutOrStdout(), c)
	}
	return errors.Join(err, f.write(cmd, checkpoint, c))
}

// checkFolder refuses a folder that can be neither used nor made.
func checkFolder(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is a file: name a folder", path)
	case errors.Is(err, fs.ErrNotExist):
		_, err = os.Stat(filepath.Dir(path))
	}
	return err
}

// write writes the measurement where it is asked for, and keeps it in the run directory, if that is what was named.
func (f *curvatureFlags) write(cmd *cobra.Command, run string, c *curvature.Measurement) error {
	if rank, _ := join.Processes(); rank > 0 {
		return nil
	}
	if info, err := os.Stat(run); err == nil && info.IsDir() {
		if err := c.Keep(run); err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "broadside: warning: the measurement is not kept:", err)
		}
	}
	if f.csv == "" {
		return nil
	}
	return c.WriteTables(f.csv)
}

// print writes the measurement for people.
func (f *curvatureFlags) print(w io.Writer, c *curvature.Measurement) {
	fmt.Fprintf(w, "Hessian of the mean loss over %d training samples, batch normalisation in %s mode, %d products\n", c.Samples, c.BatchNorm, c.HVPs)
	for i, e := range c.Eigenvalues {
		note := ""
		if !e.Converged {
			note = fmt.Sprintf(" (not converged: the last change was above %g)", f.o.Top.Tolerance)
		}
		fmt.Fprintf(w, "eigenvalue %d: %.6g after %d iterations%s\n", i+1, e.Value, e.Iterations, note)
	}
	if t := c.Trace; t != nil {
		fmt.Fprintf(w, "trace: %.6g with a standard error of %.2g, from %d probes\n", t.Mean, t.StandardError, len(t.Samples))
	}
	if d := c.Density; d != nil {
		printDensity(w, d, c.Parameters)
	}
	if l := c.Landscape; l != nil {
		printLandscape(w, l)
	}
}

// printDensity sums up the spectrum; the nodes are in the JSON, the curve in the CSV file.
func printDensity(w io.Writer, d *curvature.Density, parameters int) {
	low, high, negative := d.Runs[0].Nodes[0], d.Runs[0].Nodes[0], 0.0
	for _, run := range d.Runs {
		low, high = min(low, run.Nodes[0]), max(high, run.Nodes[len(run.Nodes)-1])
		for i, v := range run.Nodes {
			if v < 0 {
				negative += run.Weights[i] / float64(len(d.Runs))
			}
		}
	}
	fmt.Fprintf(w, "density: eigenvalues from %.6g to %.6g, %.1f%% of them below 0, their mean times %d parameters %.6g\n",
		low, high, 100*negative, parameters, d.Mean*float64(parameters))
}

// printLandscape writes the losses as a table.
func printLandscape(w io.Writer, l *curvature.Landscape) {
	if len(l.Losses) == 1 {
		fmt.Fprintln(w, "loss by offset along eigenvector 1:")
		for i, v := range l.Losses[0] {
			fmt.Fprintf(w, "%8.4g  %.6f\n", l.Offsets[i], v)
		}
		return
	}
	fmt.Fprint(w, "loss by offset along eigenvector 1, rightwards, and 2, downwards:\n        ")
	for _, v := range l.Offsets {
		fmt.Fprintf(w, " %9.4g", v)
	}
	fmt.Fprintln(w)
	for j, row := range l.Losses {
		fmt.Fprintf(w, "%8.4g", l.Offsets[j])
		for _, v := range row {
			fmt.Fprintf(w, " %9.5f", v)
		}
		fmt.Fprintln(w)
	}
}
