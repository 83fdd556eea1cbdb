package engine

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/telemetry"
)

// untold are the pieces of a checkpoint that a resume may lose without a trace, and why.
var untold = map[string]string{
	"progress wall_seconds":  "of the clock, which no two runs agree in",
	"progress wait_seconds":  "of the clock",
	"progress test_accuracy": "an evaluation follows before anything reads it",
	"progress test_loss":     "an evaluation follows before anything reads it",
	"fgsmrs before":          "the end of an epoch sets it anew before anything reads it",
}

// piece is a part of a checkpoint's state that can be dropped.
type piece struct {
	name       string
	drop       func(ck *checkpoint.Checkpoint)
	key, field string // where it is a field of metadata
}

// same reports whether nothing is lost with the piece: it has no other value than before the first update.
func (p piece) same(t *testing.T, dropped, half, start *checkpoint.Checkpoint) bool {
	t.Helper()
	if p.field == "" {
		return difference(dropped, half) == ""
	}
	now, first := fieldsOf(t, half.Meta[p.key])[p.field], fieldsOf(t, start.Meta[p.key])[p.field]
	return string(now) == string(first)
}

// pieces are all parts of a checkpoint's state: kinds of tensors, and the fields of what the trainer and each method keep.
func pieces(t *testing.T, ck *checkpoint.Checkpoint) (out []piece) {
	t.Helper()
	kinds := map[string][]string{}
	for name := range ck.Tensors {
		kind := kindOf(ck, name)
		kinds[kind] = append(kinds[kind], name)
	}
	delete(kinds, "batches tracked") // of PyTorch, for whom they are written
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		out = append(out, piece{name: kind, drop: func(ck *checkpoint.Checkpoint) {
			for _, name := range kinds[kind] {
				clear(ck.Tensors[name].Data().([]float32))
			}
		}})
	}
	for _, key := range slices.Sorted(maps.Keys(ck.Meta)) {
		name, own := strings.CutPrefix(key, metaMethod)
		switch {
		case key == metaProgress:
			name = "progress"
		case key == metaAhead:
			out = append(out, piece{name: key, drop: func(ck *checkpoint.Checkpoint) { ck.Meta[key] = "[]" }})
			continue
		case !own: // what kind of network and data it is of
			continue
		}
		for _, field := range slices.Sorted(maps.Keys(fieldsOf(t, ck.Meta[key]))) {
			out = append(out, piece{key: key, field: field, name: name + " " + field, drop: func(ck *checkpoint.Checkpoint) {
				fields := fieldsOf(t, ck.Meta[key])
				delete(fields, field)
				raw, err := json.Marshal(fields)
				if err != nil {
					t.Fatal(err)
				}
				ck.Meta[key] = string(raw)
			}})
		}
	}
	return out
}

// kindOf says what a tensor is of: the network, or the part of its name before that of a tensor of the network.
func kindOf(ck *checkpoint.Checkpoint, name string) string {
	rest, own := strings.CutPrefix(name, optimizerPrefix)
	switch {
	case strings.HasSuffix(name, ".num_batches_tracked"):
		return "batches tracked"
	case !own && (strings.HasSuffix(name, ".running_mean") || strings.HasSuffix(name, ".running_var")):
		return "running statistics"
	case !own:
		return "parameters"
	}
	for at := range rest {
		if at > 0 && rest[at-1] == '.' && ck.Tensors[rest[at:]] != nil {
			return rest[:at-1]
		}
	}
	return rest
}

func fieldsOf(t *testing.T, text string) (out map[string]json.RawMessage) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// copyOf copies a checkpoint.
func copyOf(ck *checkpoint.Checkpoint) *checkpoint.Checkpoint {
	out := &checkpoint.Checkpoint{Tensors: map[string]*tensor.Dense{}, Meta: maps.Clone(ck.Meta)}
	for name, d := range ck.Tensors {
		out.Tensors[name] = d.Clone().(*tensor.Dense)
	}
	return out
}

// noticed reports whether a resume of the small recipe fails, ends elsewhere, or tells other epochs than the whole run.
func noticed(t *testing.T, method string, from, want *checkpoint.Checkpoint, whole *tape) bool {
	t.Helper()
	r, s := smallRecipe(t, method), &tape{}
	tr := startTrainerOn(t, r, smallPair(r), devicetest.Open(t, 2), Options{}, s)
	if tr.restore(from) != nil || tr.train(context.Background()) != nil {
		return true
	}
	if difference(want, s.checkpoints[len(s.checkpoints)-1]) != "" || len(s.epochs) > len(whole.epochs) {
		return true
	}
	for i, e := range s.epochs {
		if toldOf(t, e) != toldOf(t, whole.epochs[len(whole.epochs)-len(s.epochs)+i]) {
			return true
		}
	}
	return false
}

