package engine

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// goldenTrainings are what PyTorch makes of a small network, in float64: testdata/golden/make_second_gradient.py and
// make_ghost_norm.py.
type goldenTrainings struct {
	Batch, Leaf, Ghost, Lanes, Classes int
	LR, Momentum                       float64
	WeightDecay                        float64 `json:"weight_decay"`
	Smoothing                          float64 `json:"label_smoothing"`
	Shape                              [3]int
	Images                             string // hexadecimal
	Labels                             []int32
	Shapes                             map[string][]int
	Start                              map[string][]float32
	Cases                              map[string]struct {
		Method  string
		Running string
		Loss    float64 `json:"train_loss"`
		Tensors map[string][]float64
	}
}

func readTrainings(t *testing.T, file string) (g goldenTrainings) {
	t.Helper()
	raw, err := os.ReadFile("../testdata/golden/" + file)
	if err == nil {
		err = json.Unmarshal(raw, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestSecondGradientAgreesWithPyTorch trains the network in float64, and in float32 on two devices.
func TestSecondGradientAgreesWithPyTorch(t *testing.T) {
	g := readTrainings(t, "second_gradient.json")
	for name, c := range g.Cases {
		t.Run(name, func(t *testing.T) {
			// In float64 the learning rate, the displacement's factor and what is read at the end are single precision.
			g.check(t, []kernels.Device{ref.New()}, 1e-6, c.Method, c.Loss, c.Tensors)
			g.check(t, devicetest.Open(t, 2), 1e-5, c.Method, c.Loss, c.Tensors)
		})
	}
}

func (g *goldenTrainings) check(t *testing.T, devices []kernels.Device, tolerance float64, method string, loss float64, want map[string][]float64, sets ...string) {
	t.Helper()
	r := parseRecipe(t, fmt.Sprintf(`
name: golden
data: {name: synthetic}
model: {name: cnn}
train: {epochs: 1, seed: 3, label_smoothing: %g}
batch: {size: %d, leaf: %d, ghost: %d, lanes: %d}
optimizer: {lr: %g, momentum: %g, weight_decay: %g}
methods: [%s]
`, g.Smoothing, g.Batch, g.Leaf, g.Ghost, g.Lanes, g.LR, g.Momentum, g.WeightDecay, method), sets...)
	s := &tape{}
	tr := startTrainerOn(t, r, &data.Pair{Train: g.set(t), Test: synthetic(8, g.Shape[1], g.Shape[0], g.Classes)}, devices, Options{}, s)
	if err := tr.fleet.loadNetwork(g.start()); err != nil {
		t.Fatal(err)
	}
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	near(t, "the training loss", s.epochs[0].TrainLoss, loss, tolerance)
	for name, values := range want {
		got := s.checkpoints[0].Tensors[name].Data().([]float32)
		for i, v := range values {
			near(t, fmt.Sprintf("%s[%d] on %s", name, i, devices[0].Name()), float64(got[i]), v, tolerance*(1+math.Abs(v)))
		}
	}
}

// set is the data, in the order in which the first epoch visits them.
func (g *goldenTrainings) set(t *testing.T) *data.Set {
	t.Helper()
	images, err := hex.DecodeString(g.Images)
	if err != nil {
		t.Fatal(err)
	}
	n := len(g.Labels)
	set := &data.Set{Name: "synthetic", H: g.Shape[1], W: g.Shape[2], C: g.Shape[0], Classes: g.Classes,
		Images: make([]byte, len(images)), Labels: make([]int32, n)}
	order, err := data.NewSampler(n, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	pixels, at := len(images)/n, make([]int32, 1)
	for i := range n {
		order.Leaf(0, i, at)
		copy(set.Images[int(at[0])*pixels:], images[i*pixels:(i+1)*pixels])
		set.Labels[at[0]] = g.Labels[i]
	}
	return set
}

func (g *goldenTrainings) start() *checkpoint.Checkpoint {
	ck := &checkpoint.Checkpoint{Tensors: map[string]*tensor.Dense{}}
	for name, values := range g.Start {
		ck.Tensors[name] = tensor.New(tensor.WithShape(g.Shapes[name]...), tensor.WithBacking(values))
	}
	return ck
}

// The place of SAM's second gradient for the quadratic w'Aw/2, whose gradient is Aw: w + rho Aw/|Aw|.
func TestAscentOnAQuadratic(t *testing.T) {
	pair := &data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(8, 8, 3, 4)}
	tr := startTrainerOn(t, parseRecipe(t, smallText+"methods: [sam: {}]"), pair, []kernels.Device{ref.New()}, Options{}, &tape{})
	f := tr.fleet
	const rho, samples = 0.7, 64
	w, sum := read(f.params), make([]float32, f.net.ParamCells())
	norm := 0.0
	a := func(i int) float64 { return float64(1+i%5) / 4 }
	for i, v := range w {
		sum[i] = float32(samples * a(i) * float64(v))
		norm += math.Pow(a(i)*float64(v), 2)
	}
	norm = math.Sqrt(norm)
	f.sums[0].WriteFloats(0, sum)
	if err := tr.twice.displace(rho, samples, 1); err != nil {
		t.Fatal(err)
	}
	moved := 0.0
	for i, v := range read(tr.twice.places[0]) {
		want := float64(w[i]) + rho*a(i)*float64(w[i])/norm
		near(t, fmt.Sprintf("cell %d", i), float64(v), want, 1e-7*(1+math.Abs(want)))
		moved += math.Pow(float64(v)-float64(w[i]), 2)
	}
	near(t, "the distance", math.Sqrt(moved), rho, 1e-6)
}

// An update leaves the parameters alone until its step, and the running statistics are those of the first pass.
func TestSecondGradientLeavesNoTrace(t *testing.T) {
	for _, method := range []string{"", "sam: {rho: 10}", "extrap: {inner_rate: 100}"} {
		tr := startUpdate(t, "methods: ["+method+"]")
		before := read(tr.fleet.params)
		if _, err := tr.twice.gradient(control{tr}, methods.Update{LR: 0.05, Samples: tr.pending.samples}, tr.pending.places, tr.pending.samples); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(read(tr.fleet.params), before) {
			t.Errorf("%q: the parameters changed", method)
		}
		sum, err := tr.fleet.reduce.finish(tr.fleet.sums, tr.pending.leaves)
		if err != nil {
			t.Fatal(err)
		}
		gradient := read(sum)
		if err := tr.fleet.foldStats(tr.pending.leaves); err != nil {
			t.Fatal(err)
		}
		plain := startUpdate(t, "")
		if sum, err = plain.fleet.reduce.finish(plain.fleet.sums, plain.pending.leaves); err != nil {
			t.Fatal(err)
		}
		if slices.Equal(read(sum), gradient) != (method == "") {
			t.Errorf("%q: the gradient is that of the first pass: %t", method, method != "")
		}
		if err := plain.fleet.foldStats(plain.pending.leaves); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(read(tr.fleet.state), read(plain.fleet.state)) {
			t.Errorf("%q: other running statistics", method)
		}
	}
}

// startUpdate computes the leaves of an update that spans two epochs.
func startUpdate(t *testing.T, more string) *trainer {
	t.Helper()
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(8, 8, 3, 4)}
	tr := startTrainer(t, parseRecipe(t, smallText+more, "batch.size=320"), pair, 2, &tape{})
	tr.at.Leaf = 5
	for range 2 {
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		if tr.at.Leaf == tr.sampler.LeavesPerEpoch() {
			if err := tr.endEpoch(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if tr.pending.leaves != 10 {
		t.Fatalf("%d leaves; want 10", tr.pending.leaves)
	}
	return tr
}

// In a single lane the gradient of the lane is that of the update; in several it is not.
func TestAscentOfOneLane(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(8, 8, 3, 4)}
	for _, adaptive := range []string{"false", "true"} {
		for lanes, same := range map[string]bool{"1": true, "4": false} {
			train := func(perLane string) []float32 {
				text := smallText + "methods: [sam: {rho: 1, adaptive: " + adaptive + ", per_lane: " + perLane + "}]"
				tr := startTrainer(t, parseRecipe(t, text, "batch.lanes="+lanes), pair, 1, &tape{})
				for range 2 {
					step(t, tr)
				}
				return read(tr.fleet.params)
			}
			if slices.Equal(train("false"), train("true")) != same {
				t.Errorf("adaptive %s, %s lanes: the same update is %t; want %t", adaptive, lanes, !same, same)
			}
		}
	}
}

// The second pass, at no distance, sees the samples of the first: the same augmentation, the same attack, leaves of two
// epochs, and sums that a growing batch has scaled in between.
func TestSecondPassSeesTheSameSamples(t *testing.T) {
	for _, method := range []string{"sam: {rho: 0}", "sam: {rho: 0, per_lane: true}", "extrap: {inner_rate: 0}"} {
		sums := func(more string) []float32 {
			pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(8, 8, 3, 4)}
			r := parseRecipe(t, smallText+"methods: [absa: {max_batch: 3200, attack_fraction: 0.5, epsilon: 0.1}"+more+"]", "batch.size=128", "train.epochs=6")
			tr := startTrainer(t, r, pair, 2, &tape{})
			for range 2 { // updates that change parameters and running statistics
				step(t, tr)
			}
			tr.at.Leaf = 9
			if err := tr.computeLeaves(); err != nil {
				t.Fatal(err)
			}
			if err := tr.endEpoch(); err != nil {
				t.Fatal(err)
			}
			if err := (control{tr}).SetBatch(32*12, methods.KeepWeights, "test"); err != nil {
				t.Fatal(err)
			}
			if err := tr.computeLeaves(); err != nil {
				t.Fatal(err)
			}
			passes, err := tr.twice.gradient(control{tr}, methods.Update{LR: 0.05, Samples: tr.pending.samples}, tr.pending.places, tr.pending.samples)
			if err != nil {
				t.Fatal(err)
			}
			if want := int64(12 * (32 + 16)); more != "" && passes != want {
				t.Errorf("%s: %d passes; want %d", method, passes, want)
			}
			sum, err := tr.fleet.reduce.finish(tr.fleet.sums, tr.pending.leaves)
			if err != nil {
				t.Fatal(err)
			}
			return read(sum)
		}
		if !slices.Equal(sums(""), sums(", "+method)) {
			t.Errorf("%s: the second pass has another gradient", method)
		}
	}
}

// The second pass has the copies, the weights and the selection of the first.
func TestSecondPassWithOtherMethods(t *testing.T) {
	for _, other := range []string{"batchaug: {copies: 3}", "noise: {variance: 1, base_batch: 32}", "smallloss: {keep: 0.5}"} {
		for _, method := range []string{"sam: {rho: 0}", "extrap: {inner_rate: 0}"} {
			train := func(more string) []float32 {
				pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(8, 8, 3, 4)}
				r := parseRecipe(t, smallText+"methods: ["+other+more+"]", "batch.size=128", fmt.Sprint("batch.drop_last=", strings.Contains(other, "smallloss")))
				tr := startTrainer(t, r, pair, 2, &tape{})
				for range 2 {
					step(t, tr)
				}
				return read(tr.fleet.params)
			}
			if !slices.Equal(train(""), train(", "+method)) {
				t.Errorf("%s: %s at no distance changes the update", other, method)
			}
		}
	}
}

func TestSecondPassesAreCounted(t *testing.T) {
	s, _ := trainSmall(t, "sam", 1, 0, nil)
	// Three epochs of 11 leaves of 32 make 16 updates of 64, of which every second one computes its gradient twice.
	if got, want := s.epochs[2].GradPasses, int64(3*11*32+8*64); got != want {
		t.Errorf("%d gradient passes; want %d", got, want)
	}
}

func TestSecondGradientAllocatesNothing(t *testing.T) {
	if devicetest.OnGPU() {
		t.Skip("calls of the GPU's driver allocate a little")
	}
	for _, method := range []string{"sam: {}", "sam: {per_lane: true}", "extrap: {}"} {
		pair := &data.Pair{Train: synthetic(200*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
		tr := startTrainer(t, parseRecipe(t, smallText+"methods: ["+method+"]"), pair, 2, &tape{})
		step(t, tr)
		if n := testing.AllocsPerRun(20, func() { step(t, tr) }); n != 0 {
			t.Errorf("%s: %g allocations per step; want 0", method, n)
		}
	}
}

func TestTwoSecondGradientsAreRefused(t *testing.T) {
	r := parseRecipe(t, smallText+"methods: [sam: {}, extrap: {}]")
	if _, err := openMethods(r); err == nil || err.Error() != "methods sam and extrap both control the second gradient: keep one of them" {
		t.Errorf("error %v", err)
	}
}
