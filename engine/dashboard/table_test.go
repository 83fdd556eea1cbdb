package dashboard

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
)

func TestColumnsAreJSON(t *testing.T) {
	text, err := json.Marshal(column{1, math.NaN(), 0.5, math.Inf(1), 1e300, -123456789, 1.0 / 3})
	if err != nil || string(text) != "[1,null,0.5,null,1e+300,-123456789,0.333333333]" {
		t.Errorf("%s, %v", text, err)
	}
}

// A probe and the record of its epoch are one row; what came later completes it.
func TestRowsOfOneUpdateAreOne(t *testing.T) {
	none := math.NaN()
	table := newTable(maxCells)
	table.add(place{1, 10, none, 1}, map[string]float64{"eigenvalue": 7})
	table.add(place{1, 10, 640, 2}, map[string]float64{"train_loss": 0.5})
	table.add(place{2, 20, 1280, 4}, map[string]float64{"train_loss": 0.25, "new": 1})
	v := table.view(-1, 0)
	if v.Rows != 2 || v.Samples[0] != 640 || v.Values["eigenvalue"][0] != 7 || v.Values["train_loss"][0] != 0.5 || !math.IsNaN(v.Values["new"][0]) || v.Values["new"][1] != 1 {
		t.Errorf("%+v", v)
	}
}

// A reader that asks for what is new has the same table as one that asks for all, also while it is thinned out.
func TestViewsOfWhatIsNew(t *testing.T) {
	table := newTable(maxCells)
	var seen tableView
	thinned := 0
	for n := range 90000 {
		table.add(place{float64(n), float64(n), float64(n), float64(n)}, map[string]float64{"v": float64(2 * n)})
		if n%37 != 0 && n != 89999 {
			continue
		}
		if seen.Generation != table.generation {
			thinned++
		}
		v := table.view(seen.Generation, max(seen.Rows-1, 0))
		v.Epoch, v.Values["v"] = append(seen.Epoch[:v.From:v.From], v.Epoch...), append(seen.Values["v"][:v.From:v.From], v.Values["v"]...)
		seen = v
		if seen.Epoch[seen.Rows-1] != float64(n) {
			t.Fatalf("after row %d the newest is %v", n, seen.Epoch[seen.Rows-1])
		}
	}
	all := table.view(-1, 0)
	if fmt.Sprint(all.Epoch) != fmt.Sprint(seen.Epoch) || fmt.Sprint(all.Values) != fmt.Sprint(seen.Values) {
		t.Error("what was read bit by bit is not the table")
	}
	if thinned < 2 || all.Rows < 5000 || all.Rows*5 > maxCells {
		t.Errorf("thinned %d times to %d rows", thinned, all.Rows)
	}
	for i := 1; i < all.Rows; i++ {
		if !(all.Epoch[i] > all.Epoch[i-1]) || all.Values["v"][i] != 2*all.Epoch[i] {
			t.Fatalf("row %d is %v with %v", i, all.Epoch[i], all.Values["v"][i])
		}
	}
}

// A hostile log names new values in every record.
func TestTablesAreBounded(t *testing.T) {
	table := newTable(maxCells)
	for n := range 5000 {
		table.add(place{0, float64(n), 0, 0}, map[string]float64{fmt.Sprint("a", n): 1, "loss": 2})
	}
	if len(table.values) > maxNames || table.rows*len(table.values) > maxCells || !table.dropped {
		t.Errorf("%d values of %d rows, dropped %v", len(table.values), table.rows, table.dropped)
	}
}

// A run that rolls back to a checkpoint repeats updates; its curve has them once.
func TestRowsOfUpdatesDoneAgain(t *testing.T) {
	table := newTable(maxCells)
	for n := range 5 {
		table.add(place{float64(n), float64(10 * n), 0, 0}, map[string]float64{"loss": 1})
	}
	generation := table.generation
	table.add(place{3, 25, 0, 0}, map[string]float64{"loss": 2})
	if v := table.view(generation, 4); v.From != 0 || fmt.Sprint(v.Updates) != "[0 10 20 25]" || fmt.Sprint(v.Values["loss"]) != "[1 1 1 2]" {
		t.Errorf("%+v", v)
	}
}