// toldOf is what is told of an epoch, but for times.
func toldOf(t *testing.T, e telemetry.Epoch) string {
	t.Helper()
	e.WallSeconds, e.ImagesPerSecond, e.DataWait = 0, 0, nil
	text, err := e.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fresh is what a checkpoint would hold before the first update.
func fresh(t *testing.T, method string) *checkpoint.Checkpoint {
	t.Helper()
	r := smallRecipe(t, method)
	tr := startTrainerOn(t, r, smallPair(r), devicetest.Open(t, 1), Options{}, &tape{})
	ck, err := tr.save(nil)
	if err != nil {
		t.Fatal(err)
	}
	return ck
}

// The tests of resumes could pass if nothing mattered: for every method, each piece of what a checkpoint holds does, in a
// resume after one update or another; what the trainer keeps of every method, with one of them or another.
func TestEveryPieceOfStateMatters(t *testing.T) {
	list, all := []string{"", "absa", "conadv", "free", "gns", "swap"}, os.Getenv("BROADSIDE_LONG") != ""
	if all {
		list = allMethods()
	} else if testing.Short() {
		list = []string{"absa"}
	}
	seen, told := map[string]bool{}, map[string]bool{}
	ran := 0
	for _, method := range list {
		t.Run(method, func(t *testing.T) {
			ran++
			checkPieces(t, method, seen, told)
			for name := range seen {
				if own := !strings.HasPrefix(name, "progress "); own && !told[name] {
					t.Errorf("a resume without %s goes unnoticed", name)
				}
				if !strings.HasPrefix(name, "progress ") {
					delete(seen, name)
					delete(told, name)
				}
			}
		})
	}
	for name := range seen {
		if all && ran == len(list) && !told[name] {
			t.Errorf("with all methods a resume without %s goes unnoticed", name)
		}
	}
}

// checkPieces drops the pieces of a method's checkpoints until their loss is told.
func checkPieces(t *testing.T, method string, seen, told map[string]bool) {
	t.Helper()
	whole, want := trainSmall(t, method, 1, 0, nil)
	start := fresh(t, method)
	runs := 0
	for _, stop := range places(whole.steps[len(whole.steps)-1].Updates) {
		_, half := trainSmall(t, method, 1, stop, nil)
		if noticed(t, method, half, want, whole) {
			t.Fatalf("a resume after update %d without a loss ends elsewhere", stop)
		}
		for _, p := range pieces(t, half) {
			from := copyOf(half)
			p.drop(from)
			if told[p.name] || untold[p.name] != "" || p.same(t, from, half, start) {
				continue
			}
			seen[p.name] = true
			told[p.name] = noticed(t, method, from, want, whole)
			runs++
		}
	}
	t.Logf("%d pieces, %d resumes without one", len(seen), runs)
}

// A stop that is asked for while the leaves of an update are summed comes after the update, and the run goes on from
// there with other devices.
func TestStopInMidAccumulation(t *testing.T) {
	list := []string{"", "abs", "absa", "conadv", "gns", "sync_bn"}
	if os.Getenv("BROADSIDE_LONG") != "" {
		list = allMethods()
	}
	for i, method := range list {
		r := smallRecipe(t, method)
		if r.Batch.DropLast { // whose epochs end with an update
			continue
		}
		_, want := trainSmall(t, method, 1, 0, nil)
		s := &tape{stopEpoch: 1, keepSteps: true}
		tr := startTrainerOn(t, r, smallPair(r), devicetest.Open(t, 2), Options{}, s)
		ctx, cancel := context.WithCancel(context.Background())
		s.cancel = cancel
		if err := tr.train(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: %v", method, err)
		}
		var at progress
		half := s.checkpoints[len(s.checkpoints)-1]
		if err := decode(half, metaProgress, &at); err != nil {
			t.Fatal(err)
		}
		if at.Epoch != 1 || at.Leaf == 0 || at.Updates != s.epochs[0].Updates+1 {
			t.Errorf("%s: stopped at leaf %d of epoch %d, update %d after %d", method, at.Leaf, at.Epoch+1, at.Updates, s.epochs[0].Updates)
		}
		if _, got := trainSmall(t, method, 1+i%3, 0, half); difference(want, got) != "" {
			t.Errorf("%s: resumed: %s", method, difference(want, got))
		}
	}
}

// places are the updates to stop after, those in the middle first.
func places(last int) (out []int) {
	out = append(out, last/2, 3*last/4, last/4, last-1)
	for at := range last {
		out = append(out, at)
	}
	var once []int
	for _, at := range out {
		if at > 0 && !slices.Contains(once, at) {
			once = append(once, at)
		}
	}
	return once
}
