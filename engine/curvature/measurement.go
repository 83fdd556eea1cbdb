package curvature

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"broadside/engine/internal/durable"
)

// File is where a run directory keeps its newest measurement.
const File = "curvature.json"

// Measurement is a measurement of the Hessian of the mean training loss.
type Measurement struct {
	Checkpoint  string       `json:"checkpoint"` // the file that was measured
	Epoch       int          `json:"epoch"`      // completed epochs
	Updates     int          `json:"updates"`
	Samples     int          `json:"samples"`
	Parameters  int          `json:"parameters"`
	BatchNorm   string       `json:"batch_norm"` // eval or ghost
	Seed        uint64       `json:"seed"`       // of the random vectors
	HVPs        int          `json:"hvps"`
	Eigenvalues []Eigenvalue `json:"eigenvalues"`
	Trace       *Trace       `json:"trace,omitempty"`
	Density     *Density     `json:"density,omitempty"`
	Landscape   *Landscape   `json:"landscape,omitempty"`
	// Vectors are the eigenvectors, if asked for, of length 1: the parameters of the model one after the other, in PyTorch's
	// layouts.
	Vectors [][]float32 `json:"-"`
}

// write replaces a file by the measurement, as JSON.
func (m *Measurement) write(path string) error {
	return durable.Replace(path, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", " ")
		return e.Encode(m)
	})
}

// Keep keeps the measurement in a run directory. Of the same Hessian, it takes from the file there what was not measured
// this time. A file that is no measurement stays.
func (m *Measurement) Keep(runDir string) error {
	path := filepath.Join(runDir, File)
	old, err := Read(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	whole := *m
	if err == nil && old.Checkpoint == m.Checkpoint && old.Samples == m.Samples && old.BatchNorm == m.BatchNorm {
		whole.Trace = cmp.Or(m.Trace, old.Trace)
		whole.Density = cmp.Or(m.Density, old.Density)
		whole.Landscape = cmp.Or(m.Landscape, old.Landscape)
	}
	return whole.write(path)
}

// largestFile is far above what a measurement needs.
const largestFile = 64 << 20

// Read reads a measurement that Keep has written.
func Read(path string) (*Measurement, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a measurement: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, largestFile+1))
	if err == nil && len(text) > largestFile {
		err = fmt.Errorf("more than %d MiB", largestFile>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the measurement %s: %w", path, err)
	}
	m, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("reading the measurement %s: %w", path, err)
	}
	return m, nil
}

// Parse reads and checks a measurement.
func Parse(text []byte) (*Measurement, error) {
	m := &Measurement{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, err
	}
	if m.Density != nil {
		if err := m.Density.check(); err != nil {
			return nil, fmt.Errorf("density: %w", err)
		}
	}
	if m.Landscape != nil {
		if err := m.Landscape.check(); err != nil {
			return nil, fmt.Errorf("landscape: %w", err)
		}
	}
	return m, nil
}

func (d *Density) check() error {
	if len(d.Runs) == 0 {
		return errors.New("no runs")
	}
	for i, q := range d.Runs {
		switch {
		case len(q.Nodes) == 0 || len(q.Nodes) != len(q.Weights):
			return fmt.Errorf("run %d has %d nodes and %d weights", i+1, len(q.Nodes), len(q.Weights))
		case !slices.IsSorted(q.Nodes):
			return fmt.Errorf("the nodes of run %d do not rise", i+1)
		}
		if err := inRange(q.Nodes, q.Weights); err != nil {
			return err
		}
	}
	return nil
}

func (l *Landscape) check() error {
	n := len(l.Offsets)
	if n < 2 || len(l.Losses) != 1 && len(l.Losses) != n {
		return fmt.Errorf("%d offsets and %d rows of losses", n, len(l.Losses))
	}
	for i := 1; i < n; i++ {
		if !(l.Offsets[i] > l.Offsets[i-1]) {
			return errors.New("the offsets do not rise")
		}
	}
	for i, row := range l.Losses {
		if len(row) != n {
			return fmt.Errorf("row %d has %d losses; want %d", i+1, len(row), n)
		}
	}
	return inRange(append(l.Losses, l.Offsets)...)
}

// largest is far above what can be measured, and below what overflows when it is drawn.
const largest = 1e100

func inRange(lists ...[]float64) error {
	for _, list := range lists {
		for _, v := range list {
			if !(math.Abs(v) <= largest) {
				return fmt.Errorf("%g is out of range", v)
			}
		}
	}
	return nil
}
