package curvature

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// measured has one of everything.
func measured() *Measurement {
	return &Measurement{Checkpoint: "step-000000009.safetensors", Epoch: 1, Updates: 9, Samples: 4, Parameters: 3, BatchNorm: "eval", Seed: 1, HVPs: 8,
		Eigenvalues: []Eigenvalue{{Value: 1.0 / 3, Iterations: 5, Converged: true}, {Value: -2, Iterations: 7}},
		Trace:       &Trace{Mean: 3.5, StandardError: 0.25, Samples: []float64{3, 4}, Converged: true},
		Density:     &Density{Runs: []Quadrature{{Nodes: []float64{-2, 1}, Weights: []float64{0.25, 0.75}}, {Nodes: []float64{0.5}, Weights: []float64{1}}}, Mean: 0.375},
		Landscape:   &Landscape{Offsets: []float64{-1, 1}, Losses: [][]float64{{1, 2}, {3, 4}}}}
}

func TestMeasurementKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, File)
	again, other := *measured(), *measured() // of the same Hessian the eigenvalues alone, and of another
	again.Eigenvalues, again.Trace, again.Density, again.Landscape = []Eigenvalue{{Value: 7}}, nil, nil, nil
	other.Samples, other.Trace, other.Density = 8, nil, nil
	completed := *measured()
	completed.Eigenvalues = again.Eigenvalues
	for _, step := range []struct{ keep, want *Measurement }{{measured(), measured()}, {&again, &completed}, {&other, &other}} {
		if err := step.keep.Keep(dir); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, step.want) {
			t.Errorf("read %+v; want %+v", got, step.want)
		}
	}
	if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := measured().Keep(dir); err == nil {
		t.Error("a file that is no measurement was replaced")
	}
}

func TestTables(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new")
	if err := measured().WriteTables(folder); err != nil {
		t.Fatal(err)
	}
	read := func(name string) [][]string {
		file, err := os.Open(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		rows, err := csv.NewReader(file).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	third := strconv.FormatFloat(1.0/3, 'g', -1, 64)
	for name, want := range map[string][][]string{
		"eigenvalues.csv": {{"index", "value", "iterations", "converged"}, {"1", third, "5", "true"}, {"2", "-2", "7", "false"}},
		"trace.csv":       {{"mean", "standard_error", "probes", "converged"}, {"3.5", "0.25", "2", "true"}},
		"quadrature.csv":  {{"start", "eigenvalue", "weight"}, {"1", "-2", "0.25"}, {"1", "1", "0.75"}, {"2", "0.5", "1"}},
		"landscape.csv":   {{"first", "second", "loss"}, {"-1", "-1", "1"}, {"1", "-1", "2"}, {"-1", "1", "3"}, {"1", "1", "4"}},
	} {
		if got := read(name); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v; want %v", name, got, want)
		}
	}
	if rows := read("density.csv"); len(rows) != 1+CurvePoints || !slices.Equal(rows[0], []string{"eigenvalue", "density"}) {
		t.Errorf("density.csv: %d rows, first %v", len(rows), rows[0])
	}
	line := (&Landscape{Offsets: []float64{-1, 1}, Losses: [][]float64{{1, 2}}}).table().rows
	if want := [][]string{{"first", "loss"}, {"-1", "1"}, {"1", "2"}}; !reflect.DeepEqual(line, want) {
		t.Errorf("a line: %v; want %v", line, want)
	}
}

// mistakes are measurements that cannot be drawn.
var mistakes = map[string]string{
	"no object":       `[]`,
	"text":            `{"samples": "many"}`,
	"no runs":         `{"density": {"runs": []}}`,
	"no nodes":        `{"density": {"runs": [{"nodes": [], "weights": []}]}}`,
	"weights missing": `{"density": {"runs": [{"nodes": [1], "weights": []}]}}`,
	"falling nodes":   `{"density": {"runs": [{"nodes": [2, 1], "weights": [1, 1]}]}}`,
	"one offset":      `{"landscape": {"offsets": [1], "losses": [[1]]}}`,
	"no losses":       `{"landscape": {"offsets": [0, 1], "losses": []}}`,
	"rows missing":    `{"landscape": {"offsets": [0, 1, 2], "losses": [[1, 2, 3], [1, 2, 3]]}}`,
	"a short row":     `{"landscape": {"offsets": [0, 1], "losses": [[1, 2], [1]]}}`,
	"a huge node":     `{"density": {"runs": [{"nodes": [1e200], "weights": [1]}]}}`,
	"a huge loss":     `{"landscape": {"offsets": [0, 1], "losses": [[1, -1e200]]}}`,
	"equal offsets":   `{"landscape": {"offsets": [1, 1], "losses": [[1, 2]]}}`,
}

func TestReadRefuses(t *testing.T) {
	for name, text := range mistakes {
		path := filepath.Join(t.TempDir(), File)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := filepath.Join(t.TempDir(), File)
	if err := os.WriteFile(large, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, largestFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(large); err == nil || !strings.Contains(err.Error(), "MiB") {
		t.Errorf("a large file: %v", err)
	}
}

// What is read can be written as tables, whatever it is.
func FuzzMeasurement(f *testing.F) {
	whole, err := json.Marshal(measured())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, text := range mistakes {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			return
		}
		if m.Density != nil {
			if _, err := m.Density.Curve(2); err != nil {
				t.Error(err)
			}
			m.Density = nil // the curve of 10000 points takes its time
		}
		if _, err := m.tables(); err != nil {
			t.Error(err)
		}
	})
}
