package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"broadside/engine"
)

// attackFlags say under which attack a model is evaluated.
type attackFlags struct {
	name, eps, step, start string
	steps                  int
	seed                   uint64
}

func (f *attackFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.name, "attack", "none", "evaluate under an attack on the pixels too: none, "+strings.Join(engine.AttackNames, ", "))
	flags.StringVar(&f.eps, "eps", "8/255", "largest change of a pixel under --attack, where pixels are from 0 to 1: a number or a fraction")
	flags.IntVar(&f.steps, "steps", 10, "gradient steps of --attack pgd")
	flags.StringVar(&f.step, "step-size", "", "change of a pixel in one step of --attack pgd (default 2.5 eps/steps)")
	flags.StringVar(&f.start, "start", "random", "where --attack pgd begins: random, in the ball, or clean")
	flags.Uint64Var(&f.seed, "attack-seed", 1, "seed of the random start of --attack pgd")
}

// options checks the flags and returns what they say; nil is no attack.
func (f *attackFlags) options(cmd *cobra.Command) (*engine.AttackOptions, error) {
	o, err := f.parse(cmd)
	if err != nil {
		return nil, usageError{err, cmd.CommandPath()}
	}
	return o, nil
}

func (f *attackFlags) parse(cmd *cobra.Command) (*engine.AttackOptions, error) {
	if f.name == "none" {
		for _, name := range []string{"eps", "steps", "step-size", "start", "attack-seed"} {
			if cmd.Flags().Changed(name) {
				return nil, fmt.Errorf("--%s needs --attack, one of %s", name, strings.Join(engine.AttackNames, ", "))
			}
		}
		return nil, nil
	}
	if !slices.Contains(engine.AttackNames, f.name) {
		return nil, fmt.Errorf("--attack %q: must be none or one of %s", f.name, strings.Join(engine.AttackNames, ", "))
	}
	eps, err := fraction("eps", f.eps)
	if err != nil {
		return nil, err
	}
	if eps > 1 {
		return nil, fmt.Errorf("--eps %s: must be at most 1, as pixels are from 0 to 1: did you mean %s/255?", f.eps, f.eps)
	}
	step := 0.0
	if f.step != "" {
		if step, err = fraction("step-size", f.step); err != nil {
			return nil, err
		}
		if step == 0 {
			return nil, fmt.Errorf("--step-size %s: must be above 0", f.step)
		}
	}
	if f.steps < 1 {
		return nil, fmt.Errorf("--steps %d: must be at least 1", f.steps)
	}
	if f.start != "random" && f.start != "clean" {
		return nil, fmt.Errorf("--start %q: must be random or clean", f.start)
	}
	return &engine.AttackOptions{Name: f.name, Eps: eps, Steps: f.steps, Step: step, RandomStart: f.start == "random", Seed: f.seed}, nil
}

// fraction reads a number of at least 0, which may be written as a fraction.
func fraction(flag, text string) (float64, error) {
	above, below, divided := strings.Cut(text, "/")
	v, err := strconv.ParseFloat(above, 64)
	if divided && err == nil {
		var by float64
		by, err = strconv.ParseFloat(below, 64)
		v /= by
	}
	if err != nil || !(v >= 0) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("--%s %q: must be a number of at least 0 or a fraction, as 8/255", flag, text)
	}
	return v, nil
}

// evalUnder evaluates a model without and under an attack and prints both.
func evalUnder(cmd *cobra.Command, m *engine.Model, o engine.AttackOptions, asJSON bool) error {
	e, err := m.EvaluateUnder(o)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), e)
	}
	how := e.Attack.Name
	if how == "pgd" {
		how = fmt.Sprintf("%s of %d steps of %.6f", how, e.Attack.Steps, e.Attack.Step)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "test accuracy %.2f%% (%d of %d), loss %.6f\nunder %s, eps %.6f: %.2f%% (%d of %d), loss %.6f\n", 100*e.Accuracy, e.Correct, e.Samples, e.Loss,
		how, e.Attack.Eps, 100*e.RobustAccuracy, e.RobustCorrect, e.Samples, e.RobustLoss)
	return nil
}
