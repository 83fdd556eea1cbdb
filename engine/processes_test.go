package engine

import (
	"context"
	"sync"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/collective"
	"broadside/engine/collective/local"
	"broadside/engine/graph"
	"broadside/engine/recipe"
	"broadside/kernels"
	"broadside/models"
)

// trainApart trains the small recipe as so many processes do: each knows a rank of its own and exchanges what it reads
// of its leaves. They are threads here, joined by memory.
func trainApart(t *testing.T, method string, processes int) []*checkpoint.Checkpoint {
	t.Helper()
	devices := devicetest.OpenApart(t, processes, 1)
	comms, err := local.New(devices, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	last, errs := make([]*checkpoint.Checkpoint, processes), make([]error, processes)
	var all sync.WaitGroup
	for i := range processes {
		r := smallRecipe(t, method)
		all.Go(func() { last[i], errs[i] = trainProcess(r, devices[i], comms[i]) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("process %d: %v", i, err)
		}
	}
	return last
}

func trainProcess(r *recipe.Recipe, device kernels.Device, comm collective.Comm) (*checkpoint.Checkpoint, error) {
	net, err := models.New(r.Model.Name, graph.Dims{H: 8, W: 8, C: 3}, 4)
	if err != nil {
		return nil, err
	}
	cfg := configOf(r, Options{})
	cfg.join = func([]kernels.Device) ([]collective.Comm, error) { return []collective.Comm{comm}, nil }
	f, err := newFleet(net, []kernels.Device{device}, cfg)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if err := f.load(smallPair(r), false); err != nil {
		return nil, err
	}
	s := &tape{}
	tr, err := newTrainer(f, r, s)
	if err != nil {
		return nil, err
	}
	defer tr.updater.free()
	if err := tr.train(context.Background()); err != nil {
		return nil, err
	}
	return s.checkpoints[len(s.checkpoints)-1], nil
}

// Processes come to the bits of one process, also where an update is decided on what all of them have read.
func TestProcessesDoNotChangeBits(t *testing.T) {
	list := []string{"", "smallloss", "smallloss, threshold", "batchaug", "batchaug, norm of a copy", "conadv, view", "sam, per lane", "noise", "sgs", "cafo", "fold mean", "streamed", "bigbatch, bb", "fgsmrs, stopped"}
	if testing.Short() {
		list = []string{"smallloss"}
	}
	for _, method := range list {
		_, want := trainSmall(t, method, 1, 0, nil)
		for i, got := range trainApart(t, method, 4) {
			if d := difference(want, got); d != "" {
				t.Errorf("method %q, process %d of 4: %s", method, i, d)
			}
		}
	}
}
