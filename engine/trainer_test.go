package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
	"broadside/kernels"
	"broadside/kernels/philox"
	"broadside/models"
)

func parseRecipe(t testing.TB, text string, sets ...string) *recipe.Recipe {
	t.Helper()
	r, err := recipe.Parse("test.yaml", []byte(text), sets)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// synthetic is a set of n images whose pixels and labels are random but related.
func synthetic(n, size, channels, classes int) *data.Set {
	s := philox.NewStream(1, 99, 0, uint32(n), 0)
	set := &data.Set{Name: "synthetic", H: size, W: size, C: channels, Classes: classes}
	for range n {
		label := s.Intn(classes)
		set.Labels = append(set.Labels, int32(label))
		for range size * size * channels {
			set.Images = append(set.Images, byte(s.Intn(128)+label*127/classes))
		}
	}
	return set
}

// tape keeps what a trainer tells it.
type tape struct {
	epochs      []telemetry.Epoch
	events      []telemetry.Event
	steps       []telemetry.Step
	updates     []telemetry.Event
	keepSteps   bool
	checkpoints []*checkpoint.Checkpoint
	stopAt      int // cancel after this update
	stopEpoch   int // or at the end of this epoch
	cancel      context.CancelFunc
}

func (s *tape) Step(e telemetry.Step) {
	if s.keepSteps {
		s.steps = append(s.steps, e)
	}
	if s.stopAt > 0 && e.Updates == s.stopAt {
		s.cancel()
	}
}
func (s *tape) Epoch(e telemetry.Epoch) error {
	s.epochs = append(s.epochs, e)
	if e.Epoch == s.stopEpoch {
		s.cancel()
	}
	return nil
}
func (s *tape) Event(e telemetry.Event) error {
	switch {
	case e.Type != telemetry.TypeUpdate:
		s.events = append(s.events, e)
	case s.keepSteps:
		s.updates = append(s.updates, e)
	}
	return nil
}
func (s *tape) Hold(t *trainer) (keep func() error, err error) {
	ck, err := t.save(nil)
	epochs, events, updates := len(s.epochs), len(s.events), len(s.updates)
	return func() error {
		s.epochs, s.events, s.updates = s.epochs[:epochs], s.events[:events], s.updates[:updates]
		s.checkpoints = append(s.checkpoints, ck)
		return nil
	}, err
}
func (s *tape) Newest(t *trainer) (*checkpoint.Checkpoint, error) {
	for _, ck := range slices.Backward(s.checkpoints) {
		var at progress
		if err := decode(ck, metaProgress, &at); err != nil {
			return nil, err
		}
		if at.Updates%t.cfg.checkpointEvery == 0 {
			return ck, nil
		}
	}
	return nil, fs.ErrNotExist
}

func startTrainer(t testing.TB, r *recipe.Recipe, pair *data.Pair, devices int, s *tape) *trainer {
	t.Helper()
	return startTrainerOn(t, r, pair, devicetest.Open(t, devices), Options{}, s)
}

func startTrainerOn(t testing.TB, r *recipe.Recipe, pair *data.Pair, devices []kernels.Device, o Options, s *tape) *trainer {
	t.Helper()
	set := pair.Train
	build := func() (*graph.Network, error) {
		n := graph.New(r.Model.Name, graph.Dims{H: set.H, W: set.W, C: set.C}, set.Classes)
		switch r.Model.Name {
		case "linear":
			return n.Build(n.Linear("fc", n.In(), set.Classes))
		case "cnn":
			x := n.ReLU(n.BatchNorm("bn", n.Conv2D("conv", n.In(), 5, graph.Square(3, 1, 1), graph.ConvOptions{})))
			return n.Build(n.Linear("fc", n.GlobalAvgPool(x), set.Classes))
		case "two":
			x := n.ReLU(n.BatchNorm("bn", n.Conv2D("conv1", n.In(), 3, graph.Square(3, 1, 1), graph.ConvOptions{})))
			x = n.ReLU(n.Conv2D("conv2", x, 4, graph.Window{R: 5, S: 3, StrideH: 1, StrideW: 1, PadH: 2, PadW: 1}, graph.ConvOptions{}))
			return n.Build(n.Linear("fc", n.GlobalAvgPool(x), set.Classes))
		case "blocks":
			x, features := n.In(), []graph.Value{}
			for i, k := range []int{3, 5} {
				name := fmt.Sprintf("block%d.", i+1)
				x = n.ReLU(n.Conv2D(name+"conv", x, k, graph.Square(3, 1, 1), graph.ConvOptions{Bias: true}))
				x = n.BatchNorm(name+"bn", n.MaxPool(x, graph.Square(2, 2, 0)))
				features = append(features, n.Detach(x))
			}
			n.Freeze()
			n.Local(n.LinearWithoutBias("head1", features[0], set.Classes))
			return n.Build(n.LinearWithoutBias("head2", features[1], set.Classes))
		case "dropout":
			x := n.ReLU(n.BatchNorm("bn", n.Conv2D("conv", n.In(), 8, graph.Square(3, 1, 1), graph.ConvOptions{})))
			return n.Build(n.Linear("fc", n.Dropout(n.GlobalAvgPool(n.MaxPool(x, graph.Square(2, 2, 0))), 0.5), set.Classes))
		case "mlp":
			return n.Build(n.Linear("fc2", n.ReLU(n.BatchNorm("bn", n.Linear("fc1", n.In(), 7))), set.Classes))
		case "smooth":
			return n.Build(n.Linear("fc2", n.BatchNorm("bn", n.Linear("fc1", n.In(), 7)), set.Classes))
		}
		return models.New(r.Model.Name, graph.Dims{H: set.H, W: set.W, C: set.C}, set.Classes)
	}
	net, err := build()
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFleet(net, devices, configOf(r, o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	if err := f.load(pair, false); err != nil {
		t.Fatal(err)
	}
	tr, err := newTrainer(f, r, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.free)
	return tr
}

// trainSmall runs the small recipe to its end, or to an update, and returns its last checkpoint.
func trainSmall(t *testing.T, method string, devices, stopAt int, from *checkpoint.Checkpoint) (*tape, *checkpoint.Checkpoint) {
	t.Helper()
	return trainSmallOn(t, method, devicetest.Open(t, devices), Options{}, stopAt, from)
}

func trainSmallOn(t *testing.T, method string, devices []kernels.Device, o Options, stopAt int, from *checkpoint.Checkpoint) (*tape, *checkpoint.Checkpoint) {
	t.Helper()
	r, s := smallRecipe(t, method), &tape{stopAt: stopAt, keepSteps: true}
	tr := startTrainerOn(t, r, smallPair(r), devices, o, s)
	if from != nil {
		if err := tr.restore(from); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.cancel = cancel
	if err := tr.train(ctx); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return s, s.checkpoints[len(s.checkpoints)-1]
}

// difference names the first thing in which two checkpoints differ, wall time aside.
func difference(a, b *checkpoint.Checkpoint) string {
	for name, x := range a.Tensors {
		y, ok := b.Tensors[name]
		if !ok {
			return name + " is missing"
		}
		u, floats := x.Data().([]float32)
		if !floats {
			continue
		}
		for i, v := range y.Data().([]float32) {
			if math.Float32bits(u[i]) != math.Float32bits(v) {
				return fmt.Sprintf("%s[%d]: %g and %g", name, i, u[i], v)
			}
		}
	}
	for key, x := range a.Meta {
		if key == metaProgress {
			var p, q progress
			if json.Unmarshal([]byte(x), &p) != nil || json.Unmarshal([]byte(b.Meta[key]), &q) != nil {
				return "unreadable progress"
			}
			p.WallSeconds, q.WallSeconds, p.WaitSeconds, q.WaitSeconds = 0, 0, 0, 0
			if p != q {
				return fmt.Sprintf("progress: %+v and %+v", p, q)
			}
		} else if x != b.Meta[key] {
			return fmt.Sprintf("%s: %s and %s", key, x, b.Meta[key])
		}
	}
	return ""
}

func TestDeviceCountDoesNotChangeBits(t *testing.T) {
	list, counts := allMethods(), []int{2, 3, 4, 8}
	if testing.Short() {
		list, counts = []string{"", "absa"}, []int{4}
	}
	for _, method := range list {
		t.Run(method, func(t *testing.T) {
			_, one := trainSmall(t, method, 1, 0, nil)
			for _, devices := range counts {
				if _, many := trainSmall(t, method, devices, 0, nil); difference(one, many) != "" {
					t.Errorf("on %d devices: %s", devices, difference(one, many))
				}
			}
		})
	}
}

func TestRerunIsBitEqual(t *testing.T) {
	_, first := trainSmall(t, "absa", 2, 0, nil)
	if _, again := trainSmall(t, "absa", 2, 0, nil); difference(first, again) != "" {
		t.Errorf("the same run again: %s", difference(first, again))
	}
}

func TestResumeIsBitEqual(t *testing.T) {
	list := allMethods()
	if testing.Short() {
		list = []string{"absa"}
	}
	everyStop := []string{"", "bf16", "tf32", "abs", "absa", "fb", "gg"}
	for i, method := range list {
		t.Run(method, func(t *testing.T) {
			whole, want := trainSmall(t, method, 2, 0, nil)
			last := whole.steps[len(whole.steps)-1].Updates
			for stop := 1; stop < last; stop++ {
				if testing.Short() && stop != 4 && stop != 8 { // in the middle of an epoch, under attack and after it
					continue
				}
				if stop%3 != i%3 && os.Getenv("BROADSIDE_LONG") == "" && !slices.Contains(everyStop, method) {
					continue
				}
				_, half := trainSmall(t, method, 2, stop, nil)
				if _, got := trainSmall(t, method, 1+stop%3, 0, half); difference(want, got) != "" {
					t.Errorf("resumed after update %d of %d: %s", stop, last, difference(want, got))
				}
			}
		})
	}
}

// A failure while stopping is a failure, not an orderly stop.
func TestFailureWhileStoppingIsReported(t *testing.T) {
	r, err := recipe.Load("quickstart", []string{"data.train_limit=640", "data.test_limit=100", "train.epochs=1"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	block := &blocker{dir: dir, cancel: cancel}
	if _, err := Train(ctx, r, Options{RunDir: dir, Progress: block}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want the checkpoint's failure", err)
	}
}

// blocker puts a file in the way of the checkpoints once training has begun, and asks for a stop.
type blocker struct {
	telemetry.Discard
	dir    string
	cancel context.CancelFunc
}

func (b *blocker) Step(telemetry.Step) {
	if err := os.WriteFile(filepath.Join(b.dir, checkpointDir), nil, 0o644); err != nil {
		panic(err)
	}
	b.cancel()
}

func TestRestoreRefusesAnotherModel(t *testing.T) {
	_, ck := trainSmall(t, "", 1, 1, nil)
	pair := &data.Pair{Train: synthetic(64, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	r := smallRecipe(t, "")
	r.Model.Name = "resnet14"
	if err := startTrainer(t, r, pair, 1, &tape{}).restore(ck); err == nil {
		t.Error("a checkpoint of resnet8 was accepted for resnet14")
	}
	r.Model.Name = "resnet8"
	delete(ck.Tensors, "fc.bias")
	if err := startTrainer(t, r, pair, 1, &tape{}).restore(ck); err == nil {
		t.Error("a checkpoint without fc.bias was accepted")
	}
}

// A method with its knob at zero is plain SGD, bit for bit.
func TestMethodsAtZeroAreSGD(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	run := func(method string) *checkpoint.Checkpoint {
		r := parseRecipe(t, smallText+"methods: ["+method+"]\n")
		s := &tape{}
		if err := startTrainer(t, r, pair, 1, s).train(context.Background()); err != nil {
			t.Fatal(err)
		}
		return s.checkpoints[0]
	}
	want := run("")
	for _, method := range []string{
		"absa: {max_batch: 64, attack_fraction: 0}",
		"absa: {max_batch: 128, patience: 100, eig_decrease: 1.0e+30, attack_fraction: 0.5, epsilon: 0, attack_until: 0}",
		"abs: {max_batch: 64}",
		"fb: {base_batch: 64, warmup_epochs: 0}",
		"gns: {}",
		"vrsgd: {gamma: 1}",
		"distance: {}",
		"structure: {every: 1}",
		"cabs: {max_batch: 64}",
		"bigbatch: {max_batch: 64}",
		"clip: {max_norm: 1.0e+30}",
		"agc: {lambda: 1.0e+30}",
		"sam: {rho: 0}",
		"sgs: {samples: 32, warmup_epochs: 3}",
		"sam: {rho: 0, adaptive: true}",
		"extrap: {inner_rate: 0}",
		"adabatch: {growth: 1, lr_factor: 1}",
		"adabatch: {growth: 1, lr_factor: 1, every: 3, warmup_epochs: 2, base_batch: 64}",
		"batchsched: {at: [1], factor: 1}",
		"batchaug: {copies: 1}",
		"noise: {variance: 0}",
		"regime: {base_batch: 64, longer: true}",
		"regime: {base_batch: 32, lr: none}",
		"fgsmrs: {epsilon: 0}",
		"fgsmrs: {epsilon: 0, early_stop: 1}",
		"pgd: {epsilon: 0, iterations: 2}",
		"free: {epsilon: 0, replays: 1}",
	} {
		got := run(method)
		for name, x := range want.Tensors {
			if a, ok := x.Data().([]float32); ok && !slices.Equal(a, got.Tensors[name].Data().([]float32)) {
				t.Errorf("%s: %s differs from plain SGD", method, name)
				break
			}
		}
	}
}

// With 50,000 samples in 390 leaves and no eigenvalue growth, the duration trigger alone sets the
// number of updates and the learning rates: the exact counts of the reference implementation.
func TestABSUpdateCountsAndLearningRates(t *testing.T) {
	train := synthetic(50000, 1, 1, 2)
	pair := &data.Pair{Train: train, Test: synthetic(10, 1, 1, 2)}
	for ratio, want := range map[int]int{1: 35100, 2: 19500, 4: 12675, 8: 9750, 16: 8531, 32: 8043, 64: 7860, 128: 7799} {
		if testing.Short() && ratio < 128 {
			continue
		}
		r := parseRecipe(t, fmt.Sprintf(`
name: counts
data: {name: synthetic}
model: {name: linear}
train: {epochs: 90, eval_every: 90}
batch: {size: 128}
optimizer: {lr: 0.1}
schedule: {name: step, at: [30, 60, 80], factor: 0.2}
checkpoint: {every_updates: 0}
methods:
  - abs: {max_batch: %d, eig_decrease: 1.0e+30, compat: hessianflow}
`, 128*ratio))
		s := &tape{keepSteps: ratio == 128}
		tr := startTrainer(t, r, pair, 2, s)
		if err := tr.train(context.Background()); err != nil {
			t.Fatal(err)
		}
		if tr.at.Updates != want {
			t.Errorf("largest batch %d x 128: %d updates; want %d", ratio, tr.at.Updates, want)
		}
		if ratio == 128 {
			checkRates(t, s.steps, []float64{.1, .2, .4, .16, .32, .64, .256, .512, .1024})
		}
	}
}

// checkRates compares the distinct learning rates, in order.
func checkRates(t *testing.T, steps []telemetry.Step, want []float64) {
	t.Helper()
	var got []float64
	for _, s := range steps {
		if len(got) == 0 || math.Abs(got[len(got)-1]-s.LR) > 1e-9 {
			got = append(got, s.LR)
		}
	}
	if !slices.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }) {
		t.Errorf("learning rates %v; want %v", got, want)
	}
}

// Updates of the fixed arms: floor(90 * 390 / ratio), since an update may span two epochs.
func TestFixedBatchUpdateCounts(t *testing.T) {
	pair := &data.Pair{Train: synthetic(50000, 1, 1, 2), Test: synthetic(10, 1, 1, 2)}
	for size, want := range map[int]int{16384: 274, 4096: 1096} {
		r := parseRecipe(t, fmt.Sprintf("data: {name: synthetic}\nname: bl\nmodel: {name: linear}\ntrain: {epochs: 90, eval_every: 90}\nbatch: {size: %d, leaf: 128}", size))
		s := &tape{keepSteps: true}
		tr := startTrainer(t, r, pair, 2, s)
		if err := tr.train(context.Background()); err != nil {
			t.Fatal(err)
		}
		if tr.at.Updates != want {
			t.Errorf("batch %d: %d updates; want %d", size, tr.at.Updates, want)
		}
		checkRates(t, s.steps, []float64{.1})
	}
}

func TestCarryOver(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for carry, want := range map[methods.Carry]float32{methods.Reweight: 1, methods.KeepWeights: 4} {
		tr := startTrainer(t, smallRecipe(t, ""), pair, 1, &tape{})
		tr.at.Batch = 32 * 4
		tr.at.Leaf = tr.sampler.LeavesPerEpoch() - 2 // the epoch ends in the middle of the update
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		before := read(tr.fleet.sums[1])
		if err := (control{tr}).SetBatch(32*16, carry, "test"); err != nil {
			t.Fatal(err)
		}
		for i, v := range read(tr.fleet.sums[1]) {
			if v != want*before[i] {
				t.Fatalf("carry %d: gradient sum %d went from %g to %g; want a factor of %g", carry, i, before[i], v, want)
			}
		}
		if tr.pending.leaves != 2 {
			t.Fatalf("%d leaves pending; want 2", tr.pending.leaves)
		}
	}
}

// A batch that shrinks below what is already summed makes the update at once.
func TestShrinkingBatchWithLeavesPending(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	s := &tape{keepSteps: true}
	tr := startTrainer(t, smallRecipe(t, ""), pair, 1, s)
	tr.at.Batch, tr.at.Leaf = 32*6, 7 // four leaves left of the epoch
	if err := tr.computeLeaves(); err != nil {
		t.Fatal(err)
	}
	if err := tr.endEpoch(); err != nil {
		t.Fatal(err)
	}
	if err := (control{tr}).SetBatch(32*2, methods.Reweight, "test"); err != nil {
		t.Fatal(err)
	}
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	if first := s.steps[0]; first.Samples != 4*32 || math.Abs(first.LR-0.05) > 1e-12 || math.IsNaN(first.Loss) {
		t.Errorf("first update %+v; want the 128 pending samples at the rate of their epoch, 0.05", first)
	}
	if want := 1 + 2*11/2; tr.at.Updates != want {
		t.Errorf("%d updates; want %d", tr.at.Updates, want)
	}
}

func TestAttackPassesAreCounted(t *testing.T) {
	s, _ := trainSmall(t, "absa", 1, 0, nil)
	// Three epochs of 11 leaves of 32. Attack: half of each leaf in the first epoch; int(3 * 0.5) = 1
	// epoch is under attack.
	last := s.epochs[len(s.epochs)-1]
	if want := int64(3*11*32 + 11*16); last.GradPasses != want {
		t.Errorf("%d gradient passes; want %d", last.GradPasses, want)
	}
	if last.HVPs == 0 {
		t.Error("no Hessian-vector products were counted")
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	if devicetest.OnGPU() {
		t.Skip("calls of the GPU's driver allocate a little")
	}
	pair := &data.Pair{Train: synthetic(200*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for _, method := range []string{"absa", "batchaug", "cblr", "clip", "lamb", "noise", "sgs", "smallloss", "fold mean", "guarded", "sync_bn, absa", "autoaugment", "conadv, autoaugment"} {
		r := smallRecipe(t, method)
		r.Train.Epochs = 100
		tr := startTrainer(t, r, pair, 2, &tape{})
		updateAllocatesNothing(t, method, tr)
	}
}

// updateAllocatesNothing checks updates behind the first, which makes what is kept.
func updateAllocatesNothing(t *testing.T, what string, tr *trainer) {
	t.Helper()
	step := func() {
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		if err := tr.update(); err != nil {
			t.Fatal(err)
		}
	}
	step()
	if n := testing.AllocsPerRun(20, step); n != 0 {
		t.Errorf("%s: %g allocations per step; want 0", what, n)
	}
}
