package sweep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"broadside/engine"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

// The states of a run.
const (
	Waiting  = "waiting"  // has not begun
	Begun    = "begun"    // was stopped, and goes on where it was
	Done     = "done"     // has ended
	Diverged = "diverged" // came to a loss that is no number; it would again
)

// Run is one run of a sweep.
type Run struct {
	Dir      string    `json:"dir"`
	Settings []Setting `json:"settings"` // those that vary, the seed aside
	Seed     uint64    `json:"seed"`
	State    string    `json:"state"`
	Error    string    `json:"error,omitempty"` // diverged: what was said
	// Median is the median of the last five test accuracies, of a run that is done.
	Median  float64            `json:"median_test_accuracy"`
	Summary *telemetry.Summary `json:"summary,omitempty"`

	recipe *recipe.Recipe
}

// divergedFile marks a run that has diverged; it is written into its directory.
const divergedFile = "diverged.json"

// Plan finds the runs of a sweep and in what state they are. It refuses a recipe of the grid that cannot be trained,
// and a directory that holds runs of another recipe. It writes nothing.
func Plan(recipePath string, settings []Axis, seeds []uint64, dir string) ([]*Run, error) {
	all, err := axes(settings, seeds)
	if err != nil {
		return nil, err
	}
	points, err := grid(all)
	if err != nil {
		return nil, err
	}
	varies := func(key string) bool {
		for _, a := range all {
			if a.Key == key {
				return len(a.Values) > 1
			}
		}
		return false
	}
	var check engine.Checker
	var runs []*Run
	var errs []error
	for i, folder := range folders(dir, points, varies) {
		run := &Run{Dir: folder, Settings: []Setting{}}
		var sets []string
		for _, s := range points[i] {
			sets = append(sets, s.String())
			if varies(s.Key) && s.Key != seedKey {
				run.Settings = append(run.Settings, s)
			}
		}
		if err := run.plan(recipePath, sets, &check); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Base(folder), err))
		}
		runs = append(runs, run)
	}
	return runs, first(errs)
}

// mostTold bounds the mistakes that are told at once.
const mostTold = 5

// first joins the first errors and says how many there are besides.
func first(errs []error) error {
	if more := len(errs) - mostTold; more > 0 {
		errs = append(errs[:mostTold:mostTold], fmt.Errorf("and %d more runs of the grid have mistakes", more))
	}
	return errors.Join(errs...)
}

func (r *Run) plan(recipePath string, sets []string, check *engine.Checker) (err error) {
	if r.recipe, err = recipe.Load(recipePath, sets); err != nil {
		return err
	}
	r.Seed = r.recipe.Train.Seed
	if err := check.Check(r.recipe); err != nil {
		return err
	}
	state, err := engine.StateOf(r.Dir, r.recipe)
	if err != nil {
		return err
	}
	switch state {
	case engine.NoRun:
		r.State = Waiting
	case engine.BegunRun:
		r.State = Begun
		return r.readDiverged()
	case engine.EndedRun:
		return r.readResult()
	}
	return nil
}

// readDiverged finds out whether the run has diverged.
func (r *Run) readDiverged() error {
	text, err := os.ReadFile(filepath.Join(r.Dir, divergedFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var found struct {
		Error string `json:"error"`
	}
	if err == nil {
		err = json.Unmarshal(text, &found)
	}
	if err != nil {
		return fmt.Errorf("reading %s: %w", filepath.Join(r.Dir, divergedFile), err)
	}
	r.State, r.Error = Diverged, found.Error
	return nil
}

// readResult reads what a run that is done has left.
func (r *Run) readResult() error {
	s, err := telemetry.ReadSummary(r.Dir)
	if err != nil {
		return err
	}
	events, err := telemetry.ReadEvents(filepath.Join(r.Dir, telemetry.EventsFile))
	if err != nil {
		return err
	}
	var accuracies []float64
	for _, e := range events {
		if e.Record != nil && e.Record.TestAccuracy != nil {
			accuracies = append(accuracies, *e.Record.TestAccuracy)
		}
	}
	r.State, r.Summary, r.Median = Done, &s, median(accuracies[max(0, len(accuracies)-5):])
	return nil
}

// Train trains the runs that are not done, one after the other. begin says on what, and is told of every run. A run that
// diverges is noted and the next one begun; any other failure ends the sweep.
func Train(ctx context.Context, runs []*Run, begin func(number int, r *Run) engine.Options) error {
	for i, r := range runs {
		if r.State != Waiting && r.State != Begun {
			continue
		}
		o := begin(i+1, r)
		o.RunDir, o.Resume = r.Dir, r.State == Begun
		_, err := engine.Train(ctx, r.recipe, o)
		var diverged *engine.DivergedError
		switch {
		case err == nil:
			err = r.readResult()
		case errors.As(err, &diverged):
			err = r.note(err)
		}
		if err != nil {
			return fmt.Errorf("run %d of %d, %s: %w", i+1, len(runs), r.Dir, err)
		}
	}
	return nil
}

// note keeps the word that a run has diverged.
func (r *Run) note(why error) error {
	r.State, r.Error = Diverged, why.Error()
	text, err := json.Marshal(map[string]string{"error": r.Error})
	if err != nil {
		return err
	}
	return telemetry.WriteFile(filepath.Join(r.Dir, divergedFile), append(text, '\n'))
}
