package dashboard

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strings"

	"broadside/engine/curvature"
)

// Bounds on the files that `broadside curvature` leaves in a run directory.
const (
	maxCurvatureFiles = 8
	maxCurvatureBytes = 16 << 20
	maxNodes          = 20000 // of a density
	maxLandscape      = 201   // points along an axis
	densityPoints     = 600
)

// measurement is a file of curvature for the page.
type measurement struct {
	File        string                 `json:"file"`
	Error       string                 `json:"error,omitempty"`
	Checkpoint  string                 `json:"checkpoint,omitempty"`
	Samples     int                    `json:"samples"`
	BatchNorm   string                 `json:"batch_norm"`
	Eigenvalues []curvature.Eigenvalue `json:"eigenvalues,omitempty"`
	Trace       *traceOf               `json:"trace,omitempty"`
	Density     *densityCurve          `json:"density,omitempty"`
	Landscape   *curvature.Landscape   `json:"landscape,omitempty"`
}

type traceOf struct {
	Mean          float64 `json:"mean"`
	StandardError float64 `json:"standard_error"`
}

// densityCurve is a smoothed density.
type densityCurve struct {
	Eigenvalue column `json:"eigenvalue"`
	Density    column `json:"density"`
}

// curvatureName reports whether a file is one of curvature.
func curvatureName(name string) bool {
	return strings.HasPrefix(name, "curvature") && strings.HasSuffix(name, ".json")
}

// curvatureStamp changes with the files of curvature among the entries of a run's folder; 0: there are none.
func curvatureStamp(entries []fs.DirEntry) (stamp int64) {
	for _, e := range entries {
		if curvatureName(e.Name()) {
			if info, err := e.Info(); err == nil {
				stamp = stamp*31 + info.ModTime().UnixMilli() + info.Size() + 1
			}
		}
	}
	return stamp & (1<<52 - 1) // exact in the page's numbers
}

// measurements reads what `broadside curvature` has left in a run's folder.
func (r *run) measurements() []measurement {
	entries, err := readFolder(r.root, r.dir)
	if err != nil {
		return nil
	}
	out := []measurement{}
	for _, e := range entries {
		if !curvatureName(e.Name()) || len(out) == maxCurvatureFiles {
			continue
		}
		m, err := r.measurement(e.Name())
		if m.File = e.Name(); err != nil {
			m = measurement{File: e.Name(), Error: err.Error()}
		}
		out = append(out, m)
	}
	return out
}

// measurement reads one file.
func (r *run) measurement(name string) (m measurement, err error) {
	f, _, err := openRegular(r.root, path.Join(r.dir, name))
	if err != nil {
		return m, err
	}
	defer f.Close()
	text, err := readMost(f, maxCurvatureBytes)
	if err != nil {
		return m, err
	}
	return parseMeasurement(text)
}

// parseMeasurement reads and checks the JSON of `broadside curvature`.
func parseMeasurement(text []byte) (m measurement, err error) {
	kept, err := curvature.Parse(text)
	if err != nil {
		return m, fmt.Errorf("not what broadside curvature writes: %w", err)
	}
	m = measurement{Checkpoint: kept.Checkpoint, Samples: kept.Samples, BatchNorm: kept.BatchNorm,
		Eigenvalues: kept.Eigenvalues, Landscape: kept.Landscape}
	if kept.Trace != nil {
		m.Trace = &traceOf{kept.Trace.Mean, kept.Trace.StandardError}
	}
	if l := kept.Landscape; l != nil && len(l.Offsets) > maxLandscape {
		return m, fmt.Errorf("a landscape of %d points along an axis: want %d at most", len(l.Offsets), maxLandscape)
	}
	if kept.Density != nil {
		m.Density, err = smooth(kept.Density)
	}
	return m, err
}

// smooth samples a density for drawing.
func smooth(d *curvature.Density) (*densityCurve, error) {
	nodes := 0
	for _, q := range d.Runs {
		nodes += len(q.Nodes)
	}
	if nodes > maxNodes {
		return nil, fmt.Errorf("a density with %d nodes: want %d at most", nodes, maxNodes)
	}
	c, err := d.Curve(densityPoints)
	if err != nil {
		return nil, err
	}
	if math.IsInf(c.Step, 0) || !(c.Step > 0) {
		return nil, errors.New("a density over a range that is no number")
	}
	return &densityCurve{c.Eigenvalue, c.Density}, nil
}
