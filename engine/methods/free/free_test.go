package free

import (
	"strings"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

func TestReplays(t *testing.T) {
	m, err := New(Options{Epsilon: 0.1, Step: 0.05, Replays: 3})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.Replay(), (methods.Replay{Times: 3, Attack: graph.Persistent{Eps: 0.1, Step: 0.05}}); got != want {
		t.Errorf("%+v; want %+v", got, want)
	}
}

func TestBatchesAreOfOneEpoch(t *testing.T) {
	m, err := New(Options{Step: 0.1, Replays: 3})
	if err != nil {
		t.Fatal(err)
	}
	f := methodtest.New(1)
	f.BaseSize = 390 * 128
	if err := m.Prepare(f); err != nil {
		t.Errorf("a batch of a whole epoch: %v", err)
	}
	f.BaseSize += 128
	if err := m.Prepare(f); err == nil || !strings.Contains(err.Error(), "batch.size 50048 is more than the 49920 samples") {
		t.Errorf("a batch of more than an epoch: %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	for key, change := range map[string]func(*Options){
		"epsilon": func(o *Options) { o.Epsilon = 8 },
		"step":    func(o *Options) { o.Step = 0 },
		"replays": func(o *Options) { o.Replays = 0 },
	} {
		o := Options{Epsilon: 0.1, Step: 0.1, Replays: 1}
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "methods.free."+key) {
			t.Errorf("%s: error %v; want one that names it", key, err)
		}
	}
}
