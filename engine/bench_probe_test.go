//go:build unix

package engine

import (
	"syscall"
	"testing"

	"broadside/engine/curvature"
	"broadside/engine/methods"
)

// BenchmarkProbe times ABSA's probe as a share of an epoch of CIFAR-10: ten products on 128 samples, with their primal
// passes, beside 50,000 images in batches of 128. It takes steps in turn with the probes, and counts processor time, which
// other work on the machine disturbs less.
func BenchmarkProbe(b *testing.B) {
	const images, steps = 50000, 8
	for _, model := range []string{"resnet20", "c1"} {
		b.Run(model, func(b *testing.B) {
			m := newBenchmark(b, model, 128)
			var probing, stepping, warm float64
			timed := func(into *float64, f func() error) {
				start := processorSeconds(b)
				if err := f(); err != nil {
					b.Fatal(err)
				}
				*into += processorSeconds(b) - start
			}
			probe := func() error {
				_, err := control{m.trainer}.TopEigenvalue(methods.Probe{Samples: 128, Options: curvature.Options{K: 1, MaxIterations: 10, Tolerance: 1e-15}})
				return err
			}
			timed(&warm, m.Step) // compiles and touches the memory
			timed(&warm, probe)
			for b.Loop() {
				timed(&probing, probe)
				for range steps {
					timed(&stepping, m.Step)
				}
			}
			epoch := stepping / float64(b.N*steps) * images / 128
			b.ReportMetric(probing/float64(b.N)/epoch*100, "%epoch")
			b.ReportMetric(epoch, "cpu-s/epoch")
			if m.trainer.at.HVPs != 10*m.trainer.at.Probes {
				b.Errorf("%d products in %d probes", m.trainer.at.HVPs, m.trainer.at.Probes)
			}
		})
	}
}

// processorSeconds is the processor time that the process has taken.
func processorSeconds(b *testing.B) float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}
