package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"broadside/engine"
	"broadside/engine/collective"
	"broadside/engine/collective/join"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

// deviceHelp says what --device takes.
const deviceHelp = "auto, cpu, cuda, or GPUs by number as in cuda:1 (cuda:0,0 shares one GPU between two devices; cpu:0,1 gives two CPU workers separate memories)"

// deviceFlags are the flags of every command that computes.
type deviceFlags struct {
	kind    string
	count   int
	way     string
	timeout time.Duration
}

func (f *deviceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kind, "device", "auto", deviceHelp)
	cmd.Flags().IntVar(&f.count, "devices", 0, "devices to use, at most batch.lanes; 0: one per CPU core, or one GPU")
	cmd.Flags().StringVar(&f.way, "all-reduce", join.Default, allReduceHelp)
	cmd.Flags().DurationVar(&f.timeout, "collective-timeout", collective.DefaultTimeout, "how long one memory waits for the others before the run fails")
}

// allReduceHelp says what --all-reduce takes.
const allReduceHelp = "how the sums of separate memories (GPUs) are added: tree has the same bits for any number of them, ring does not"

// options checks the flags and returns what they say.
func (f *deviceFlags) options(cmd *cobra.Command) (engine.Options, error) {
	err := join.Check(f.way)
	if err == nil && f.timeout <= 0 {
		err = fmt.Errorf("--collective-timeout %v: must be above 0", f.timeout)
	}
	if err != nil {
		return engine.Options{}, usageError{err, cmd.CommandPath()}
	}
	return engine.Options{Device: f.kind, Devices: f.count, AllReduce: f.way, Timeout: f.timeout}, nil
}

func newTrain() *cobra.Command {
	var device deviceFlags
	var logs logFlags
	var sets []string
	var runDir string
	var resume, asJSON bool
	var stepTimeout time.Duration
	cmd := &cobra.Command{
		Use:   "train RECIPE",
		Short: "Train as a recipe says: a YAML file or a built-in name",
		Long: `Train as a recipe says: a YAML file or a built-in name.

The run directory receives recipe.yaml, events.jsonl with an object of JSON for
every epoch, growth, probe and checkpoint as it happens, an event file for
TensorBoard (tensorboard --logdir runs), checkpoints, and at the end
summary.json, epochs.csv and report.html. --metrics serves what there is to
tell of the run to Prometheus while it trains.`,
		Example: `  broadside train quickstart
  broadside train cifar10-absa --set data.path=/data/cifar-10-batches-bin --run runs/absa
  broadside train cifar10-absa --run runs/absa --resume
  broadside train my.yaml --set optimizer.lr=0.2 --set methods.absa.patience=5
  broadside train my.yaml --metrics 127.0.0.1:9400 --tensorboard=false`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			o, err := device.options(cmd)
			if err != nil {
				return err
			}
			r, err := trainRecipe(a, sets, runDir, resume)
			if err != nil {
				return err
			}
			if runDir == "" {
				runDir = filepath.Join("runs", r.Name)
			}
			if stepTimeout < 0 {
				return usageError{fmt.Errorf("--step-timeout %v: must be 0 or more", stepTimeout), cmd.CommandPath()}
			}
			o.RunDir, o.Resume, o.StepTimeout = runDir, resume, stepTimeout
			save, done := saveSignal()
			defer done()
			o.Save = save
			if err := logs.start(cmd, &o); err != nil {
				return err
			}
			summary, err := engine.Train(cmd.Context(), r, o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), summary)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "test accuracy %.2f%% (best %.2f%%) after %d updates, %d samples, %d Hessian-vector products; final batch %d; %.0f s\nreport: %s/report.html\n",
				100*summary.TestAccuracy, 100*summary.BestTestAccuracy, summary.Updates, summary.SamplesSeen, summary.HVPs, summary.FinalBatch, summary.WallSeconds, runDir)
			return nil
		},
	}
	device.add(cmd)
	logs.add(cmd)
	cmd.Flags().StringArrayVar(&sets, "set", nil, "override a key of the recipe, as in --set train.epochs=3 (may be repeated)")
	cmd.Flags().StringVar(&runDir, "run", "", "run directory (default runs/NAME)")
	cmd.Flags().DurationVar(&stepTimeout, "step-timeout", 30*time.Minute, "how long training may make no headway before the run is given up, with exit status 4; 0: for ever")
	cmd.Flags().BoolVar(&resume, "resume", false, "continue the run in the run directory, bit for bit")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the summary as JSON")
	return cmd
}

// trainRecipe loads the named recipe; a resume may leave it to the run directory.
func trainRecipe(a, sets []string, runDir string, resume bool) (*recipe.Recipe, error) {
	if len(a) == 1 {
		return recipe.Load(a[0], sets)
	}
	if !resume || runDir == "" {
		return nil, usageError{fmt.Errorf("name a recipe, a file or one of %s; or resume a run with --run DIR --resume",
			strings.Join(recipe.BuiltinNames(), ", ")), "broadside train"}
	}
	return engine.RunRecipe(runDir, sets)
}

// modelFlags are the flags of commands that work on a checkpoint.
type modelFlags struct {
	deviceFlags
	sets []string
	json bool
}

func (f *modelFlags) add(cmd *cobra.Command) {
	f.deviceFlags.add(cmd)
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, "override a key of the run's recipe, as in --set data.path=DIR (may be repeated)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// open loads a checkpoint and warns of newer ones that could not be used.
func (f *modelFlags) open(cmd *cobra.Command, checkpoint string) (*engine.Model, error) {
	o, err := f.options(cmd)
	if err != nil {
		return nil, err
	}
	m, err := engine.OpenModel(checkpoint, f.sets, o)
	if err != nil {
		return nil, err
	}
	for _, w := range m.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "broadside: warning:", w)
	}
	return m, nil
}

func newEval() *cobra.Command {
	var flags modelFlags
	var attack attackFlags
	var recalibrate bool
	cmd := &cobra.Command{
		Use:     "eval CHECKPOINT|RUN",
		Short:   "Evaluate a checkpoint, or a run's newest one, on the test set",
		Example: "  broadside eval runs/quickstart\n  broadside eval runs/absa/checkpoints/step-000003900.safetensors --json\n  broadside eval runs/absa --attack pgd --eps 8/255 --steps 10",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			under, err := attack.options(cmd)
			if err != nil {
				return err
			}
			m, err := flags.open(cmd, a[0])
			if err != nil {
				return err
			}
			defer m.Close()
			if recalibrate {
				if err := m.Recalibrate(); err != nil {
					return err
				}
			}
			if under != nil {
				return evalUnder(cmd, m, *under, flags.json)
			}
			e, err := m.Evaluate()
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(cmd.OutOrStdout(), e)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "test accuracy %.2f%% (%d of %d), loss %.6f\n", 100*e.Accuracy, e.Correct, e.Samples, e.Loss)
			return nil
		},
	}
	cmd.Flags().BoolVar(&recalibrate, "recalibrate", false, "evaluate with batch normalisation's running statistics computed anew by a pass over the training set")
	flags.add(cmd)
	attack.add(cmd)
	return cmd
}

func newReport() *cobra.Command {
	return &cobra.Command{
		Use:     "report RUN",
		Short:   "Write a run's report.html and epochs.csv anew",
		Example: "  broadside report runs/quickstart",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			switch err := telemetry.Report(a[0]); {
			case errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("%s holds no run: name a run directory, such as runs/quickstart", a[0])
			case err != nil:
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s/report.html\n", a[0])
			return nil
		},
	}
}
