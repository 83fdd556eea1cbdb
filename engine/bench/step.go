package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"broadside/engine"
	"broadside/engine/telemetry"
	"broadside/kernels"
)

// StepResult is the speed of training updates.
type StepResult struct {
	Environment Environment `json:"environment"`
	Setting
	Runs    []StepRun `json:"runs"`
	Scaling *Spread   `json:"scaling,omitempty"` // rate of the last run over that of the first, round by round

	GFLOPPerImage float64 `json:"gflop_per_image"`
	Limits        Limits  `json:"limits"`
	// BytesMoved counts every argument of every call of an update once. BytesLeast leaves out what fusion
	// could: all but convolutions, linear layers, pooling and gathering.
	BytesMoved      float64 `json:"bytes_moved"`
	BytesLeast      float64 `json:"bytes_least"`
	PeakMemoryBytes int64   `json:"peak_memory_bytes"` // of the process, after the runs

	// Breakdown is the processor time of the calls of one update, each timed alone on one device.
	Breakdown []KernelTime `json:"breakdown"`
	Attack    *AttackCost  `json:"attack,omitempty"`
}

// StepRun is the rate on a number of devices.
type StepRun struct {
	Devices         int     `json:"devices"`
	ImagesPerSecond Spread  `json:"images_per_second"`
	GFLOPS          float64 `json:"gflops"`     // at the median rate
	PeakShare       float64 `json:"peak_share"` // of the measured peak of so many cores
}

// KernelTime is the time of all calls of one kernel in an update.
type KernelTime struct {
	Kernel string  `json:"kernel"`
	Calls  int     `json:"calls"`
	MS     float64 `json:"ms"`
	Share  float64 `json:"share"` // of the time of all calls
	GFLOPS float64 `json:"gflops"`
	GBS    float64 `json:"gbs"` // every argument once per call
}

// AttackCost is the cost of an FGSM attack on a leaf.
type AttackCost struct {
	AttackMS   Spread `json:"attack_ms"`
	GradientMS Spread `json:"gradient_ms"` // forward and input gradient alone
	Ratio      Spread `json:"ratio"`
}

// Step measures whole updates on each number of devices in turn; 0 means one per core. With attack it also
// measures what an attack costs.
func Step(ctx context.Context, w Work, devices []int, attack bool) (*StepResult, error) {
	out := &StepResult{}
	var all []*engine.Benchmark
	var steps []func() error
	for _, n := range devices {
		b, setting, err := w.open(n)
		if err != nil {
			return nil, err
		}
		defer b.Close()
		all, steps, out.Setting = append(all, b), append(steps, b.Step), setting
	}
	out.Environment = environment(all[0].Device())
	took, err := rounds(ctx, w, func(took [][]float64) {
		out.Runs = nil
		for i, b := range all {
			out.Runs = append(out.Runs, StepRun{Devices: b.Devices(), ImagesPerSecond: spread(perSecond(float64(b.Batch()), took[i]))})
		}
		w.report(out)
	}, steps...)
	if err != nil {
		return nil, err
	}
	out.PeakMemoryBytes = telemetry.PeakMemory()
	if attack {
		if out.Attack, err = attackCost(all[0], w.Rounds); err != nil {
			return nil, err
		}
	}
	calls, err := all[0].Profile(w.Time / 2)
	if err != nil {
		return nil, err
	}
	perUpdate, err := out.count(calls)
	if err != nil {
		return nil, err
	}
	if out.Limits, err = measureLimits(all[0].Device()); err != nil {
		return nil, err
	}
	for i := range out.Runs {
		run := &out.Runs[i]
		run.GFLOPS = perUpdate / spread(took[i]).Median / 1e9
		run.PeakShare = share(run.GFLOPS, out.Limits.peak(out.Precision, run.Devices))
	}
	if len(all) > 1 {
		s := ratios(took[0], took[len(took)-1])
		out.Scaling = &s
	}
	w.report(out)
	return out, ctx.Err()
}

func attackCost(b *engine.Benchmark, rounds int) (*AttackCost, error) {
	attack, gradient, err := b.Attack(rounds)
	if err != nil {
		return nil, err
	}
	return &AttackCost{AttackMS: milliseconds(attack), GradientMS: milliseconds(gradient), Ratio: ratios(attack, gradient)}, nil
}

// count adds up the calls of an update. It returns their floating point operations.
func (r *StepResult) count(calls []engine.CallTime) (float64, error) {
	var flop, seconds float64
	kinds := map[kernels.Kernel]*KernelTime{}
	for _, c := range calls {
		k := kinds[c.Call.Kernel]
		if k == nil {
			k = &KernelTime{Kernel: c.Call.Kernel.String()}
			kinds[c.Call.Kernel] = k
		}
		n, f := float64(c.Count), flops(c.Call)
		b, err := bytes(c.Call)
		if err != nil {
			return 0, fmt.Errorf("counting the bytes of %s: %w", c.Call, err)
		}
		k.Calls += c.Count
		k.MS += 1e3 * n * c.Seconds
		k.GFLOPS += n * f / 1e9
		k.GBS += n * b / 1e9
		flop += n * f
		seconds += n * c.Seconds
		r.BytesMoved += n * b
		if isProduct(c.Call.Kernel) {
			r.BytesLeast += n * b
		}
	}
	for _, k := range kinds {
		k.GFLOPS /= k.MS / 1e3
		k.GBS /= k.MS / 1e3
		k.Share = k.MS / 1e3 / seconds
		r.Breakdown = append(r.Breakdown, *k)
	}
	slices.SortFunc(r.Breakdown, func(a, b KernelTime) int { return cmp.Or(cmp.Compare(b.MS, a.MS), cmp.Compare(a.Kernel, b.Kernel)) })
	r.GFLOPPerImage = flop / float64(r.Batch) / 1e9
	return flop, nil
}
