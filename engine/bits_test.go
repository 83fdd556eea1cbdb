package engine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"broadside/cgo/cpu"
	"broadside/engine/checkpoint"
	"broadside/engine/recipe"
	"broadside/kernels"
)

var renewBits = flag.Bool("update", false, "write testdata/bits.json anew")

// bitsFile pins what the trainings of TestBits compute. testdata/README.md says when it may change.
const bitsFile = "../testdata/bits.json"

// pinned is what a small training leaves: its loss after each epoch, and CRC-32 checksums.
type pinned struct {
	Loss       []float64 `json:"loss"`
	Parameters string    `json:"parameters"`
	Statistics string    `json:"statistics"` // running mean and variance of batch normalisation
	Optimizer  string    `json:"optimizer"`  // momentum and all else that the run keeps for its next update
	Measured   string    `json:"measured"`   // by evaluations and methods, after each epoch
}

// bitsRun is a training that TestBits pins.
type bitsRun struct {
	method  string   // of the settings or the variants, or ""
	methods string   // or a list of methods
	sets    []string // further changes of the small recipe
	nanAt   int64    // the update that begins after so many leaves has a loss of NaN; 0: none has
}

// combinations are trainings in which one feature of an update meets another. Each is here because some change of what
// is computed would be seen by it alone: where SAM's second gradient has its adversarial examples, say, or which of two
// gradients the methods are told the moments of.
var combinations = map[string]bitsRun{
	"sam + pgd":                          {methods: "sam: {rho: 2}, pgd: {epsilon: 0.1, iterations: 2, mix: 0.5}"},
	"sam + gns":                          {methods: "sam: {rho: 2}, gns: {control: true, ema: 0.5, max_batch: 256}"},
	"sam per lane + vrsgd":               {methods: "sam: {rho: 2, per_lane: true}, vrsgd: {}", sets: needs["vrsgd"]},
	"gns + vrsgd + clars, guarded":       {methods: "gns: {control: true, ema: 0.5, max_batch: 288}, vrsgd: {}, clars: {max_ratio: 0.5}", sets: slices.Concat(needs["vrsgd"], variants["guarded"])},
	"sgs + vrsgd + clip":                 {methods: "sgs: {every: 1, samples: 64}, vrsgd: {}, clip: {max_norm: 0.5}", sets: needs["vrsgd"]},
	"bigbatch with armijo, guarded":      {method: "bigbatch, armijo", sets: variants["guarded"]},
	"batchaug with norms of copies+cblr": {methods: "batchaug: {copies: 3, adapt_grad_norm: 2}, cblr: {estimator: secant, coefficient: 0.1}"},
	"sam + swap":                         {methods: "sam: {rho: 2}, " + settings["swap"]},
	"smallloss by percentile":            {methods: "smallloss: {keep: 0.5, rule: percentile}", sets: needs["smallloss"]},
	"dropout":                            {sets: []string{"model.name=dropout"}},
	"nesterov, warm-up, cosine":          {sets: []string{"optimizer.nesterov=true", "schedule={name: cosine, at: [], warmup_epochs: 1}"}},
	"poly":                               {sets: []string{"schedule={name: poly, at: [], power: 1.5}"}},
	"cyclic":                             {sets: []string{"schedule={name: cyclic, at: []}"}},
	"NaN, skipped":                       {nanAt: 32, sets: []string{"train.on_anomaly=skip"}},
	"NaN, rolled back":                   {nanAt: 32, sets: []string{"train.on_anomaly=rollback", "checkpoint.every_updates=3"}},
}

// bitsRuns returns every method, every variant and every combination by name.
func bitsRuns() map[string]bitsRun {
	runs := maps.Clone(combinations)
	for _, name := range allMethods() {
		runs[cmp.Or(name, "sgd")] = bitsRun{method: name}
	}
	return runs
}

// onlyMeasures are the methods that leave training as it is. What they measure is pinned.
var onlyMeasures = []string{"distance", "structure"}

// TestBits holds every training to the values of an earlier commit, to the bit: testdata/bits.json has them. The kernels
// are those of the base instruction set, which every x86-64 processor runs alike. An update has eight leaves of eight
// samples in four lanes, so that the order of every sum counts; one device, two, and two memories must all give the
// pinned values.
//
// A change that alters what training computes says so in docs/adr/ and writes the file anew, in a commit of its own:
//
//	go test ./engine -run '^TestBits$' -update
func TestBits(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the pinned values are those of x86-64's base instruction set")
	}
	var mu sync.Mutex
	runs, got := bitsRuns(), map[string]pinned{}
	t.Run("train", func(t *testing.T) {
		for _, name := range slices.Sorted(maps.Keys(runs)) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				first := bitsOf(runs[name].train(t, 1, 1))
				mu.Lock()
				got[name] = first
				mu.Unlock()
				for _, layout := range [][2]int{{1, 2}, {2, 1}} {
					if b := bitsOf(runs[name].train(t, layout[0], layout[1])); !first.equal(b) {
						t.Errorf("on %d memories of %d devices: %+v; on one device %+v", layout[0], layout[1], b, first)
					}
				}
			})
		}
	})
	checkBitsDiffer(t, got)
	if *renewBits && !t.Failed() {
		writeBits(t, got)
	}
	compareBits(t, got)
}

