package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// Big Batch SGD comes to PyTorch's step sizes and parameters. Its first step is far too long, so plain SGD does not.
func TestStepSizesAgreeWithPyTorch(t *testing.T) {
	for _, step := range []string{"armijo", "bb"} {
		g := readMoments(t, "bigbatch-"+step)
		method := fmt.Sprintf("bigbatch: {max_batch: %d, step: %s}", g.Leaf*g.Leaves, step)
		for tolerance, devices := range map[float64][]kernels.Device{5e-7: {ref.New()}, 5e-6: devicetest.Open(t, 2)} {
			if step == "bb" && len(devices) == 1 {
				continue // the oracle measures no moments
			}
			end, rates := g.trainOn(t, method, devices)
			for i, rate := range g.Rates {
				near(t, fmt.Sprintf("%s: step %d on %s", step, i, devices[0].Name()), rates[i], rate, 20*tolerance*rate)
			}
			if d := g.error(end); !(d < tolerance) {
				t.Errorf("%s on %s: the parameters are %g of their way from PyTorch's", step, devices[0].Name(), d)
			}
		}
		if d := g.error(g.train(t, "")); d < 0.1 {
			t.Errorf("%s: plain SGD agrees too: %g", step, d)
		}
	}
}

// looker is a method that looks along the line of every update.
type looker struct {
	look func(l methods.Line) (float64, error)
}

func (k *looker) Prepare(methods.Training) error { return nil }

func (k *looker) Search(_ methods.Training, l methods.Line) (float64, error) { return k.look(l) }

// withLooker gives a trainer a method that looks along the lines.
func withLooker(t *testing.T, tr *trainer, look func(l methods.Line) (float64, error)) {
	t.Helper()
	tr.methods = append(tr.methods, method{methods.Info{Name: "looker"}, &looker{look}})
	tr.line = newLine(tr)
	if err := tr.line.alloc(); err != nil {
		t.Fatal(err)
	}
	tr.updater.line = tr.line
}

