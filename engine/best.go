package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"broadside/engine/checkpoint"
	"broadside/kernels"
)

// bestKeeper is a sink that keeps the network of the best evaluation.
type bestKeeper interface {
	Best(t *trainer) error
}

// evaluated takes in an evaluation of the parameters at hand. The best network is kept before the evaluation counts as
// the best: a run that stops in between evaluates it again.
func (t *trainer) evaluated(e Evaluation) error {
	better := e.Accuracy > t.at.Best || t.at.Best == 0
	t.at.Test, t.at.TestLoss, t.at.Best = e.Accuracy, e.Loss, max(t.at.Best, e.Accuracy)
	if k, ok := t.sink.(bestKeeper); ok && better && t.cfg.keepBest {
		return k.Best(t)
	}
	return nil
}

// Best replaces best.safetensors by the network as it was just evaluated. An epoch may end within an update, so this
// is not a place to resume from: the file has the network alone, without the state of optimiser and methods.
func (d *runDir) Best(t *trainer) error {
	t.at.WallSeconds = t.wall()
	ck, err := t.saveModel(d.recipe, map[string]any{})
	if err == nil {
		err = kernels.Sync(t.fleet.dev) // what was read may be worth nothing
	}
	if err != nil {
		return fmt.Errorf("best checkpoint: %w", err)
	}
	return d.dir.SaveBest(ck)
}

// BestCheckpoint returns the file of a run's best checkpoint.
func BestCheckpoint(runDir string) (string, error) {
	path := checkpoint.Dir(filepath.Join(runDir, checkpointDir)).BestPath()
	info, err := os.Stat(runDir)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.IsDir():
		return "", fmt.Errorf("%s is no run directory: the best checkpoint is that of a run", runDir)
	case err != nil:
		return "", fmt.Errorf("best checkpoint: %w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s has no best checkpoint: a run keeps one with checkpoint.best true", runDir)
	}
	return path, nil
}
