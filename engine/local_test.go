package engine

import (
	"context"
	"slices"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/engine/recipe"
)

// trainLocal trains the small recipe with changes.
func trainLocal(t *testing.T, r *recipe.Recipe) *trainer {
	t.Helper()
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	tr := startTrainer(t, r, pair, 2, &tape{})
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return tr
}

// Frozen blocks keep their random weights, whatever the weight decay; the heads learn.
func TestFrozenParametersStay(t *testing.T) {
	r := parseRecipe(t, smallText, "model.name=cafo3")
	tr := trainLocal(t, r)
	first, last := tr.fleet.net.InitParams(r.Train.Seed), read(tr.fleet.params)
	for _, p := range tr.fleet.net.Params {
		same := slices.Equal(first[p.Offset:p.Offset+p.Size()], last[p.Offset:p.Offset+p.Size()])
		if frozen := strings.HasPrefix(p.Name, "block"); frozen != p.Frozen || same != frozen {
			t.Errorf("%s: frozen %v, as it began %v", p.Name, p.Frozen, same)
		}
	}
	if tr.at.Test < 0.5 {
		t.Errorf("test accuracy %.2f of four classes: the heads do not learn", tr.at.Test)
	}
}

// Forward gradients train the network, though less well than the gradients.
func TestForwardGradientsLearn(t *testing.T) {
	accuracy := func(methods string) float64 {
		r, err := recipe.Load("quickstart", []string{"model.name=local-mlp", "data.train_limit=4000", "data.test_limit=500", "train.epochs=4",
			"optimizer.lr=0.001", "schedule.name=constant", "batch.size=64", "batch.leaf=32", "methods=" + methods})
		if err != nil {
			t.Fatal(err)
		}
		s, err := Train(context.Background(), r, Options{RunDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return s.TestAccuracy
	}
	exact, estimated := accuracy("[]"), accuracy("[{forwardgrad: {}}]")
	if estimated < 0.4 || exact <= estimated {
		t.Errorf("test accuracy %.3f by forward gradients of ten classes, %.3f by gradients", estimated, exact)
	}
}

func TestForwardGradientsNeedMarks(t *testing.T) {
	pair := &data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	net := parseRecipe(t, smallText+"methods: [forwardgrad: {}]\n")
	f, err := openOn(net, pair, devicetest.Open(t, 1), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if _, err := newTrainer(f, net, &tape{}); err == nil || !strings.Contains(err.Error(), "local-mlp") {
		t.Errorf("a network without marks: %v", err)
	}
}
