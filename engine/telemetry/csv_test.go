package telemetry

import (
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

// The table has every number of the records, and reads back as what JSON has.
func TestEpochsCSV(t *testing.T) {
	dir := t.TempDir()
	third, eigen := 1.0/3, 1e-300
	records := []Epoch{
		{Epoch: 1, Updates: 10, SamplesSeen: 1 << 60, TrainLoss: 0.1 + 0.2, TestAccuracy: &third, Batch: 8, LR: 0.1, GradPasses: 7, HVPs: 3, ImagesPerSecond: 5.5, WallSeconds: 2},
		{Epoch: 2, Updates: 20, TrainLoss: math.NaN(), LR: math.Inf(1), Eigenvalue: &eigen, AttackFraction: 0.2, Values: map[string]float64{"gns": 3, "a,\"b": math.NaN()}},
	}
	if err := writeTables(dir, []Event{{Type: TypeStart}, {Type: TypeEpoch, Record: &records[0]}, {Type: TypeEpoch, Record: &records[1]}}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, UpdatesFile)); err == nil {
		t.Errorf("%s of a run without records of updates", UpdatesFile)
	}
	table := readTable(t, filepath.Join(dir, EpochsFile), 3)
	for i, record := range records {
		text, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]any{}
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		values, _ := want["values"].(map[string]any)
		delete(want, "values")
		for key, v := range values {
			want["values."+key] = v
		}
		for column, key := range table[0] {
			cell := table[i+1][column]
			if want[key] == nil {
				if cell != "" {
					t.Errorf("epoch %d, %s: %q; want nothing", i+1, key, cell)
				}
			} else if v, err := strconv.ParseFloat(cell, 64); err != nil || v != want[key] {
				t.Errorf("epoch %d, %s: %q; want %v", i+1, key, cell, want[key])
			}
			delete(want, key)
		}
		if len(want) > 0 {
			t.Errorf("epoch %d lacks %v", i+1, want)
		}
	}
}

// readTable reads a table of so many lines.
func readTable(t *testing.T, path string, lines int) [][]string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	table, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(table) != lines {
		t.Fatalf("%d lines; want %d", len(table), lines)
	}
	return table
}

func TestUpdatesCSV(t *testing.T) {
	dir := t.TempDir()
	if err := writeTables(dir, []Event{
		{Type: TypeUpdate, Epoch: 1, Updates: 7, WallSeconds: 2.5, Update: Update{EpochFraction: 0.25, SamplesSeen: 1 << 60, Loss: 0.3, Batch: 8, LR: 0.1, ImagesPerSecond: 5.5, GradientNorm: 3}},
		{Type: TypeUpdate, Epoch: 1, Updates: 9, WallSeconds: 3, Update: Update{EpochFraction: 0.5, Loss: math.NaN(), ImagesPerSecond: math.Inf(1)}}}); err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"updates", "epoch", "wall_seconds", "epoch_fraction", "samples_seen", "loss", "batch", "lr", "images_per_second", "gradient_norm"},
		{"7", "1", "2.5", "0.25", "1152921504606846976", "0.3", "8", "0.1", "5.5", "3"},
		{"9", "1", "3", "0.5", "0", "", "0", "0", "", ""}}
	if got := readTable(t, filepath.Join(dir, UpdatesFile), 3); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}
