package curvature

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"broadside/engine/internal/durable"
)

// CurvePoints is PyHessian's grid of the smoothed density.
const CurvePoints = 10000

// A table is a part of a measurement as the rows of a CSV file, its head first.
type table struct {
	name string
	rows [][]string
}

// WriteTables writes what was measured as CSV files into a folder, which it makes if there is none: eigenvalues.csv and,
// where they were asked for, trace.csv, density.csv (the smoothed curve), quadrature.csv (the nodes and weights that it is
// made of) and landscape.csv.
func (m *Measurement) WriteTables(folder string) error {
	tables, err := m.tables()
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	for _, t := range tables {
		if err != nil {
			break
		}
		err = durable.Replace(filepath.Join(folder, t.name), func(w io.Writer) error { return csv.NewWriter(w).WriteAll(t.rows) })
	}
	if err != nil {
		return fmt.Errorf("writing the measurement as tables: %w", err)
	}
	return nil
}

func (m *Measurement) tables() ([]table, error) {
	out := []table{m.eigenvalues()}
	if t := m.Trace; t != nil {
		out = append(out, table{"trace.csv", [][]string{{"mean", "standard_error", "probes", "converged"},
			{number(t.Mean), number(t.StandardError), strconv.Itoa(len(t.Samples)), strconv.FormatBool(t.Converged)}}})
	}
	if m.Density != nil {
		curve, err := m.Density.Curve(CurvePoints)
		if err != nil {
			return nil, err
		}
		out = append(out, curve.table(), m.Density.quadrature())
	}
	if m.Landscape != nil {
		out = append(out, m.Landscape.table())
	}
	return out, nil
}

func (m *Measurement) eigenvalues() table {
	t := table{"eigenvalues.csv", [][]string{{"index", "value", "iterations", "converged"}}}
	for i, e := range m.Eigenvalues {
		t.rows = append(t.rows, []string{strconv.Itoa(i + 1), number(e.Value), strconv.Itoa(e.Iterations), strconv.FormatBool(e.Converged)})
	}
	return t
}

func (c *Curve) table() table {
	t := table{"density.csv", [][]string{{"eigenvalue", "density"}}}
	for i, x := range c.Eigenvalue {
		t.rows = append(t.rows, []string{number(x), number(c.Density[i])})
	}
	return t
}

func (d *Density) quadrature() table {
	t := table{"quadrature.csv", [][]string{{"start", "eigenvalue", "weight"}}}
	for i, q := range d.Runs {
		for j, x := range q.Nodes {
			t.rows = append(t.rows, []string{strconv.Itoa(i + 1), number(x), number(q.Weights[j])})
		}
	}
	return t
}

// table has a row for each point: its offsets and its loss.
func (l *Landscape) table() table {
	t := table{"landscape.csv", [][]string{{"first", "loss"}}}
	if len(l.Losses) > 1 {
		t.rows[0] = []string{"first", "second", "loss"}
	}
	for j, losses := range l.Losses {
		for i, loss := range losses {
			row := []string{number(l.Offsets[i])}
			if len(l.Losses) > 1 {
				row = append(row, number(l.Offsets[j]))
			}
			t.rows = append(t.rows, append(row, number(loss)))
		}
	}
	return t
}

// number writes a number so that it reads back as the same.
func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
