package telemetry

import (
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
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
	if err := writeEpochs(dir, records); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(dir, EpochsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	table, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(table) != 3 {
		t.Fatalf("%d lines", len(table))
	}
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
