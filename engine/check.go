package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
	"broadside/kernels"
)

// Checker checks recipes without training them. It opens each data set once.
type Checker struct{ pairs map[data.Spec]*data.Pair }

// Check refuses a recipe that Train would refuse, save for what depends on the devices. It resolves the recipe: every
// option of its methods is written out.
func (c *Checker) Check(r *recipe.Recipe) error {
	pair, err := c.open(specOf(r.Data))
	if err != nil {
		return err
	}
	net, err := openNetwork(r.Model, pair.Train)
	if err != nil {
		return err
	}
	set := *pair.Train
	set.Images = nil
	cfg := configOf(r, Options{})
	f := &fleet{net: net, leaf: graph.Leaf{Capacity: cfg.leaf, In: net.Input}, ghost: cfg.ghost, syncBN: cfg.syncBN, lanes: cfg.lanes,
		running: cfg.running, ranks: 1, train: &resident{set: set}}
	if _, _, err := planTrainer(f, r, nowhere{}); err != nil {
		return err
	}
	_, err = graph.Compile(net, f.leaf, graph.Options{N: cfg.leaf, Ghost: cfg.ghost, Sync: cfg.syncBN, Smoothing: cfg.smoothing, ParamGrads: true}, noWorkspace{})
	return err
}

// noWorkspace stands for a device where nothing is computed.
type noWorkspace struct{}

func (noWorkspace) Workspace(kernels.Kernel, kernels.Shape) (int, error) { return 0, nil }

func (c *Checker) open(spec data.Spec) (*data.Pair, error) {
	if pair, ok := c.pairs[spec]; ok {
		return pair, nil
	}
	pair, err := data.Open(spec)
	if err != nil {
		return nil, err
	}
	if c.pairs == nil {
		c.pairs = map[data.Spec]*data.Pair{}
	}
	c.pairs[spec] = pair
	return pair, nil
}

// RunState says what a run directory holds.
type RunState int

// The states of a run directory.
const (
	NoRun    RunState = iota // nothing of a run
	BegunRun                 // a run that can be resumed
	EndedRun                 // a run with its summary
)

// StateOf returns what a run directory holds of a resolved recipe's run. It refuses one that holds another recipe's.
func StateOf(dir string, r *recipe.Recipe) (RunState, error) {
	stored, err := storedRecipe(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return NoRun, (&runDir{path: dir}).check(false)
	}
	if err != nil {
		return NoRun, err
	}
	given, err := r.YAML()
	if err != nil {
		return NoRun, err
	}
	if err := sameRecipe(stored, string(given)); err != nil {
		return NoRun, fmt.Errorf("resuming %s: %w", dir, err)
	}
	if _, err := os.Stat(filepath.Join(dir, telemetry.SummaryFile)); err != nil {
		return BegunRun, nil
	}
	return EndedRun, nil
}
