package bench

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"broadside/engine/recipe"
	"broadside/kernels"
)

// KernelsResult is the speed of the distinct kernel calls of a model's training Program on one thread.
type KernelsResult struct {
	Environment Environment `json:"environment"`
	Setting
	Limits  Limits       `json:"limits"`
	Kernels []KernelRate `json:"kernels"`
	// Windows sums up the convolutions by window, as in 3x3, over all passes and over each.
	Windows []KernelRate `json:"windows"`
}

// KernelRate is the speed of one call, or of several summed up.
type KernelRate struct {
	Kernel      string  `json:"kernel"`
	Window      string  `json:"window,omitempty"` // of a convolution
	Shape       string  `json:"shape,omitempty"`
	Calls       int     `json:"calls"` // in a leaf's forward and backward pass
	MS          float64 `json:"ms"`    // of one call; of all where several are summed up
	GFLOPS      float64 `json:"gflops"`
	PeakShare   float64 `json:"peak_share"` // of one core's peak
	GBS         float64 `json:"gbs"`        // every argument once
	StreamShare float64 `json:"stream_share"`
}

// tally adds up calls.
type tally struct {
	KernelRate
	flop, byte, seconds float64
}

// Kernels measures the convolutions, linear layers, normalisations and poolings of a model's training Program for
// one leaf, in their places in the Program.
func Kernels(ctx context.Context, w Work) (*KernelsResult, error) {
	if w.Batch = w.Leaf; w.Leaf == 0 {
		w.Batch = recipe.Default().Batch.Size
	}
	b, setting, err := w.open(1)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	calls, err := b.Profile(w.Time)
	if err != nil {
		return nil, err
	}
	out := &KernelsResult{Environment: environment(b.Device()), Setting: setting}
	distinct, windows := map[string]*tally{}, map[string]*tally{}
	for _, c := range calls {
		if !measured(c.Call.Kernel) {
			continue
		}
		flop := flops(c.Call)
		moved, err := bytes(c.Call)
		if err != nil {
			return nil, err
		}
		rate := KernelRate{Kernel: c.Call.Kernel.String(), Window: window(c.Call), Shape: describe(c.Call)}
		add(distinct, rate, flop, moved, c.Seconds)
		if rate.Window != "" {
			rate.Shape = ""
			add(windows, rate, flop, moved, c.Seconds)
			rate.Kernel = "conv2d"
			add(windows, rate, flop, moved, c.Seconds)
		}
	}
	if out.Limits, err = measureLimits(b.Device()); err != nil {
		return nil, err
	}
	out.Kernels, out.Windows = rates(distinct, out.Limits, w.Precision, true), rates(windows, out.Limits, w.Precision, false)
	w.report(out)
	return out, ctx.Err()
}

// measured reports whether a kernel is one of a layer that takes time.
func measured(k kernels.Kernel) bool {
	name := k.String()
	return k != kernels.BatchNormFold && (strings.HasPrefix(name, "conv2d") || strings.HasPrefix(name, "batchnorm") || strings.Contains(name, "pool"))
}

func add(to map[string]*tally, r KernelRate, flop, byte, seconds float64) {
	key := r.Kernel + " " + r.Window + " " + r.Shape
	t := to[key]
	if t == nil {
		t = &tally{KernelRate: r}
		to[key] = t
	}
	t.Calls++
	t.flop += flop
	t.byte += byte
	t.seconds += seconds
}

// rates turns tallies into rates, those that take longest first; MS is of one call if each.
func rates(from map[string]*tally, l Limits, precision string, each bool) []KernelRate {
	all := make([]*tally, 0, len(from))
	for _, t := range from {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *tally) int {
		return cmp.Or(cmp.Compare(b.seconds, a.seconds), cmp.Compare(a.Kernel+a.Window+a.Shape, b.Kernel+b.Window+b.Shape))
	})
	out := []KernelRate{}
	for _, t := range all {
		r := t.KernelRate
		r.MS = 1e3 * t.seconds
		if each {
			r.MS /= float64(t.Calls)
		}
		r.GFLOPS, r.GBS = t.flop/t.seconds/1e9, t.byte/t.seconds/1e9
		r.PeakShare, r.StreamShare = share(r.GFLOPS, l.peak(precision, 1)), share(r.GBS, l.StreamOne)
		out = append(out, r)
	}
	return out
}
