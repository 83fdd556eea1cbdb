package engine

import (
	"testing"
	"time"

	"broadside/engine/checkpoint"
	"broadside/engine/graph"
)

// BenchmarkCheckpoint times what a checkpoint holds training up for, which is the copy of the state, and what it takes to
// write it beside training: sums, encoding, sync. Their sum is also given as a share of a minute, the interval between two.
func BenchmarkCheckpoint(b *testing.B) {
	for _, c := range []struct {
		model         string
		size, classes int
	}{{"resnet20", 32, 10}, {"resnet18-cifar", 32, 10}, {"resnet50", 224, 1000}} {
		b.Run(c.model, func(b *testing.B) {
			r := parseRecipe(b, "data: {name: synthetic}\nmodel: {name: "+c.model+"}\ntrain: {epochs: 9}\nbatch: {size: 2, leaf: 2}\n")
			m, err := NewBenchmark(BenchmarkOptions{Recipe: r, Input: graph.Dims{H: c.size, W: c.size, C: 3}, Classes: c.classes, Device: "cpu", Devices: 1})
			if err != nil {
				b.Fatal(err)
			}
			defer m.Close()
			k := keeper{dir: checkpoint.Dir(b.TempDir()), keep: 1}
			var held, written time.Duration
			n := 0
			for ; b.Loop(); n++ {
				start := time.Now()
				ck, err := m.trainer.save(nil)
				if err != nil {
					b.Fatal(err)
				}
				copied := time.Now()
				if err := k.write(n, ck); err != nil {
					b.Fatal(err)
				}
				held += copied.Sub(start)
				written += time.Since(copied)
			}
			b.ReportMetric(held.Seconds()*1e3/float64(n), "held-ms")
			b.ReportMetric(written.Seconds()*1e3/float64(n), "beside-ms")
			b.ReportMetric(100*(held+written).Seconds()/float64(n)/60, "%-of-a-minute")
		})
	}
}
