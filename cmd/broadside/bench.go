package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"broadside/engine/bench"
	"broadside/engine/collective"
	"broadside/engine/collective/join"
	"broadside/kernels"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{Use: "bench", Short: "Measure how fast this machine trains, and what share of its limits that is",
		Example: "  broadside bench step --model resnet20 --batch 256\n  broadside bench kernels --shapes resnet18-cifar\n  broadside bench hvp --samples 128\n  broadside bench allreduce --devices 4"}
	cmd.AddCommand(untilSignal(newBenchStep()), untilSignal(newBenchKernels()), untilSignal(newBenchHVP()), untilSignal(newBenchAllReduce()))
	return group(cmd)
}

// benchFlags are the flags of every benchmark.
type benchFlags struct {
	bench.Work
	json, stream bool
	unprinted    error // what kept a line of the stream from being printed
}

func (f *benchFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Device, "device", "auto", deviceHelp)
	cmd.Flags().IntVar(&f.Leaf, "leaf", 0, "samples that one device computes alone; 0: the default")
	cmd.Flags().IntVar(&f.Image, "image", 0, "height and width of the images; 0: the model's usual ones")
	cmd.Flags().DurationVar(&f.Time, "time", 4*time.Second, "how long to measure")
	cmd.Flags().IntVar(&f.Rounds, "rounds", 5, "parts of that time for minimum, median and maximum")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().BoolVar(&f.stream, "stream", false, "print JSON lines as soon as there are figures: a GPU's layers one by one, else the result so far and last the whole")
}

// work is the work to measure, whose figures are printed as they come where they are to be.
func (f *benchFlags) work(cmd *cobra.Command) bench.Work {
	w := f.Work
	if lines := json.NewEncoder(cmd.OutOrStdout()); f.stream {
		w.Report = func(figures any) { f.unprinted = cmp.Or(f.unprinted, lines.Encode(figures)) }
	}
	return w
}

// atLeast checks a whole number.
type atLeast struct {
	flag         string
	value, least int
}

func (f *benchFlags) check(cmd *cobra.Command, more ...atLeast) error {
	for _, c := range append(more, atLeast{"leaf", f.Leaf, 0}, atLeast{"image", f.Image, 0}, atLeast{"rounds", f.Rounds, 1}) {
		if c.value < c.least {
			return usageError{fmt.Errorf("--%s %d: must be at least %d", c.flag, c.value, c.least), cmd.CommandPath()}
		}
	}
	if f.Time <= 0 {
		return usageError{fmt.Errorf("--time %v: must be above 0", f.Time), cmd.CommandPath()}
	}
	if f.json && f.stream {
		return usageError{errors.New("--json and --stream: give one of them"), cmd.CommandPath()}
	}
	return nil
}

// finishBench prints a result as finish does, where it was not streamed.
func finishBench[T any](cmd *cobra.Command, flags *benchFlags, result T, err error, text func(io.Writer, T) error) error {
	if err == nil && flags.stream {
		return flags.unprinted
	}
	return finish(cmd, flags.json, result, err, text)
}

// finish prints a result as JSON, or as text.
func finish[T any](cmd *cobra.Command, asJSON bool, result T, err error, text func(io.Writer, T) error) error {
	switch {
	case err != nil:
		return err
	case asJSON:
		return printJSON(cmd.OutOrStdout(), result)
	}
	return text(cmd.OutOrStdout(), result)
}

func newBenchStep() *cobra.Command {
	var flags benchFlags
	var devices []int
	var attack bool
	cmd := &cobra.Command{
		Use:   "step",
		Short: "Time whole training updates, and their kernels one by one",
		Long: `Time whole training updates on synthetic images: gather, forward, backward,
reduction and SGD. Then time the calls of an update one by one, and measure
what this machine can do at most.`,
		Example: "  broadside bench step --model resnet20 --batch 256\n  broadside bench step --model resnet50 --batch 32 --leaf 16 --time 20s\n  broadside bench step --devices 1,2 --attack --json",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := []atLeast{{"batch", flags.Batch, 1}}
			for _, d := range devices {
				checks = append(checks, atLeast{"devices", d, 0})
			}
			if err := flags.check(cmd, checks...); err != nil {
				return err
			}
			r, err := bench.Step(cmd.Context(), flags.work(cmd), devices, attack)
			return finishBench(cmd, &flags, r, err, printStep)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&flags.Model, "model", "resnet20", "network, as in model.name")
	cmd.Flags().IntVar(&flags.Batch, "batch", 256, "samples of an update")
	cmd.Flags().StringVar(&flags.Precision, "precision", "f32", "arithmetic, as in train.precision")
	cmd.Flags().IntSliceVar(&devices, "devices", []int{0}, "devices to use, 0 for one per CPU core or one GPU; several numbers are measured in turn, as in 1,2")
	cmd.Flags().BoolVar(&attack, "attack", false, "measure the cost of an FGSM attack too")
	return cmd
}

