package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"broadside/engine"
	"broadside/engine/collective/join"
	"broadside/engine/telemetry"
)

// curvatureFile is where a run directory keeps the measurement of its curvature.
const curvatureFile = "curvature.json"

// keptCurvature is the content of that file.
type keptCurvature struct {
	Checkpoint string `json:"checkpoint"` // its file name
	engine.Curvature
}

// keepCurvature keeps a measurement in the run directory, if that is what was named. A run that cannot be written to is
// measured nevertheless.
func keepCurvature(cmd *cobra.Command, run, checkpoint string, c *engine.Curvature) {
	info, err := os.Stat(run)
	if rank, _ := join.Processes(); rank > 0 || err != nil || !info.IsDir() {
		return
	}
	kept := keptCurvature{filepath.Base(checkpoint), *c}
	path := filepath.Join(run, curvatureFile)
	if err = kept.complete(path); err == nil {
		var text []byte
		if text, err = json.MarshalIndent(kept, "", "  "); err == nil {
			err = telemetry.WriteFile(path, append(text, '\n'))
		}
	}
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "broadside: warning: the measurement is not kept:", err)
	}
}

// complete takes from the file what was not measured this time, where that is of the same Hessian.
func (k *keptCurvature) complete(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var old keptCurvature
	if err := json.Unmarshal(text, &old); err != nil {
		return fmt.Errorf("%s is not ours to replace: %w", path, err)
	}
	if old.Checkpoint != k.Checkpoint || old.Samples != k.Samples || old.BatchNorm != k.BatchNorm {
		return nil
	}
	if k.Trace == nil {
		k.Trace = old.Trace
	}
	if k.Density == nil {
		k.Density = old.Density
	}
	if k.Landscape == nil {
		k.Landscape = old.Landscape
	}
	return nil
}
