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

// EpochsFile is the table of a run's epochs.
const EpochsFile = "epochs.csv"

// writeEpochs writes epochs.csv of a run directory: the keys of the epochs' records as columns, empty where a value is absent.
func writeEpochs(runDir string, records []Epoch) error {
	path := filepath.Join(runDir, EpochsFile)
	err := durable.Replace(path, func(w io.Writer) error {
		out := csv.NewWriter(w)
		out.WriteAll(epochTable(records))
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
	var head []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Epoch]()) {
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "values" {
			head = append(head, key)
		}
	}
	for _, key := range reported {
		head = append(head, "values."+key)
	}
	table := [][]string{head}
	for _, e := range records {
		table = append(table, append(cells(e), valueCells(e, reported)...))
	}
	return table
}

// cells are a record's own columns.
func cells(e Epoch) (out []string) {
	v := reflect.ValueOf(e)
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
