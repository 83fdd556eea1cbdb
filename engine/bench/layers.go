package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"broadside/cgo/device"
	"broadside/engine/graph"
	"broadside/engine/recipe"
	"broadside/kernels"
	"broadside/kernels/ref"
	"broadside/models"
)

// LayersResult is the speed of the distinct convolutions and batch normalisations of a model on one device, each
// alone over random numbers of its own.
type LayersResult struct {
	Environment Environment `json:"environment"`
	Setting
	// CopyGBS is what copying one vector to another reaches, reads and writes both counted.
	CopyGBS Spread `json:"copy_gbs"`
	// PeakTFLOPS is what NVIDIA says the GPU does at most, by precision; empty for others than those it knows.
	PeakTFLOPS   map[string]float64 `json:"peak_tflops"`
	Convolutions []ConvRate         `json:"convolutions"`
	Norms        []NormRate         `json:"norms"`
}

// LayerTime is the time of a pass through a layer.
type LayerTime struct {
	Layer string  `json:"layer"` // as in "56x56x64 to 56x56x256, 1x1": layers named alike are alike
	Pass  string  `json:"pass"`  // forward, input gradient, weight gradient; of a normalisation forward, backward
	Count int     `json:"count"` // layers of the model that are so
	MS    Spread  `json:"ms"`
	Bytes float64 `json:"bytes"` // every argument once
	GBS   float64 `json:"gbs"`
}

// ConvRate is the speed of a pass through a convolution.
type ConvRate struct {
	LayerTime
	Precision string  `json:"precision"`
	TFLOPS    float64 `json:"tflops"`
	PeakShare float64 `json:"peak_share"` // 0 where the peak is not known
}

// NormRate is the speed of a pass through a batch normalisation, with ReLU and addition where the model has them.
// Its sums must be complete before its output can begin, so that what they read is read twice where a ghost is
// larger than the cache: ReadTwiceShare counts those bytes twice.
type NormRate struct {
	LayerTime
	CopyShare      float64 `json:"copy_share"`
	ReadTwiceShare float64 `json:"read_twice_share"`
}

// OnGPU reports whether the work is of a GPU.
func (w Work) OnGPU() bool { return w.ISA == "" && device.Resolve(w.Device) != "cpu" }

// Layers measures a model's layers on one device, of w.Batch samples and in every precision named. It takes about
// w.Time.
func Layers(ctx context.Context, w Work, precisions []string) (*LayersResult, error) {
	devices, err := device.Open(w.Device, 1, 1)
	if err != nil {
		return nil, err
	}
	dev := devices[0]
	defer dev.Close()
	var convs, norms []layerCall
	out := &LayersResult{Environment: environment(dev.Name()), Convolutions: []ConvRate{}, Norms: []NormRate{}}
	for i, precision := range precisions {
		w.Precision = precision
		calls, setting, err := w.layers(dev)
		if err != nil {
			return nil, err
		}
		for _, c := range calls {
			if c.precision = precision; c.isConv() {
				convs = append(convs, c)
			} else if i == 0 { // they have no products
				norms = append(norms, c)
			}
		}
		setting.Precision = joined(out.Precision, precision)
		out.Setting = setting
	}
	t := layerTimer{dev: dev, rounds: w.Rounds, part: w.Time / time.Duration(w.Rounds*(len(convs)+len(norms)+1))}
	out.PeakTFLOPS = peaksOf(dev.Name())
	if err := out.copying(t, norms); err != nil {
		return nil, fmt.Errorf("timing a copy: %w", err)
	}
	w.report(out)
	for _, c := range append(convs, norms...) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		rate, err := out.add(t, c)
		if err != nil {
			return nil, fmt.Errorf("timing %s of %s: %w", c.pass(), c.name(), err)
		}
		w.report(rate)
	}
	return out, nil
}

func joined(a, b string) string {
	if a == "" {
		return b
	}
	return a + "," + b
}

// copying times y = x over vectors as large as the largest activation that a norm has.
func (r *LayersResult) copying(t layerTimer, norms []layerCall) error {
	count := int64(1 << 20)
	for _, c := range norms {
		s := c.Shape.(kernels.BatchNorm)
		count = max(count, int64(s.N)*int64(s.HW)*int64(s.C))
	}
	took, err := t.seconds(kernels.Call{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: count, A: 1}, Args: make([]kernels.Ref, 2)})
	if err == nil {
		r.CopyGBS = spread(perSecond(8*float64(count)/1e9, took))
	}
	return err
}

