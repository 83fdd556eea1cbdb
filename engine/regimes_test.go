package engine

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"broadside/engine/data"
	"broadside/engine/methods"
)

// countUpdates trains a linear model on 50,000 samples of one pixel and returns the trainer and its steps.
func countUpdates(t *testing.T, text string) (*trainer, *tape) {
	t.Helper()
	pair := &data.Pair{Train: synthetic(50000, 1, 1, 2), Test: synthetic(10, 1, 1, 2)}
	s := &tape{keepSteps: true}
	tr := startTrainer(t, parseRecipe(t, "name: counts\ndata: {name: synthetic}\nmodel: {name: linear}\ncheckpoint: {every_updates: 0}\n"+text), pair, 1, s)
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tr, s
}

// AdaBatch over 100 epochs of 50,000 samples. The authors drop the last partial batch of every epoch, as
// batch.drop_last does; otherwise an update takes its last leaves from the next epoch, and an epoch has 390 leaves of 128.
func TestAdaBatchUpdateCounts(t *testing.T) {
	for _, c := range []struct {
		first    int
		dropLast bool
		want     int
	}{
		{128, true, 15080}, {256, true, 7520},
		// 20 epochs are 7,800 leaves: 7800 + 3900 + 1950 + 975 + 487, with 8 of 16 leaves left over; 32 updates more, which
		// are the 10, 15 and 7 that 97.5, 48.75 and 24.375 updates an epoch lose to rounding.
		{128, false, 15112},
		// 3900 + 1950 + 975 + 487 + 244: the 8 leaves left over of the fourth phase begin the fifth. 36 more.
		{256, false, 7556},
	} {
		if testing.Short() && !c.dropLast {
			continue
		}
		tr, s := countUpdates(t, fmt.Sprintf("train: {epochs: 100, eval_every: 100}\nbatch: {size: %d, leaf: 128, drop_last: %v}\noptimizer: {lr: 0.01}\nmethods: [adabatch]\n", c.first, c.dropLast))
		if tr.at.Updates != c.want || tr.at.Batch != 16*c.first {
			t.Errorf("from %d, drop_last %v: %d updates, last batch %d; want %d, %d", c.first, c.dropLast, tr.at.Updates, tr.at.Batch, c.want, 16*c.first)
		}
		checkRates(t, s.steps, []float64{.01, .0075, .005625, .00421875, .0031640625})
		if c.dropLast {
			for k := range 5 {
				if first := s.epochs[20*k]; first.Batch != c.first<<k || math.Abs(first.LR-.01*math.Pow(.75, float64(k))) > 1e-12 {
					t.Errorf("epoch %d: batch %d, learning rate %g", 20*k, first.Batch, first.LR)
				}
			}
		}
	}
}

// The fixed arms: 390 and 24 updates an epoch if the last partial batch is dropped, 24.375 if not.
func TestFixedArmsOfAdaBatch(t *testing.T) {
	for batch, want := range map[string]int{
		"size: 2048, leaf: 128, drop_last: true": 2400, "size: 2048, leaf: 2048": 2400, "size: 2048, leaf: 128": 2437,
		"size: 128": 39000, "size: 128, drop_last: true": 39000,
	} {
		if testing.Short() && want == 39000 {
			continue
		}
		if tr, _ := countUpdates(t, "train: {epochs: 100, eval_every: 100}\nbatch: {"+batch+"}\n"); tr.at.Updates != want {
			t.Errorf("%s: %d updates; want %d", batch, tr.at.Updates, want)
		}
	}
}

func TestDropLastRefusesBatchesAboveAnEpoch(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	tr := startTrainer(t, parseRecipe(t, smallText, "batch.drop_last=true"), pair, 1, &tape{})
	if err := (control{tr}).SetBatch(12*32, methods.Reweight, "test"); err == nil || !strings.Contains(err.Error(), "drop_last") {
		t.Errorf("a batch of 12 leaves in an epoch of 11: %v", err)
	}
	if err := (control{tr}).SetBatch(11*32, methods.Reweight, "test"); err != nil {
		t.Error(err)
	}
	_, err := newTrainer(tr.fleet, parseRecipe(t, smallText, "batch.drop_last=true", "batch.size=384"), &tape{})
	if err == nil || !strings.Contains(err.Error(), "batch.size 384") {
		t.Errorf("a recipe with a batch above the epoch: %v", err)
	}
}
