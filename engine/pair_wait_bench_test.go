package engine

import (
	"fmt"
	"testing"
	"time"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/kernels"
)

// BenchmarkPairsWithADeviceEach times updates of ConAdv and DisAdv with more devices than the machine has processors: the
// network is tiny, and the devices wait after every call, as long for each. So the clock sees the critical path through
// the engine's own schedule.
func BenchmarkPairsWithADeviceEach(b *testing.B) {
	for _, c := range []struct{ leaves, devices int }{{1, 2}, {1, 4}, {2, 8}} {
		b.Run(fmt.Sprintf("leaves%d/devices%d", c.leaves, c.devices), func(b *testing.B) {
			names := []string{"gradients", "conadv", "disadv"}
			took := map[string][]float64{}
			var trainers []*trainer
			for _, name := range names {
				trainers = append(trainers, waitingPairs(b, name, c.leaves, c.devices))
			}
			for round := 0; round < 2 || b.Loop(); round++ {
				for i, tr := range trainers {
					start := time.Now()
					if err := (&Benchmark{trainer: tr}).Step(); err != nil {
						b.Fatal(err)
					}
					if round >= 2 { // behind the first, for which there was nothing to attack ahead
						took[names[i]] = append(took[names[i]], time.Since(start).Seconds())
					}
				}
			}
			for _, name := range names {
				b.ReportMetric(1e3*middle(took[name]), name+"-ms")
			}
			b.ReportMetric(middle(quotients(took["disadv"], took["conadv"])), "disadv/conadv")
			b.ReportMetric(middle(quotients(took["conadv"], took["gradients"])), "conadv/gradients")
		})
	}
}

func waitingPairs(b *testing.B, name string, leaves, devices int) *trainer {
	b.Helper()
	method := name
	if name == "gradients" {
		method = "disadv"
	}
	text := fmt.Sprintf("data: {name: synthetic}\nmodel: {name: two}\ntrain: {epochs: 1000000000}\nbatch: {size: %d, leaf: 2, ghost: 2}\nmethods: [%s: {random_start: 0, targeted: false}]\n",
		2*leaves, method)
	waiting := devicetest.Open(b, devices)
	for i, d := range waiting {
		waiting[i] = waitingDevice{d}
	}
	tr := startTrainerOn(b, parseRecipe(b, text), &data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}, waiting, Options{}, &tape{})
	if name == "gradients" {
		tr.fleet.pair.Attack.Iterations = 0
	}
	return tr
}

// waitingDevice takes 2 ms longer for every call.
type waitingDevice struct{ kernels.Device }

func (d waitingDevice) Prepare(calls []kernels.Call) (kernels.Pass, error) {
	p, err := d.Device.Prepare(calls)
	return waitingPass{p, time.Duration(len(calls)) * 2 * time.Millisecond}, err
}

type waitingPass struct {
	kernels.Pass
	wait time.Duration
}

func (p waitingPass) Run(bases *[kernels.MaxBases]kernels.Memory) error {
	err := p.Pass.Run(bases)
	time.Sleep(p.wait)
	return err
}
