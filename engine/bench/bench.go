// Package bench measures how fast this machine trains: whole updates, single kernels and Hessian-vector
// products, as shares of what the machine can do at most, which it measures too.
//
// Rates of several devices are taken by the wall clock. What one thread does is taken in processor time, which
// other work on the machine disturbs less.
package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	cgocpu "broadside/cgo/cpu"
	"broadside/cgo/device"
	"broadside/engine"
	"broadside/engine/graph"
	"broadside/engine/recipe"
	"broadside/engine/suggest"
	"broadside/models"
)

// Work is what a benchmark runs.
type Work struct {
	Model     string
	Batch     int
	Leaf      int    // 0: the recipe's default
	Image     int    // height and width of an image; 0: the model's usual ones
	Precision string // as train.precision
	Device    string // as --device takes it; "" is auto
	ISA       string // instruction set of the kernels; "": the one that training uses
	Time      time.Duration
	Rounds    int // parts of Time that are timed apart
	// Report, where it is not nil, is given figures as soon as there are any: of layers the result without them and then
	// each layer, of other work the result so far, and the whole at the end.
	Report func(figures any)
}

func (w Work) report(figures any) {
	if w.Report != nil {
		w.Report(figures)
	}
}

// Spread is a quantity measured several times.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

func spread(values []float64) Spread {
	v := slices.Sorted(slices.Values(values))
	return Spread{v[0], (v[(len(v)-1)/2] + v[len(v)/2]) / 2, v[len(v)-1]}
}

// ratios divides a by b, one by one.
func ratios(a, b []float64) Spread {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return spread(r)
}

// Setting says what was run, after all defaults.
type Setting struct {
	Model     string `json:"model"`
	Batch     int    `json:"batch"`
	Leaf      int    `json:"leaf"`
	Ghost     int    `json:"ghost"`
	Image     string `json:"image"`
	Classes   int    `json:"classes"`
	Precision string `json:"precision"`
	Rounds    int    `json:"rounds"`
}

// open starts the work on a number of devices; 0 means one per core, or one GPU.
func (w Work) open(devices int) (*engine.Benchmark, Setting, error) {
	family, input, err := w.family()
	if err != nil {
		return nil, Setting{}, err
	}
	if isas := cgocpu.Available(); w.ISA != "" && !slices.Contains(isas, w.ISA) {
		return nil, Setting{}, suggest.Unknown("instruction set", w.ISA, isas)
	}
	r, err := w.recipe()
	if err != nil {
		return nil, Setting{}, err
	}
	b, err := engine.NewBenchmark(engine.BenchmarkOptions{Recipe: r, Input: input, Classes: family.Classes(), Device: w.Device, Devices: devices, ISA: w.ISA})
	if err != nil {
		return nil, Setting{}, err
	}
	return b, Setting{Model: w.Model, Batch: b.Batch(), Leaf: b.Leaf(), Ghost: r.Batch.Ghost, Image: input.String(), Classes: family.Classes(),
		Precision: r.Train.Precision, Rounds: w.Rounds}, nil
}

// family returns the model's family and the size of its images.
func (w Work) family() (models.Family, graph.Dims, error) {
	family, err := models.Lookup(w.Model)
	if err != nil {
		if near := suggest.Nearest(w.Model, models.Names()); near != "" {
			err = fmt.Errorf("%w; did you mean %s?", err, near)
		}
		return family, graph.Dims{}, err
	}
	input := family.Input
	if w.Image > 0 {
		input.H, input.W = w.Image, w.Image
	}
	return family, input, nil
}

// devices returns how many devices a number stands for.
func (w Work) devices(n int) (int, error) {
	if n > 0 {
		return n, nil
	}
	kind := w.Device
	if w.ISA != "" {
		kind = "cpu"
	}
	list, err := device.Open(kind, 0, recipe.Default().Batch.Lanes)
	for _, d := range list {
		d.Close()
	}
	return len(list), err
}

// recipe is plain SGD without augmentation. The learning rate is low and the run endless, so that nothing but
// time limits it.
func (w Work) recipe() (*recipe.Recipe, error) {
	leaf := ""
	if w.Leaf != 0 {
		leaf = fmt.Sprintf(", leaf: %d", w.Leaf)
	}
	text := fmt.Sprintf(`
data: {name: synthetic}
model: {name: %q}
train: {epochs: 1000000000, precision: %q}
batch: {size: %d%s}
optimizer: {lr: 0.0001}
`, w.Model, w.Precision, w.Batch, leaf)
	return recipe.Parse("bench", []byte(text), nil)
}

// rounds runs the works in turn for the given time, once to warm up and then round by round. It returns the
// seconds that one run took in each round. After a round it calls sofar with what it will return.
func rounds(ctx context.Context, w Work, sofar func(took [][]float64), works ...func() error) ([][]float64, error) {
	took := make([][]float64, len(works))
	part := w.Time / time.Duration(w.Rounds*len(works))
	for r := -1; r < w.Rounds; r++ {
		for i, work := range works {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			start, runs := time.Now(), 0
			for runs == 0 || r >= 0 && time.Since(start) < part {
				if err := work(); err != nil {
					return nil, err
				}
				runs++
			}
			if r >= 0 {
				took[i] = append(took[i], time.Since(start).Seconds()/float64(runs))
			}
		}
		if r >= 0 {
			sofar(took)
		}
	}
	return took, nil
}

// perSecond turns seconds per run into units per second.
func perSecond(units float64, seconds []float64) []float64 {
	out := make([]float64, len(seconds))
	for i, s := range seconds {
		out[i] = units / s
	}
	return out
}

// milliseconds turns seconds into milliseconds.
func milliseconds(seconds []float64) Spread {
	s := spread(seconds)
	return Spread{1e3 * s.Min, 1e3 * s.Median, 1e3 * s.Max}
}
