package dashboard

import (
	"fmt"
	"path/filepath"
	"testing"
)

// Updates are a table of their own, bounded, and told by what is new.
func TestUpdatesOfARun(t *testing.T) {
	dir := t.TempDir()
	r := begin(t, filepath.Join(dir, "a"), recipeA)
	r.updates(1, 10)
	r.epochs(1, 1)
	r.updates(11, 12)
	w := watched(t, dir)
	page := serving(t, w, local)
	all := getJSON[runView](t, page+"/api/run?id=a")
	if all.Table.Rows != 1 || all.Updates.Rows != 12 || all.Updates.Values["train_loss"][11] != 1.8 || all.Updates.Epoch[11] != 1.2 || all.Updates.Samples[11] != 768 {
		t.Errorf("%+v", all)
	}
	if e := w.state(t, "a"); e.At != 1.2 || e.Seconds != 1.2 || *e.TrainLoss != 1.8 || *e.LR != 0.12 || e.Rows != 13 || e.Summary.Epochs != 1 {
		t.Errorf("%+v", e)
	}
	r.updates(13, 13)
	w.await(t, "a", 1.3)
	v := getJSON[runView](t, fmt.Sprintf("%s/api/run?id=a&generation=%d&from=1&updates_generation=%d&updates_from=11", page, all.Table.Generation, all.Updates.Generation))
	if v.Table.From != 1 || v.Updates.From != 11 || fmt.Sprint(v.Updates.Updates) != "[12 13]" {
		t.Errorf("what is new: %+v", v)
	}
	r.updates(14, 5000)
	w.await(t, "a", 500)
	long := getJSON[runView](t, page+"/api/run?id=a")
	if n := len(long.Updates.Updates); n > maxUpdateCells/8 || n < maxUpdateCells/16 || long.Updates.Updates[n-1] != 5000 {
		t.Errorf("%d rows of 5000 updates, the last of update %v", n, long.Updates.Updates[n-1])
	}
	if len(long.Table.Updates) != 1 || long.Table.Values["test_accuracy"][0] != 0.5 {
		t.Errorf("the epochs went with the updates: %+v", long.Table)
	}
}
