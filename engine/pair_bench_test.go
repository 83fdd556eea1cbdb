package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/engine/graph"
)

// BenchmarkPairs times updates of ConAdv and DisAdv and, in turn with them, of their gradients without any attack, on two
// workers and CIFAR shapes; "split" are the gradients alone on one of the two, as where the other would attack. It reports
// ratios of wall time, the median of all rounds with the least and largest, and of processor time, which other work on the
// machine disturbs less.
func BenchmarkPairs(b *testing.B) {
	for _, leaves := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("resnet20/leaves%d", leaves), func(b *testing.B) {
			names := []string{"gradients", "split", "conadv", "disadv", "sgd"}
			took, work := map[string][]float64{}, map[string][]float64{}
			var steps []func() error
			for _, name := range names {
				steps = append(steps, pairBenchmark(b, name, leaves).Step)
			}
			for first := true; first || b.Loop(); first = false {
				for i, step := range steps {
					start, worked := time.Now(), processorSeconds(b)
					if err := step(); err != nil {
						b.Fatal(err)
					}
					if !first { // which compiles and touches the memory
						took[names[i]] = append(took[names[i]], time.Since(start).Seconds())
						work[names[i]] = append(work[names[i]], processorSeconds(b)-worked)
					}
				}
			}
			for _, name := range names {
				b.ReportMetric(1e3*middle(took[name]), name+"-ms")
			}
			for _, r := range [][2]string{{"conadv", "split"}, {"conadv", "gradients"}, {"disadv", "gradients"}, {"conadv", "disadv"}, {"gradients", "sgd"}} {
				what, wall := r[0]+"/"+r[1], quotients(took[r[0]], took[r[1]])
				b.ReportMetric(middle(wall), what)
				b.ReportMetric(slices.Min(wall), what+"-min")
				b.ReportMetric(slices.Max(wall), what+"-max")
				b.ReportMetric(middle(quotients(work[r[0]], work[r[1]])), what+"-cpu")
			}
		})
	}
}

// quotients divides a by b, one by one.
func quotients(a, b []float64) (q []float64) {
	for i := range a {
		q = append(q, a[i]/b[i])
	}
	return q
}

func middle(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// pairBenchmark trains with a method, or with twins that are not attacked, on two workers; on one for "split".
func pairBenchmark(t testing.TB, name string, leaves int) *Benchmark {
	t.Helper()
	text := fmt.Sprintf("data: {name: synthetic}\nmodel: {name: resnet20}\ntrain: {epochs: 1000000000}\nbatch: {size: %d, leaf: 64}\noptimizer: {lr: 0.0001}\n", 64*leaves)
	unattacked, devices := name == "gradients" || name == "split", 2
	if name == "split" {
		devices = 1
	}
	switch name {
	case "gradients", "split":
		text += "methods: [disadv: {random_start: 0, targeted: false}]\n"
	case "conadv", "disadv":
		text += "methods: [" + name + ": {}]\n"
	}
	m, err := NewBenchmark(BenchmarkOptions{Recipe: parseRecipe(t, text), Input: graph.Dims{H: 32, W: 32, C: 3}, Classes: 10, Device: "cpu", Devices: devices})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if unattacked {
		m.trainer.fleet.pair.Attack.Iterations = 0
	}
	return m
}

// The longest chain of passes on a device: DisAdv attacks a leaf before it trains on the twin; ConAdv has no chain, so
// with a device for each pass none makes two.
func TestLongestChainOfPasses(t *testing.T) {
	for _, c := range []struct {
		method                 string
		leaves, devices, chain int
	}{
		{"disadv", 1, 4, 2}, {"conadv", 1, 4, 1}, {"conadv", 1, 2, 2}, {"disadv", 1, 1, 3}, {"conadv", 1, 1, 3},
		{"disadv", 2, 8, 2}, {"conadv", 2, 8, 1}, {"disadv", 4, 4, 3}, {"conadv", 4, 4, 3}, {"conadv", 4, 2, 6},
	} {
		text := fmt.Sprintf("data: {name: synthetic}\nmodel: {name: linear}\ntrain: {epochs: 9}\nbatch: {size: %d, leaf: 2, ghost: 2}\nmethods: [%s: {}]\n", 2*c.leaves, c.method)
		tr := startTrainerOn(t, parseRecipe(t, text), &data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}, devicetest.Open(t, c.devices), Options{}, &tape{})
		for range 2 {
			if err := tr.computeLeaves(); err != nil {
				t.Fatal(err)
			}
			tr.pending = pending{}
			tr.at.Updates++
		}
		if got := longestChain(tr); got != c.chain {
			t.Errorf("%s, %d leaves on %d devices: %d passes in a row; want %d", c.method, c.leaves, c.devices, got, c.chain)
		}
	}
}

// longestChain counts the gradient passes of the busiest worker in the trainer's last job.
func longestChain(tr *trainer) (most int) {
	j := &tr.job
	for _, w := range tr.fleet.workers {
		passes := 0
		for i := range j.loss {
			if tr.fleet.owns(w, j.first+i) {
				passes++
				if leaf, _, kind := tr.fleet.view(j.first + i); kind == twinView && (j.ready == nil || !j.ready.holds(leaf, j.start+leaf)) {
					passes++
				}
			}
		}
		for i := range j.ahead.slots {
			if j.ahead.owns(w, len(j.loss), i) {
				passes++
			}
		}
		most = max(most, passes)
	}
	return most
}
