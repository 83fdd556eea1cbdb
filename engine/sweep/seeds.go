package sweep

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"broadside/engine"
)

// PlanSeeds finds the runs of a recipe, changed by sets, with each of some seeds: in directories seed-1 and so on below
// one. It refuses what [Plan] refuses and writes nothing.
func PlanSeeds(recipePath string, sets []string, seeds []uint64, dir string) ([]*Run, error) {
	for _, s := range sets {
		if strings.HasPrefix(s, seedKey+"=") {
			return nil, fmt.Errorf("--set %s: the seeds are given by --seeds", s)
		}
	}
	seedAxis, err := axes(nil, seeds)
	if err != nil {
		return nil, err
	}
	var check engine.Checker
	var runs []*Run
	for _, seed := range seedAxis[0].Values {
		run := &Run{Dir: filepath.Join(dir, "seed-"+seed), Settings: []Setting{}}
		if err := run.plan(recipePath, append(slices.Clone(sets), Setting{seedKey, seed}.String()), &check); err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	return runs, nil
}
