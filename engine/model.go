package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"broadside/engine/checkpoint"
	"broadside/engine/recipe"
)

// Model is a checkpoint loaded with its run's data. Close it after use.
type Model struct {
	// Warnings name newer checkpoints of the run that could not be used, and why.
	Warnings []string
	// Path is the checkpoint's file.
	Path string

	at     progress
	fleet  *fleet
	recipe *recipe.Recipe
}

// OpenModel loads a checkpoint file, or the newest checkpoint of a run directory. The recipe is the
// one that the checkpoint carries, changed by sets as in "data.path=DIR".
func OpenModel(path string, sets []string, o Options) (*Model, error) {
	found, err := readCheckpoint(path)
	if err != nil {
		return nil, err
	}
	path = found.Path
	text, ok := found.Meta[metaRecipe]
	if !ok {
		return nil, fmt.Errorf("%s carries no recipe: it was not written by broadside train, nor by broadside import with --recipe", path)
	}
	r, err := recipe.Parse(path, []byte(text), sets)
	if err != nil {
		return nil, err
	}
	f, err := open(r, o)
	if err != nil {
		return nil, err
	}
	if err := f.loadNetwork(found.Checkpoint); err != nil {
		f.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m := &Model{Warnings: found.Warnings, Path: path, fleet: f, recipe: r}
	if at, ok := found.Meta[metaProgress]; ok {
		if err := json.Unmarshal([]byte(at), &m.at); err != nil {
			m.Close()
			return nil, fmt.Errorf("%s: reading %s: %w", path, metaProgress, err)
		}
	}
	return m, nil
}

// readCheckpoint reads a file, or the newest checkpoint of a run directory.
func readCheckpoint(path string) (*checkpoint.Found, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: name a checkpoint file or the directory of a run", path)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if !info.IsDir() {
		ck, err := checkpoint.Read(path)
		return &checkpoint.Found{Checkpoint: ck, Path: path}, err
	}
	found, err := checkpoint.Dir(filepath.Join(path, checkpointDir)).Latest()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no checkpoint: name a checkpoint file or the directory of a run", path)
	}
	return found, err
}

// Evaluate evaluates the model on the test set with the running statistics.
func (m *Model) Evaluate() (Evaluation, error) { return m.fleet.evaluate(m.fleet.test) }

// Recalibrate computes the model's running statistics anew, by one pass over the training set; the checkpoint stays.
func (m *Model) Recalibrate() error {
	return m.fleet.recalibrate(augmentationOf(m.recipe.Data), m.recipe.Train.Seed, m.recipe.Train.Epochs)
}

// Close frees the model.
func (m *Model) Close() { m.fleet.close() }
