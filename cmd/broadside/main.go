// Command broadside trains neural networks with very large batches.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"broadside/engine"
	"broadside/engine/collective"
	"broadside/engine/collective/join"
	"broadside/engine/suggest"
)

// Exit statuses.
const (
	exitFailure     = 1
	exitUsage       = 2
	exitDevice      = 3 // a device failed or hangs, or another memory or process did not come
	exitHang        = 4 // training came to a standstill
	exitInterrupted = 130
)

// causeGrace is how long a process that only heard of a failure waits for the one that knows the cause to tell it and
// end: a launcher ends all processes with the first that does.
const causeGrace = 10 * time.Second

func main() { os.Exit(command(os.Args[1:])) }

// command executes the command line in this process and returns the exit status.
func command(args []string) int { return run(context.Background(), args, os.Stdout, os.Stderr) }

// untilSignal has the first signal end a command's context, so that it can stop as it should; a second one ends the
// process. Any other command ends with the process at the first.
func untilSignal(cmd *cobra.Command) *cobra.Command {
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		cmd.SetContext(ctx)
	}
	return cmd
}

// usageError is a mistake in the command line of a command.
type usageError struct {
	error
	command string
}

// run executes the command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if rank, _ := join.Processes(); rank > 0 { // the first process speaks for all
		root.SetOut(io.Discard)
	}
	err := root.ExecuteContext(ctx)
	var usage usageError
	var apart *collective.Error
	var device *engine.DeviceError
	var hang *engine.HangError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "broadside: interrupted;", err)
		return exitInterrupted
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "broadside: %v (see '%s --help')\n", err, usage.command)
		return exitUsage
	case engine.Elsewhere(err):
		time.Sleep(causeGrace)
		return exitDevice
	case errors.As(err, &apart), errors.As(err, &device):
		fmt.Fprintln(stderr, "broadside:", err)
		return exitDevice
	case errors.As(err, &hang):
		fmt.Fprintln(stderr, "broadside:", err)
		return exitHang
	}
	fmt.Fprintln(stderr, "broadside:", err)
	return exitFailure
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "broadside",
		Short: "Train neural networks with very large batches",
		Long: `Broadside trains neural networks with very large batches, without losing
accuracy and without tuning: it watches the curvature of the loss, grows the
batch when the loss gets flatter, and trains on adversarial examples.`,
		Example:       "  broadside train quickstart\n  broadside eval runs/quickstart\n  broadside doctor",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(flagError)
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"train", "Train:", []*cobra.Command{untilSignal(newTrain()), untilSignal(newSweep()), untilSignal(newLRFind())}},
		{"work", "Look at runs and measure:", []*cobra.Command{untilSignal(newServe()), newReport(), newCompare(), newPlot(), newEval(), newPredict(), newCurvature()}},
		{"exchange", "Exchange weights:", []*cobra.Command{newImport(), newExport()}},
		{"list", "Recipes, and what they can name:", []*cobra.Command{newRecipe(), newMethods(), newModels(), newData()}},
		{"self", "This machine and program:", []*cobra.Command{newDoctor(), newBench(), newCompletion()}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.SetHelpCommandGroupID("self")
	complete(root)
	return group(root)
}

// group makes a command that only holds others print its help, and refuse what is none of them.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.DisableFlagsInUseLine = true
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.Args = func(cmd *cobra.Command, a []string) error {
		if len(a) == 0 {
			return nil
		}
		var names []string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				names = append(names, c.Name())
			}
		}
		return usageError{suggest.Unknown("command", a[0], names), cmd.CommandPath()}
	}
	return cmd
}

// arguments makes a wrong number of arguments a usage error.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if len(a) >= least && len(a) <= most {
			return nil
		}
		return usageError{fmt.Errorf("%d arguments do not fit '%s'", len(a), cmd.UseLine()), cmd.CommandPath()}
	}
}

// wanted names the values of a flag's type.
var wanted = map[string]string{"int": "a whole number", "uint64": "a whole number, 0 or more", "float64": "a number", "bool": "true or false",
	"float32Slice": "numbers, as in 0.5,0.5", "intSlice": "whole numbers, as in 1,2", "uintSlice": "whole numbers, 0 or more, as in 1,2", "duration": "a time, as in 4s"}

// flagError says what is wrong with a flag and what would be right.
func flagError(cmd *cobra.Command, err error) error {
	if a := cmd.Flags().Args(); cmd.HasSubCommands() && len(a) > 0 {
		return cmd.Args(cmd, a) // the flag belongs to a command that does not exist
	}
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := suggest.Nearest(unknown.GetSpecifiedName(), names); near != "" {
			err = fmt.Errorf("%w; did you mean --%s?", err, near)
		}
	case errors.As(err, &invalid):
		f := invalid.GetFlag()
		err = fmt.Errorf("--%s %q: want %s", f.Name, invalid.GetValue(), wanted[f.Value.Type()])
	}
	return usageError{err, cmd.CommandPath()}
}

// printJSON writes a value as indented JSON.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