func (run bitsRun) recipe(t *testing.T) *recipe.Recipe {
	t.Helper()
	sets := slices.Concat(variants[run.method], needs[run.method], run.sets,
		[]string{"batch.leaf=8", "batch.ghost=8", "batch.lanes=4"})
	text := smallText
	switch method := settings[run.method]; {
	case run.methods != "":
		text += "methods: [" + run.methods + "]\n"
	case method != "":
		text += "methods: [" + method + "]\n"
	}
	return parseRecipe(t, text, sets...)
}

// train runs to the end of the recipe.
func (run bitsRun) train(t *testing.T, memories, each int) (*tape, *checkpoint.Checkpoint) {
	t.Helper()
	var devices []kernels.Device
	for i := range memories * each {
		d, err := cpu.New("scalar")
		if err != nil {
			t.Fatal(err)
		}
		if memories > 1 {
			d.Apart(i / each)
		}
		devices = append(devices, d)
	}
	r, s := run.recipe(t), &tape{}
	tr := startTrainerOn(t, r, smallPair(r), devices, Options{}, s)
	if run.nanAt > 0 {
		tr.weigher = &spoiled{tr: tr, spoil: map[int64]float32{run.nanAt: nan}}
	}
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	return s, s.checkpoints[len(s.checkpoints)-1]
}

// bitsOf takes the checksums of a run's last checkpoint and of its records.
func bitsOf(s *tape, ck *checkpoint.Checkpoint) (b pinned) {
	parameters, statistics, optimizer, measured := crc32.NewIEEE(), crc32.NewIEEE(), crc32.NewIEEE(), crc32.NewIEEE()
	for _, name := range slices.Sorted(maps.Keys(ck.Tensors)) {
		to := parameters
		switch {
		case strings.HasPrefix(name, optimizerPrefix):
			to = optimizer
		case slices.ContainsFunc(runningSuffixes, func(suffix string) bool { return strings.HasSuffix(name, suffix) }):
			to = statistics
		case strings.HasSuffix(name, ".num_batches_tracked"):
			continue // the number of updates
		}
		fmt.Fprintln(to, name)
		for _, v := range ck.Tensors[name].Data().([]float32) {
			fmt.Fprintf(to, "%08x", math.Float32bits(v))
		}
	}
	for _, e := range s.epochs {
		b.Loss = append(b.Loss, e.TrainLoss)
		fmt.Fprintln(measured, e.Epoch, e.Updates, e.Batch, e.LR, e.TrainAccuracy, e.AttackFraction, e.GradPasses, e.HVPs)
		for _, v := range []*float64{e.TestLoss, e.TestAccuracy, e.Eigenvalue} {
			if v != nil {
				fmt.Fprintln(measured, *v)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(e.Values)) {
			fmt.Fprintln(measured, key, e.Values[key])
		}
	}
	sum := func(h interface{ Sum32() uint32 }) string { return fmt.Sprintf("%08x", h.Sum32()) }
	b.Parameters, b.Statistics, b.Optimizer, b.Measured = sum(parameters), sum(statistics), sum(optimizer), sum(measured)
	return b
}

func (b pinned) equal(o pinned) bool {
	return slices.Equal(b.Loss, o.Loss) && b.Parameters == o.Parameters && b.Statistics == o.Statistics && b.Optimizer == o.Optimizer && b.Measured == o.Measured
}

// checkBitsDiffer finds trainings that are no test of their method, since they train like plain SGD.
func checkBitsDiffer(t *testing.T, got map[string]pinned) {
	t.Helper()
	for name, b := range got {
		if name == "sgd" {
			continue
		}
		trains := b.Parameters != got["sgd"].Parameters || b.Statistics != got["sgd"].Statistics
		if measures := slices.Contains(onlyMeasures, name); trains == measures {
			t.Errorf("%s: trains unlike plain SGD is %t: choose settings with which the method acts", name, trains)
		}
		if b.Measured == got["sgd"].Measured {
			t.Errorf("%s: the records are those of plain SGD", name)
		}
	}
}

// compareBits names what differs from the pinned values.
func compareBits(t *testing.T, got map[string]pinned) {
	t.Helper()
	raw, err := os.ReadFile(bitsFile)
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v: write it with -update", err)
	}
	var want map[string]pinned
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatalf("%s: %v", bitsFile, err)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[name]
		if w := want[name]; !ok {
			t.Errorf("%s is pinned but not trained", name)
		} else if !g.equal(w) {
			t.Errorf("%s: %+v; pinned are %+v", name, g, w)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s has no pinned values: write them with -update, in a commit that says what is new", name)
		}
	}
}

// writeBits writes the pinned file, an entry a line.
func writeBits(t *testing.T, got map[string]pinned) {
	t.Helper()
	var out bytes.Buffer
	before := "{"
	for _, name := range slices.Sorted(maps.Keys(got)) {
		key, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		value, err := json.Marshal(got[name])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\n%s: %s", before, key, value)
		before = ","
	}
	out.WriteString("\n}\n")
	if err := os.WriteFile(bitsFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