func newBenchKernels() *cobra.Command {
	var flags benchFlags
	cmd := &cobra.Command{
		Use:   "kernels",
		Short: "Time the distinct convolutions, normalisations and poolings of a model's training",
		Long: `On a CPU: time the distinct convolutions, normalisations and poolings of a
model's training, of --leaf samples, in their places in it and on one core.

On a GPU: time its distinct convolutions and normalisations, of --batch samples,
each alone, and in every precision unless --precision names one. The shares are of
the peak in NVIDIA's data sheet and of the bandwidth of a copy measured in the
same run.`,
		Example: "  broadside bench kernels --shapes resnet20\n  broadside bench kernels --shapes resnet50 --leaf 16 --isa avx2 --json\n  broadside bench kernels --device cuda --shapes resnet50 --batch 256",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(cmd, atLeast{"batch", flags.Batch, 1}); err != nil {
				return err
			}
			for flag, gpu := range map[string]bool{"leaf": false, "batch": true} {
				if cmd.Flags().Changed(flag) && flags.OnGPU() != gpu {
					return usageError{fmt.Errorf("--%s: give --leaf for a CPU and --batch for a GPU", flag), cmd.CommandPath()}
				}
			}
			if flags.OnGPU() {
				flags.Model = cmp.Or(flags.Model, "resnet50")
				r, err := bench.Layers(cmd.Context(), flags.work(cmd), precisions(flags.Precision))
				return finishBench(cmd, &flags, r, err, printLayers)
			}
			flags.Model, flags.Precision = cmp.Or(flags.Model, "resnet20"), cmp.Or(flags.Precision, "f32")
			r, err := bench.Kernels(cmd.Context(), flags.work(cmd))
			return finishBench(cmd, &flags, r, err, printKernels)
		},
	}
	flags.add(cmd)
	cmd.Flags().Lookup("rounds").Hidden = true
	cmd.Flags().StringVar(&flags.Model, "shapes", "", "network whose shapes to take, as in model.name (default resnet20; on a GPU resnet50)")
	cmd.Flags().IntVar(&flags.Batch, "batch", 256, "samples of each layer, on a GPU")
	cmd.Flags().StringVar(&flags.Precision, "precision", "", "arithmetic, as in train.precision (default f32; on a GPU each)")
	cmd.Flags().StringVar(&flags.ISA, "isa", "", "instruction set of the kernels; empty: the best one, or what BROADSIDE_ISA says")
	return cmd
}

// precisions are the one named, or else all.
func precisions(name string) []string {
	if name != "" {
		return []string{name}
	}
	return kernels.PrecisionNames()
}

func newBenchHVP() *cobra.Command {
	var flags benchFlags
	var devices int
	var bn string
	cmd := &cobra.Command{
		Use:   "hvp",
		Short: "Time Hessian-vector products against training gradients",
		Long: `Time exact Hessian-vector products, the primal pass not counted where it is
reused, in turn with training gradients of as many samples. Without --leaf the
devices share the samples evenly.`,
		Example: "  broadside bench hvp --model resnet20 --samples 128\n  broadside bench hvp --bn ghost --devices 1 --json",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := flags.check(cmd, atLeast{"samples", flags.Batch, 1}, atLeast{"devices", devices, 0}); err != nil {
				return err
			}
			if err := checkBatchNorm(bn); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			r, err := bench.HVP(cmd.Context(), flags.work(cmd), devices, bn == "ghost")
			return finishBench(cmd, &flags, r, err, printHVP)
		},
	}
	flags.add(cmd)
	flags.Precision = "f32"
	cmd.Flags().StringVar(&flags.Model, "model", "resnet20", "network, as in model.name")
	cmd.Flags().IntVar(&flags.Batch, "samples", 128, "samples of the loss")
	cmd.Flags().IntVar(&devices, "devices", 0, "devices to use; 0: one per CPU core, or one GPU")
	cmd.Flags().StringVar(&bn, "bn", "eval", "batch normalisation by running statistics (eval) or by each ghost's own (ghost)")
	return cmd
}

func newBenchAllReduce() *cobra.Command {
	c := bench.Collectives{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "allreduce",
		Short: "Time collectives between separate memories, such as those of several GPUs",
		Long: `Time collectives between separate memories, such as those of several GPUs, for
sizes four times as large from one to the next. The bandwidths are those of
nccl-tests: of the algorithm (bytes over time) and of the bus, which can be held
against what the links between the memories can do.`,
		Example: "  broadside bench allreduce --devices 4\n  broadside bench allreduce --device cuda:0,1,2,3 --max-bytes 1073741824 --json\n  broadside bench allreduce --op all-gather --ways ring",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkCollectives(c); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			r, err := bench.AllReduce(cmd.Context(), c)
			return finish(cmd, asJSON, r, err, printAllReduce)
		},
	}
	cmd.Flags().StringVar(&c.Op, "op", "all-reduce", "collective: "+strings.Join(bench.CollectiveOps(), ", "))
	cmd.Flags().StringVar(&c.Device, "device", "cpu", deviceHelp)
	cmd.Flags().IntVar(&c.Devices, "devices", 0, "memories; 0: two CPU memories, or the GPUs that --device names")
	cmd.Flags().StringSliceVar(&c.Ways, "ways", []string{join.Tree, join.Ring}, "how sums are added: "+strings.Join(join.Names(), ", "))
	cmd.Flags().Int64Var(&c.MinBytes, "min-bytes", 1<<10, "smallest buffer")
	cmd.Flags().Int64Var(&c.MaxBytes, "max-bytes", 1<<26, "largest buffer")
	cmd.Flags().DurationVar(&c.Time, "time", time.Second, "how long to measure each size and way")
	cmd.Flags().IntVar(&c.Rounds, "rounds", 5, "parts of that time for minimum, median and maximum")
	cmd.Flags().DurationVar(&c.Timeout, "collective-timeout", collective.DefaultTimeout, "how long one memory waits for the others")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func checkCollectives(c bench.Collectives) error {
	switch {
	case c.Devices < 0:
		return fmt.Errorf("--devices %d: must be at least 0", c.Devices)
	case c.MinBytes < 4 || c.MaxBytes < c.MinBytes:
		return fmt.Errorf("--min-bytes %d, --max-bytes %d: must be at least 4 and in order", c.MinBytes, c.MaxBytes)
	case c.Time <= 0 || c.Rounds < 1 || c.Timeout <= 0:
		return fmt.Errorf("--time %v, --rounds %d, --collective-timeout %v: must be above 0", c.Time, c.Rounds, c.Timeout)
	}
	return nil
}