// The loss on the line at no distance is that of the update, with the same augmentation, attack and selection, and of an
// update that spans two epochs; a look leaves no trace; and the place where the search ends has the bits of the parameters
// after the step.
func TestLineIsThatOfTheStep(t *testing.T) {
	for name, sets := range map[string][]string{
		"plain":      nil,
		"attack":     {"methods=[pgd: {epsilon: 0.1, iterations: 2, mix: 0.5}]"},
		"copies":     {"methods=[batchaug: {copies: 3}]"},
		"selected":   {"methods=[smallloss: {keep: 0.5}]", "batch.drop_last=true"},
		"bf16":       {"train.precision=bf16"},
		"dropout":    {"model.name=alexnet-cifar"},
		"two epochs": {"batch.size=96"},
	} {
		t.Run(name, func(t *testing.T) {
			pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
			if name == "dropout" {
				pair = &data.Pair{Train: synthetic(3*32, 32, 3, 4), Test: synthetic(5, 32, 3, 4)}
			}
			train := func(look func(tr *trainer, l methods.Line) (float64, error)) ([]float32, []float32) {
				r := parseRecipe(t, smallText, append([]string{"optimizer.momentum=0", "optimizer.weight_decay=0", "batch.size=64"}, sets...)...)
				tr := startTrainer(t, r, pair, 2, &tape{})
				withLooker(t, tr, func(l methods.Line) (float64, error) { return look(tr, l) })
				for range 5 {
					if err := tr.tryUpdate(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				return read(tr.fleet.params), read(tr.fleet.state)
			}
			params, state := train(func(tr *trainer, l methods.Line) (float64, error) {
				sum := read(tr.line.sum)
				at, err := l.LossAt(0)
				if err != nil {
					return 0, err
				}
				near(t, "the loss at no distance", at, l.Loss(), 1e-6*math.Max(1, l.Loss()))
				if _, err := l.Curvature(0.3); err != nil {
					return 0, err
				}
				far, err := l.LossAt(0.1)
				if far == at {
					t.Errorf("the loss far away is the same, %g", far)
				}
				if !slices.Equal(read(tr.line.sum), sum) {
					t.Error("the sum of the gradients changed")
				}
				return 0.1, err
			})
			var place []float32
			plain, plainState := train(func(tr *trainer, l methods.Line) (float64, error) {
				if _, err := l.LossAt(0.1); err != nil {
					return 0, err
				}
				place = read(tr.line.place)
				return 0.1, nil
			})
			if !slices.Equal(params, plain) || !slices.Equal(state, plainState) {
				t.Error("a look at the line changed the training")
			}
			if !slices.Equal(place, plain) {
				t.Error("the place on the line is not that of the step")
			}
		})
	}
}

// On a short way the curvature along the line is that of the Hessian.
func TestCurvatureOfTheLineIsTheHessians(t *testing.T) {
	g := readMoments(t, "bigbatch-bb")
	r := parseRecipe(t, fmt.Sprintf("name: golden\ndata: {name: golden}\nmodel: {name: linear}\nbatch: {size: %d, leaf: %d}\n", g.Leaf*g.Leaves, g.Leaf))
	tr := startTrainerOn(t, r, g.pair(t), []kernels.Device{ref.New()}, Options{}, &tape{})
	var got, want float64
	withLooker(t, tr, func(l methods.Line) (rate float64, err error) {
		h, err := newHessian(tr.fleet, tr.fleet.train, tr.recent.indices, false, 1, 0)
		if err != nil {
			return 0, err
		}
		defer h.free()
		hv, err := h.NewVector()
		if err != nil {
			return 0, err
		}
		defer hv.Free()
		if err := h.Product(tr.line.sum, hv); err != nil {
			return 0, err
		}
		product, err := h.Dot(tr.line.sum, hv)
		if err != nil {
			return 0, err
		}
		want = product / (l.SquaredNorm() * tr.line.samples * tr.line.samples)
		got, err = l.Curvature(1e-4)
		return 0, err
	})
	step(t, tr)
	near(t, "the curvature", got, want, 1e-3*want)
}

func TestSearchAllocatesNothing(t *testing.T) {
	if devicetest.OnGPU() {
		t.Skip("calls of the GPU's driver allocate a little")
	}
	pair := &data.Pair{Train: synthetic(200*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for _, kind := range []string{"armijo", "bb"} {
		r := parseRecipe(t, smallText+"methods: [bigbatch: {max_batch: 64, step: "+kind+"}]", append([]string{"train.epochs=100"}, searching...)...)
		tr := startTrainer(t, r, pair, 2, &tape{})
		step(t, tr)
		if n := testing.AllocsPerRun(20, func() { step(t, tr) }); n != 0 {
			t.Errorf("%s: %g allocations per step; want 0", kind, n)
		}
	}
}

// A search is of the loss along its gradient: what would change one of the two, or the rate, is refused.
func TestSearchRefusesOthers(t *testing.T) {
	pair := &data.Pair{Train: synthetic(64*2, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for change, want := range map[string]string{
		"optimizer.momentum=0.9":                "optimizer.momentum is 0.9 and must be 0",
		"optimizer.weight_decay=0.001":          "optimizer.weight_decay is 0.001 and must be 0",
		"schedule.name=cosine":                  "finds the learning rate itself: set schedule.name constant",
		"schedule.warmup_epochs=1":              "finds the learning rate itself: set schedule.name constant",
		"methods=[BB, sam: {}]":                 "both control the second gradient",
		"methods=[BB, lars: {}]":                "both control the step rule",
		"methods=[BB, autowu: {}]":              "both control the schedule",
		"methods=[BB, clip: {}]":                "a learning rate is searched for along the gradient as it is",
		"methods=[BB, batchaug: {copies: 2}]":   "a learning rate is searched for on plain leaves only",
		"methods=[BB, noise: {base_batch: 32}]": "both control the sample weights",
		"model.name=local-cnn":                  "which that of model local-cnn is not",
		"methods=[bigbatch: {step: newton}]":    "methods.bigbatch.step is newton: must be fixed, armijo or bb",
		"methods=[BB, vrsgd: {}]":               "both control the damping",
	} {
		method := "bigbatch: {max_batch: 64, step: bb}"
		sets := append(slices.Clone(searching), "methods=["+method+"]", strings.ReplaceAll(change, "BB", method))
		r := parseRecipe(t, smallText, sets...)
		net, err := newNetwork(r.Model.Name, pair.Train)
		if err != nil {
			t.Fatal(err)
		}
		f, err := newFleet(net, devicetest.Open(t, 1), configOf(r, Options{}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.close)
		if err := f.load(pair, false); err != nil {
			t.Fatal(err)
		}
		if _, err := newTrainer(f, r, &tape{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v; want one with %q", change, err, want)
		}
	}
}
