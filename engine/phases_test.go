package engine

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/data"
)

const swapText = "methods: [swap: {stop_accuracy: %g, workers: %d, epochs: 1, batch: 32, lr: 0.02, keep_momentum: %t}]"

// runSwap trains the small recipe with SWAP, or to an update; prepare may change the trainer first.
func runSwap(t *testing.T, stopAccuracy float64, workers, stopAt int, prepare func(*trainer)) (*tape, *checkpoint.Checkpoint) {
	t.Helper()
	return runSwapText(t, fmt.Sprintf(swapText, stopAccuracy, workers, false), stopAt, prepare)
}

func runSwapText(t *testing.T, methods string, stopAt int, prepare func(*trainer)) (*tape, *checkpoint.Checkpoint) {
	t.Helper()
	pair := &data.Pair{Train: synthetic(11*32+5, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	s := &tape{stopAt: stopAt, keepSteps: true}
	tr := startTrainer(t, parseRecipe(t, smallText+methods), pair, 2, s)
	if prepare != nil {
		prepare(tr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.cancel = cancel
	if err := tr.train(ctx); err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return s, s.checkpoints[len(s.checkpoints)-1]
}

// ended lists the phases that have ended, with the updates and epochs until then.
func ended(s *tape) (out []string) {
	for _, e := range s.events {
		if e.Phase != "" {
			out = append(out, fmt.Sprintf("%s at %d, %d", e.Phase, e.Updates, e.Epoch))
		}
	}
	return out
}

// The recipe's training ends with its epochs, or with the epoch that reaches the accuracy; leaves that are left of an
// update then are dropped. Three epochs of 11 leaves are 16 updates of two leaves, one is 5; a copy makes 11 of one.
func TestPhasesOfSWAP(t *testing.T) {
	for stop, want := range map[float64][]string{
		2:     {"the recipe's epochs at 16, 3", "replica 1 at 27, 4", "replica 2 at 38, 5", "average at 38, 5"},
		0.001: {"the recipe's epochs at 5, 1", "replica 1 at 16, 2", "replica 2 at 27, 3", "average at 27, 3"},
	} {
		s, _ := runSwap(t, stop, 2, 0, nil)
		if got := ended(s); !slices.Equal(got, want) {
			t.Errorf("stop at %g: %q; want %q", stop, got, want)
		}
		last := s.steps[len(s.steps)-11:]
		for i, u := range last { // poly of power 1: to 0 over the copy's epoch
			if want := 0.02 * (1 - float64(i)/11); math.Abs(u.LR-want) > 1e-12 || u.Samples != 32 {
				t.Errorf("update %d of a copy: %d samples at rate %g; want 32 at %g", i, u.Samples, u.LR, want)
			}
		}
	}
}

// tensorsOf returns a checkpoint's tensors that are parameters, or running statistics.
func tensorsOf(ck *checkpoint.Checkpoint, running bool) map[string][]float32 {
	out := map[string][]float32{}
	for name, d := range ck.Tensors {
		v, ok := d.Data().([]float32)
		if ok && !strings.HasPrefix(name, optimizerPrefix) && strings.Contains(name, ".running_") == running {
			out[name] = v
		}
	}
	return out
}

// The average of one copy is that copy, but for running statistics, which are computed anew.
func TestAverageOfOneCopy(t *testing.T) {
	_, end := runSwap(t, 0.001, 1, 0, nil)
	_, before := runSwap(t, 0.001, 1, 16, nil)
	for name, v := range tensorsOf(before, false) {
		if !slices.Equal(v, tensorsOf(end, false)[name]) {
			t.Errorf("%s changed", name)
		}
	}
	for name, v := range tensorsOf(before, true) {
		if slices.Equal(v, tensorsOf(end, true)[name]) {
			t.Errorf("%s is what the copy's training left", name)
		}
	}
}

// A copy's training is what a recipe of its own would do, from the end of the first phase.
func TestCopyIsASequentialRun(t *testing.T) {
	for _, rule := range []string{"", "lamb: {}"} {
		checkCopyIsASequentialRun(t, rule)
	}
}

func checkCopyIsASequentialRun(t *testing.T, rule string) {
	t.Helper()
	var seed uint64
	text := fmt.Sprintf(swapText, 0.001, 1, false)
	if rule != "" {
		text = strings.Replace(text, "[", "["+rule+", ", 1)
	}
	_, end := runSwapText(t, text, 0, func(tr *trainer) { seed = tr.phases.copies[0].Seed })
	_, first := runSwapText(t, text, 5, nil)
	r := parseRecipe(t, smallText+"methods: ["+rule+"]\n", "batch.size=32", "optimizer.lr=0.02", "schedule.name=poly", "schedule.power=1", "train.epochs=1", fmt.Sprintf("train.seed=%d", seed))
	pair := &data.Pair{Train: synthetic(11*32+5, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	s := &tape{}
	tr := startTrainer(t, r, pair, 2, s)
	if err := tr.fleet.loadNetwork(first); err != nil {
		t.Fatal(err)
	}
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	for name, v := range tensorsOf(s.checkpoints[0], false) {
		if !slices.Equal(v, tensorsOf(end, false)[name]) {
			t.Errorf("%s differs", name)
		}
	}
}

// The result is the mean of the copies as they were at their ends.
func TestAverageOfTwoCopies(t *testing.T) {
	_, end := runSwap(t, 0.001, 2, 0, nil)
	_, first := runSwap(t, 0.001, 2, 16, nil)
	_, second := runSwap(t, 0.001, 2, 27, nil)
	for name, v := range tensorsOf(end, false) {
		a, b := tensorsOf(first, false)[name], tensorsOf(second, false)[name]
		same := true
		for i := range v {
			same = same && a[i] == b[i]
			near(t, fmt.Sprintf("%s[%d]", name, i), float64(v[i]), (float64(a[i])+float64(b[i]))/2, 1e-6*(1+math.Abs(float64(a[i]))))
		}
		if same {
			t.Errorf("%s is the same in both copies", name)
		}
	}
}

// Two copies with one seed are the same copy: they start alike in all that matters.
func TestCopiesStartAlike(t *testing.T) {
	sameSeed := func(tr *trainer) { tr.phases.copies[1].Seed = tr.phases.copies[0].Seed }
	_, one := runSwap(t, 0.001, 1, 0, nil)
	_, two := runSwap(t, 0.001, 2, 0, sameSeed)
	for _, running := range []bool{false, true} {
		for name, v := range tensorsOf(one, running) {
			if !slices.Equal(v, tensorsOf(two, running)[name]) {
				t.Errorf("%s differs", name)
			}
		}
	}
}

// So they do beside methods that count updates or keep state of their own, which is each copy's.
func TestCopiesStartAlikeWithOtherMethods(t *testing.T) {
	for _, other := range []string{"lamb: {}", "sam: {rho: 0.5, interval: 2}", "cblr: {estimator: secant, coefficient: 0.1}", "noise: {variance: 1, base_batch: 32}"} {
		for _, keep := range []bool{false, true} {
			var ends []map[string][]float32
			for workers := 1; workers <= 2; workers++ {
				text := strings.Replace(fmt.Sprintf(swapText, 0.001, workers, keep), "methods: [", "methods: ["+other+", ", 1)
				_, end := runSwapText(t, text, 0, func(tr *trainer) { tr.phases.copies[workers-1].Seed = tr.phases.copies[0].Seed })
				ends = append(ends, tensorsOf(end, false))
			}
			for name, v := range ends[0] {
				if !slices.Equal(v, ends[1][name]) {
					t.Errorf("%s, keep_momentum %t: %s differs", other, keep, name)
					break
				}
			}
		}
	}
}

// A resume within a copy goes on counting where the copy stood.
func TestResumeOfACopyWithLAMB(t *testing.T) {
	text := smallText + strings.Replace(fmt.Sprintf(swapText, 0.001, 2, true), "[", "[lamb: {}, ", 1)
	want, _ := trainText(t, text, devicetest.Open(t, 2), 0, nil, nil)
	for _, stop := range []int{4, 8, 19} { // in the recipe's training, in the first copy and in the second
		half, _ := trainText(t, text, devicetest.Open(t, 2), stop, nil, nil)
		if got, _ := trainText(t, text, devicetest.Open(t, 1), 0, half, nil); difference(want, got) != "" {
			t.Errorf("resumed after update %d: %s", stop, difference(want, got))
		}
	}
}

// Adam's bias correction counts the updates that its moments have seen: of the copy, or of the recipe's training and the
// copy.
func TestUpdatesThatTheStepRuleCounts(t *testing.T) {
	for _, keep := range []bool{false, true} {
		pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(8, 8, 3, 4)}
		tr := startTrainer(t, parseRecipe(t, smallText+fmt.Sprintf(swapText, 0.001, 2, keep)), pair, 1, &tape{})
		var got []int
		for more := true; more; {
			for tr.at.Epoch < tr.cfg.epochs {
				if tr.epochDone() {
					if err := tr.endEpoch(); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if err := tr.computeLeaves(); err != nil {
					t.Fatal(err)
				}
				if tr.pending.leaves < tr.leavesPerUpdate() {
					continue
				}
				got = append(got, tr.stepNumber())
				if err := tr.update(); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			if more, err = tr.nextPhase(); err != nil {
				t.Fatal(err)
			}
		}
		var want []int // 5 updates of the recipe's, 11 of each copy
		for phase, updates := range []int{5, 11, 11} {
			for n := range updates {
				want = append(want, 1+n)
				if keep && phase > 0 {
					want[len(want)-1] += 5
				}
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("keep_momentum %t: the updates are counted %v; want %v", keep, got, want)
		}
	}
}

// What a checkpoint keeps of the phases matters: the sum of the copies so far, and where the next ones start.
func TestDroppedPhaseStateIsNoticed(t *testing.T) {
	_, want := trainSmall(t, "swap", 1, 0, nil)
	for _, name := range []string{"phase.sum.conv1.weight", "phase.start.conv1.weight", "phase.start.bn1.running_mean", "phase.start.momentum.conv1.weight"} {
		_, half := trainSmall(t, "swap", 1, 18, nil) // in the second copy, for the sum
		if !strings.Contains(name, "sum") {
			_, half = trainSmall(t, "swap", 1, 12, nil) // in the first
		}
		clear(half.Tensors[optimizerPrefix+name].Data().([]float32))
		// Running statistics are computed anew in the end: they matter to the accuracy of a copy alone.
		if _, got := trainSmall(t, "swap", 1, 0, half); difference(want, got) == "" && !strings.Contains(name, "running") {
			t.Errorf("a resume without %s went unnoticed", name)
		}
		delete(half.Tensors, optimizerPrefix+name)
		pair := &data.Pair{Train: synthetic(11*32+5, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
		err := startTrainer(t, smallRecipe(t, "swap"), pair, 1, &tape{}).restore(half)
		if err == nil || !strings.Contains(err.Error(), "the checkpoint has no tensor "+optimizerPrefix+name) {
			t.Errorf("a checkpoint without %s: %v", name, err)
		}
	}
}

func TestMomentumOfCopies(t *testing.T) {
	for _, keep := range []bool{false, true} {
		pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(8, 8, 3, 4)}
		tr := startTrainer(t, parseRecipe(t, smallText+fmt.Sprintf(swapText, 2.0, 2, keep)), pair, 1, &tape{})
		for range 2 {
			step(t, tr)
		}
		params, state, momentum := read(tr.fleet.params), read(tr.fleet.state), read(tr.updater.slots[0])
		tr.phases.take(tr)
		for range 2 {
			step(t, tr)
		}
		tr.at.Phase = 1
		tr.phases.put(tr)
		if !slices.Equal(read(tr.fleet.params), params) || !slices.Equal(read(tr.fleet.state), state) {
			t.Errorf("keep %t: a copy starts elsewhere", keep)
		}
		if !keep {
			clear(momentum)
		}
		if !slices.Equal(read(tr.updater.slots[0]), momentum) {
			t.Errorf("keep %t: other momentum", keep)
		}
	}
}

// After the recipe's phase a method that controls the batch rests, and so do attacks.
func TestMethodsRestWhileCopiesAreTrained(t *testing.T) {
	text := smallText + "methods: [absa: {max_batch: 6400, patience: 1, epsilon: 0.05, attack_fraction: 0.5, attack_until: 1}, swap: {stop_accuracy: 0.001, workers: 1, epochs: 2, batch: 32, lr: 0.02}]"
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	s := &tape{keepSteps: true}
	if err := startTrainer(t, parseRecipe(t, text), pair, 2, s).train(context.Background()); err != nil {
		t.Fatal(err)
	}
	last := s.epochs[len(s.epochs)-1]
	if want := int64(11*(32+16) + 2*11*32); last.GradPasses != want || last.HVPs != s.epochs[0].HVPs || last.HVPs == 0 {
		t.Errorf("%d gradient passes, %d products after %d; want %d passes", last.GradPasses, last.HVPs, s.epochs[0].HVPs, want)
	}
	for _, u := range s.steps[len(s.steps)-22:] {
		if u.Batch != 32 {
			t.Errorf("update %d has a batch of %d; want 32", u.Updates, u.Batch)
		}
	}
}

func TestPhasesThatCannotBeTrained(t *testing.T) {
	for batch, want := range map[int]string{48: "method swap: batch is 48: must be a multiple of batch.leaf, 32",
		384: "method swap: batch is 384, more than its 1 epochs of 96 samples: it would never update"} {
		r := parseRecipe(t, smallText+fmt.Sprintf("methods: [swap: {epochs: 1, batch: %d}]", batch), "data.name=fashion-mnist-small", "data.train_limit=100")
		if err := new(Checker).Check(r); err == nil || err.Error() != want {
			t.Errorf("error %v; want %s", err, want)
		}
	}
	r := parseRecipe(t, smallText+"methods: [swap: {epochs: 9, batch: 128}]", "data.name=fashion-mnist-small", "data.train_limit=100", "batch.drop_last=true")
	const want = "method swap: batch is 128, more than an epoch: with batch.drop_last true it would never update"
	if err := new(Checker).Check(r); err == nil || err.Error() != want {
		t.Errorf("error %v; want %s", err, want)
	}
}
