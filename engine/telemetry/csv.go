package telemetry

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"broadside/engine/internal/durable"
)

// The tables of a run's epochs and of the updates that were recorded.
const (
	EpochsFile  = "epochs.csv"
	UpdatesFile = "updates.csv"
)

// writeTables writes epochs.csv of a run directory, and updates.csv where updates were recorded: the keys of the records as
// columns, empty where a value is absent.
func writeTables(runDir string, events []Event) error {
	var run curves
	run.take(events)
	if err := writeTable(filepath.Join(runDir, EpochsFile), epochTable(run.epochs)); err != nil || len(run.updates) == 0 {
		return err
	}
	return writeTable(filepath.Join(runDir, UpdatesFile), updateTable(run.updates))
}

func writeTable(path string, table [][]string) error {
	err := durable.Replace(path, func(w io.Writer) error {
		out := csv.NewWriter(w)
		out.WriteAll(table)
		return out.Error()
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// epochTable is the table, its head first.
func epochTable(records []Epoch) [][]string {
	values := map[string]bool{}
	for _, e := range records {
		for key := range e.Values {
			values[key] = true
		}
	}
	reported := slices.Sorted(maps.Keys(values))
	head := columns(reflect.TypeFor[Epoch]())
	for _, key := range reported {
		head = append(head, "values."+key)
	}
	table := [][]string{head}
	for _, e := range records {
		table = append(table, append(cells(e), valueCells(e, reported)...))
	}
	return table
}

// updateTable is the table of updates, its head first.
func updateTable(updates []Event) [][]string {
	table := [][]string{append([]string{"updates", "epoch", "wall_seconds"}, columns(reflect.TypeFor[Update]())...)}
	for _, e := range updates {
		row := append([]string{fmt.Sprint(e.Updates), fmt.Sprint(e.Epoch), cell(&e.WallSeconds)}, cells(e.Update)...)
		if e.Update.GradientNorm == 0 {
			row[len(row)-1] = ""
		}
		table = append(table, row)
	}
	return table
}

// columns are the keys of a record's own columns.
func columns(record reflect.Type) (out []string) {
	for _, f := range reflect.VisibleFields(record) {
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "values" {
			out = append(out, key)
		}
	}
	return out
}

// cells are a record's own columns.
func cells(record any) (out []string) {
	v := reflect.ValueOf(record)
	for i := range v.NumField() {
		switch value := v.Field(i).Interface().(type) {
		case float64:
			out = append(out, cell(&value))
		case *float64:
			out = append(out, cell(value))
		case map[string]float64:
		default:
			out = append(out, fmt.Sprint(value))
		}
	}
	return out
}

// valueCells are what methods reported.
func valueCells(e Epoch, keys []string) (out []string) {
	for _, key := range keys {
		if v, ok := e.Values[key]; ok {
			out = append(out, cell(&v))
		} else {
			out = append(out, "")
		}
	}
	return out
}

// cell writes a number so that it reads back as the same; nothing where there is none, as in JSON.
func cell(v *float64) string {
	if v == nil || math.IsNaN(*v) || math.IsInf(*v, 0) {
		return ""
	}
	return strconv.FormatFloat(*v, 'g', -1, 64)
}