// add times a call, puts its rate into the result and returns it.
func (r *LayersResult) add(t layerTimer, c layerCall) (any, error) {
	took, err := t.seconds(c.Call)
	if err != nil {
		return nil, err
	}
	once, twice, err := traffic(c.Call)
	if err != nil {
		return nil, err
	}
	seconds := spread(took).Median
	time := LayerTime{Layer: c.name(), Pass: c.pass(), Count: c.count, MS: milliseconds(took), Bytes: once, GBS: once / seconds / 1e9}
	if c.isConv() {
		rate := ConvRate{LayerTime: time, Precision: c.precision, TFLOPS: flops(c.Call) / seconds / 1e12}
		rate.PeakShare = share(rate.TFLOPS, r.PeakTFLOPS[c.precision])
		r.Convolutions = append(r.Convolutions, rate)
		return rate, nil
	}
	rate := NormRate{time, share(time.GBS, r.CopyGBS.Median), share(twice/seconds/1e9, r.CopyGBS.Median)}
	r.Norms = append(r.Norms, rate)
	return rate, nil
}

// traffic counts the bytes of every argument once, and those that a norm's sums read twice.
func traffic(c kernels.Call) (once, twice float64, err error) {
	if once, err = bytes(c); err != nil {
		return 0, 0, err
	}
	args, err := ref.Layout(c.Kernel, c.Shape, 1)
	if err != nil {
		return 0, 0, err
	}
	twice = once
	for i, a := range args {
		if summed := a.Name == "x" || a.Name == "y" || a.Name == "dy"; summed && a.Role == ref.In && !c.Args[i].IsNone() {
			twice += 4 * float64(a.Cells)
		}
	}
	return once, twice, nil
}

// layerCall is a kernel call that stands for all layers of its shape.
type layerCall struct {
	kernels.Call
	precision string
	count     int
}

func (c layerCall) isConv() bool {
	_, ok := c.Shape.(kernels.Conv2D)
	return ok
}

// pass names what a call computes.
func (c layerCall) pass() string {
	switch c.Kernel {
	case kernels.Conv2DBackwardInput:
		return "input gradient"
	case kernels.Conv2DBackwardWeight:
		return "weight gradient"
	case kernels.BatchNormBackward:
		return "backward"
	}
	return "forward"
}

// name describes the layer of a call, without the number of samples.
func (c layerCall) name() string {
	switch s := c.Shape.(type) {
	case kernels.Conv2D:
		return fmt.Sprintf("%dx%dx%d to %dx%dx%d, %s", s.H, s.W, s.C, s.OH, s.OW, s.K, window(c.Call)) + stride(s.StrideH, s.StrideW) +
			note(s.Groups > 1, fmt.Sprintf(", %d groups", s.Groups))
	case kernels.BatchNorm:
		added := map[kernels.Kernel]int{kernels.BatchNormForward: 3, kernels.BatchNormBackward: 7}[c.Kernel] // the residual, or its gradient
		return fmt.Sprintf("%d pixels of %d", s.HW, s.C) + note(!c.Args[added].IsNone(), ", add") + note(s.ReLU != 0, ", ReLU")
	}
	return c.Kernel.String()
}

// layers compiles the model's training for a device and returns its distinct convolutions and normalisations. None
// adds to its output but for the gradients of weights, which always do.
func (w Work) layers(dev kernels.Device) ([]layerCall, Setting, error) {
	w.Leaf = w.Batch
	family, input, err := w.family()
	if err != nil {
		return nil, Setting{}, err
	}
	r, err := w.recipe()
	if err != nil {
		return nil, Setting{}, err
	}
	net, err := models.New(w.Model, input, family.Classes())
	if err != nil {
		return nil, Setting{}, err
	}
	precision, _ := kernels.PrecisionNamed(w.Precision) // checked with the recipe
	ghost := min(w.Batch, recipe.Default().Batch.Size)  // as training has it by default
	p, err := graph.Compile(net, graph.Leaf{Capacity: w.Batch, In: input},
		graph.Options{N: w.Batch, Ghost: ghost, ParamGrads: true, Precision: precision}, dev)
	if err != nil {
		return nil, Setting{}, err
	}
	return distinctLayers(slices.Concat(p.Forward, p.Backward)), Setting{Model: w.Model, Batch: w.Batch, Leaf: w.Batch, Ghost: ghost,
		Image: input.String(), Classes: family.Classes(), Precision: r.Train.Precision, Rounds: w.Rounds}, nil
}

// distinctLayers picks the convolutions and normalisations out of a pass, those of one name and pass once.
func distinctLayers(calls []kernels.Call) []layerCall {
	seen := map[string]int{}
	var out []layerCall
	for _, call := range calls {
		c := layerCall{Call: call, count: 1}
		switch s := call.Shape.(type) {
		case kernels.Conv2D:
			if s.H*s.W == 1 && s.R*s.S == 1 {
				continue // a linear layer
			}
			s.ReLU, s.Accumulate = 0, 0
			c.Shape = s
		case kernels.BatchNorm:
			s.Accumulate = 0
			c.Shape = s
		default:
			continue
		}
		key := c.pass() + " " + c.name()
		if at, ok := seen[key]; ok {
			out[at].count++
			continue
		}
		seen[key] = len(out)
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b layerCall) int { return cmp.Compare(a.Kernel, b.Kernel) })
	return out
}
