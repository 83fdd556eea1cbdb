package dashboard

import (
	"math"
	"slices"
	"strconv"
)

// Bounds on what is kept of a run.
const (
	maxCells       = 1 << 17 // numbers: a long run is thinned out
	maxUpdateCells = 1 << 14 // of the updates: the page draws no more points than it has room for
	maxNames       = 256     // different values; more are not kept
)

// place is where in training a row was measured. What is not known is NaN.
type place struct{ epoch, updates, samples, seconds float64 }

// column holds a value of each row, NaN where it has none.
type column []float64

// MarshalJSON writes values that are not finite as null.
func (c column) MarshalJSON() ([]byte, error) {
	out := []byte{'['}
	for i, v := range c {
		if i > 0 {
			out = append(out, ',')
		}
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			out = append(out, "null"...)
		case v == math.Trunc(v) && math.Abs(v) < 1e15:
			out = strconv.AppendFloat(out, v, 'f', 0, 64)
		default:
			out = strconv.AppendFloat(out, v, 'g', 9, 64)
		}
	}
	return append(out, ']'), nil
}

// table is what a run measured, by columns. It is thinned out where it gets too large, so its size is bounded.
type table struct {
	most       int // cells
	rows       int
	generation int // changes when rows that were there before change
	dropped    bool
	epoch      column
	updates    column
	samples    column
	seconds    column
	values     map[string]column

	stride int  // so many measurements are one row
	skip   int  // measurements until the next row is due
	loose  bool // the last row goes when the next comes
}

func newTable(cells int) *table { return &table{most: cells, values: map[string]column{}, stride: 1} }

// add appends a row, or completes the last one if that is of the same update. The newest row is always there: one that
// thinning leaves out stays until the next comes.
func (t *table) add(at place, values map[string]float64) {
	if t.rows > 0 && t.updates[t.rows-1] == at.updates {
		t.complete(t.rows-1, at, values)
		return
	}
	t.back(at.updates)
	if t.loose && t.rows > 0 {
		t.cut(t.rows - 1)
	}
	t.loose = t.skip > 0
	if t.skip--; t.skip < 0 {
		t.skip = t.stride - 1
	}
	t.rows++
	for _, c := range t.columns() {
		*c = append(*c, math.NaN())
	}
	for name, c := range t.values {
		t.values[name] = append(c, math.NaN())
	}
	t.complete(t.rows-1, at, values)
	if t.rows > 64 && t.rows*(len(t.values)+4) > t.most {
		t.thin()
	}
}

// back drops the rows of later updates: a run that went back to a checkpoint does them again.
func (t *table) back(updates float64) {
	rows := t.rows
	for rows > 0 && t.updates[rows-1] > updates {
		rows--
	}
	if rows < t.rows {
		t.cut(rows)
		t.loose = false
		t.generation++
	}
}

// complete sets what is known of a row.
func (t *table) complete(row int, at place, values map[string]float64) {
	for i, v := range []float64{at.epoch, at.updates, at.samples, at.seconds} {
		if !math.IsNaN(v) {
			(*t.columns()[i])[row] = v
		}
	}
	for name, v := range values {
		c, ok := t.values[name]
		if !ok {
			if len(t.values) == maxNames {
				t.dropped = true
				continue
			}
			c = slices.Repeat(column{math.NaN()}, t.rows)
			t.values[name] = c
		}
		c[row] = v
	}
}

func (t *table) columns() []*column {
	return []*column{&t.epoch, &t.updates, &t.samples, &t.seconds}
}

// each applies a function to every column.
func (t *table) each(f func(column) column) {
	for _, c := range t.columns() {
		*c = f(*c)
	}
	for name, c := range t.values {
		t.values[name] = f(c)
	}
}

// cut keeps the first rows. Who has read the table asks again for the last row that it has, so this is no change before it.
func (t *table) cut(rows int) {
	t.each(func(c column) column { return c[:rows] })
	t.rows = rows
}

// thin leaves out every second row but the newest.
func (t *table) thin() {
	last := t.rows - 1
	kept := 0
	t.each(func(c column) column {
		kept = 0
		for row := 0; row < len(c); row++ {
			if row%2 == 0 || row == last {
				c[kept] = c[row]
				kept++
			}
		}
		return slices.Clip(c[:kept])
	})
	t.loose = last%2 == 1
	t.rows = kept
	t.stride *= 2
	if t.skip = t.stride - 1; t.loose {
		t.skip = 0
	}
	t.generation++
}

// tableView is a part of a table for the page.
type tableView struct {
	Generation int               `json:"generation"`
	From       int               `json:"from"` // rows before it are not here
	Rows       int               `json:"rows"`
	Dropped    bool              `json:"dropped,omitempty"` // more values than are kept
	Epoch      column            `json:"epoch"`
	Updates    column            `json:"updates"`
	Samples    column            `json:"samples"`
	Seconds    column            `json:"seconds"`
	Values     map[string]column `json:"values"`
}

// view copies the rows from the given one on, or all where the table has changed since the generation.
func (t *table) view(generation, from int) tableView {
	if generation != t.generation || from < 0 || from > t.rows {
		from = 0
	}
	v := tableView{Generation: t.generation, From: from, Rows: t.rows, Dropped: t.dropped, Epoch: slices.Clone(t.epoch[from:]), Updates: slices.Clone(t.updates[from:]),
		Samples: slices.Clone(t.samples[from:]), Seconds: slices.Clone(t.seconds[from:]), Values: map[string]column{}}
	for name, c := range t.values {
		v.Values[name] = slices.Clone(c[from:])
	}
	return v
}
