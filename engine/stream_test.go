package engine

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/data/pixels"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
	"broadside/kernels/philox"
)

// hidden is a source of images that are in memory after all. It takes its time with some of them.
type hidden struct {
	set    *data.Set
	name   string
	broken int32 // an image that cannot be decoded; 0: none
	pause  time.Duration
	always bool // with every image, not with some
}

func (h *hidden) Decode(dst []byte, i int, v data.View) error {
	if h.pause > 0 && (i%7 == 0 || h.always) {
		time.Sleep(h.pause)
	}
	if int32(i) == h.broken && i > 0 {
		return errors.New("image 7 is broken")
	}
	draw := pixels.Draw{Seed: v.Seed, Epoch: uint32(v.Epoch), Sample: uint32(i), Copy: uint32(v.Copy)}
	copy(dst, h.set.Image(i))
	if v.Crop { // something that depends on all that it may depend on
		words := philox.Philox4x32(philox.Key(v.Seed), philox.Counter(0, draw.Sample, draw.Epoch, philox.Augment, 1, draw.Copy))
		for k := range dst {
			dst[k] ^= byte(words[0] >> (k % 4) & 15)
		}
	}
	if v.Flip && draw.Mirrored() {
		row := h.set.W * h.set.C
		for at := 0; at < len(dst); at += row {
			for x := range h.set.W {
				copy(dst[at+x*h.set.C:at+(x+1)*h.set.C], h.set.Image(i)[at+(h.set.W-1-x)*h.set.C:])
			}
		}
	}
	return nil
}
func (h *hidden) Decoder() string            { return h.name }
func (h *hidden) Bad() (int, string)         { return 0, "" }
func (h *hidden) Subset([]int32) data.Source { panic("not here") }

// streamed is a set whose images are decoded when they are wanted.
func streamed(set *data.Set) *data.Set {
	s := *set
	s.Images, s.Source = nil, &hidden{set: set, name: "none", pause: 50 * time.Microsecond}
	return &s
}

// smallPair is what the small recipe trains on.
func smallPair(r *recipe.Recipe) *data.Pair {
	pair := &data.Pair{Train: synthetic(11*32+5, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	if slices.Contains(r.Data.Augment, "random_resized_crop") {
		pair.Train, pair.Test = streamed(pair.Train), streamed(pair.Test)
	}
	return pair
}

// Whatever a method reads of the data, it has the same bits where images are decoded when they are wanted as where they
// are in memory: samples, labels, flips, copies and all other random draws.
func TestStreamedDataAreThoseInMemory(t *testing.T) {
	list := allMethods()
	if testing.Short() {
		list = []string{"", "autoaugment, batchaug", "batchaug", "conadv, autoaugment", "smallloss", "sync_bn, absa"}
	}
	for _, method := range list {
		if strings.HasPrefix(method, "streamed") {
			continue
		}
		t.Run(method, func(t *testing.T) {
			var got [2]*checkpoint.Checkpoint
			var steps [2][]telemetry.Step
			for i := range got {
				r := smallRecipe(t, method)
				r.Data.Augment = []string{"flip"}
				switch { // cutout and pad_crop are not for streamed sets
				case method == "conadv, view":
					r = parseRecipe(t, smallText, "methods=[conadv: {epsilon: 0.1, step: 0.1, view: [flip]}]", "data.augment=[flip]")
				case method == "conadv, autoaugment":
					r = parseRecipe(t, smallText, "methods=[conadv: {epsilon: 0.1, step: 0.1, view: [flip, autoaugment]}]", "data.augment=[flip]")
				case strings.HasPrefix(method, "autoaugment"):
					r.Data.Augment = append(r.Data.Augment, "autoaugment")
				}
				pair := smallPair(r)
				if i == 1 {
					pair = &data.Pair{Train: streamed(pair.Train), Test: streamed(pair.Test)}
				}
				s := &tape{keepSteps: true}
				if err := startTrainer(t, r, pair, 1+i, s).train(context.Background()); err != nil {
					t.Fatal(err)
				}
				got[i], steps[i] = s.checkpoints[len(s.checkpoints)-1], s.steps
			}
			delete(got[1].Meta, metaDecoder)
			if d := difference(got[0], got[1]); d != "" {
				t.Error(d)
			}
			if steps[0][0].Streamed != strings.Contains(method, "autoaugment") || !steps[1][0].Streamed {
				t.Error("the progress does not tell them apart")
			}
		})
	}
}

// Workers get the leaves that they ask for, whatever was planned, in any order, after failures too.
func TestStreamServesAnyOrder(t *testing.T) {
	const workers, leaf, samples = 3, 8, 200
	set := synthetic(samples, 2, 3, 4)
	random := philox.NewStream(3, 99, 0, 0, 0)
	for round := range 20 {
		source := &hidden{set: set, pause: 20 * time.Microsecond}
		if round%3 == 2 {
			source.broken = 77
		}
		s := newStream(&data.Set{H: 2, W: 2, C: 3, Labels: set.Labels, Source: source}, nil, workers, leaf)
		for range 8 {
			var wanted [workers][][]int32
			for w, f := range s.feeds {
				for range random.Intn(6) {
					indices := make([]int32, 1+random.Intn(leaf))
					for k := range indices {
						indices[k] = int32(random.Intn(samples))
					}
					wanted[w] = append(wanted[w], indices)
					if random.Intn(4) > 0 {
						f.coming.add(data.View{}, indices)
					}
				}
				if random.Intn(2) == 0 {
					f.coming.add(data.View{Flip: true}, []int32{1, 2, 3})
				}
			}
			s.follow()
			var group sync.WaitGroup
			for w := range workers {
				group.Go(func() {
					for _, indices := range wanted[w] {
						slot, err := s.take(w, data.View{}, indices)
						if err != nil && slices.Contains(indices, source.broken) {
							return
						}
						if err != nil {
							t.Errorf("round %d: %v", round, err)
							return
						}
						for k, i := range indices {
							if !slices.Equal(slot.bytes[k*12:(k+1)*12], set.Image(int(i))) {
								t.Errorf("round %d: worker %d has another image than %d", round, w, i)
							}
						}
						s.give(slot)
					}
				})
			}
			group.Wait()
		}
		s.close()
	}
}

// A source that is slow makes workers wait, which is told.
func TestWaitingIsTold(t *testing.T) {
	r := parseRecipe(t, smallText, "data.augment=[random_resized_crop]", "train.epochs=1", "model.name=linear")
	pair := smallPair(r)
	pair.Train.Source.(*hidden).pause = 20 * time.Millisecond
	s := &tape{keepSteps: true}
	tr := startTrainer(t, r, pair, 2, s)
	if err := tr.train(context.Background()); err != nil {
		t.Fatal(err)
	}
	wait := s.epochs[0].DataWait
	if wait == nil || !(*wait > 0.5 && *wait <= 1) {
		t.Errorf("the share of waiting is %v of a run that does little else", wait)
	}
	if last := s.steps[len(s.steps)-1]; !last.Streamed || !(last.DataWait > 0.5 && last.DataWait <= 1) {
		t.Errorf("the last update tells of %+v", last)
	}
	sum := tr.summary(r)
	if sum.DataWait == nil || !(*sum.DataWait > 0 && *sum.DataWait <= 1) || sum.ImageDecoder != "none" {
		t.Errorf("summary: a wait of %v, decoded by %q", sum.DataWait, sum.ImageDecoder)
	}
}

// Data that come slowly are no device that hangs; data that do not come are told apart from one.
func TestSlowDataAreNoHangingDevice(t *testing.T) {
	for _, c := range []struct {
		pause time.Duration
		want  string
	}{{100 * time.Millisecond, ""}, {6 * time.Second, "waits for data: no image was decoded for 1.5s"}} {
		r := parseRecipe(t, smallText, "data.augment=[random_resized_crop]", "model.name=linear")
		pair := smallPair(r)
		source := pair.Train.Source.(*hidden)
		source.pause, source.always = c.pause, true
		tr := startTrainerOn(t, r, pair, devicetest.Open(t, 1), Options{Timeout: 1500 * time.Millisecond}, &tape{})
		err := tr.computeLeaves() // 64 images
		var device *DeviceError
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &device)) {
			t.Errorf("%v an image: %v; want %q", c.pause, err, c.want)
		}
	}
}

// A further view of streamed data is drawn as the others are; what only kernels do is refused.
func TestViewsOfStreamedData(t *testing.T) {
	train := func(view string, augment ...string) error {
		r := parseRecipe(t, smallText+"methods: [conadv: {epsilon: 0.1, step: 0.1, view: ["+view+"]}]\n", "train.epochs=1")
		r.Data.Augment = augment
		pair := smallPair(r)
		net, err := newNetwork(r.Model.Name, pair.Train)
		if err != nil {
			t.Fatal(err)
		}
		f, err := newFleet(net, devicetest.Open(t, 2), configOf(r, Options{}))
		if err != nil {
			t.Fatal(err)
		}
		defer f.close()
		if err := f.load(pair, false); err != nil {
			t.Fatal(err)
		}
		tr, err := newTrainer(f, r, &tape{})
		if err != nil {
			return err
		}
		defer tr.free()
		return tr.computeLeaves()
	}
	for _, c := range []struct{ view, augment, want string }{
		{"random_resized_crop, flip", "random_resized_crop", ""}, {"flip", "random_resized_crop", ""}, {"flip, cutout", "flip", ""},
		{"flip, autoaugment", "random_resized_crop", ""}, {"pad_crop, autoaugment, cutout", "flip", ""},
		{"autoaugment, cutout", "random_resized_crop", "its view is [autoaugment cutout]"}, {"flip, cutout", "random_resized_crop", "its view is [flip cutout]"}, {"random_resized_crop", "flip", "which data.augment has not"},
	} {
		err := train(c.view, c.augment)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("view %s of %s: %v; want %q", c.view, c.augment, err, c.want)
		}
	}
}

// Training foresees which leaves come next: but for the first of the run, no worker gets one that was not planned.
func TestLeavesAreForeseen(t *testing.T) {
	for _, sets := range [][]string{nil, {"batch.drop_last=true", "batch.size=96"}, {"batch.size=96"}, {"batch.sync_bn=true", "batch.ghost=32", "batch.size=96"},
		{"methods=[batchaug: {copies: 3}]"}, {"methods=[conadv: {epsilon: 0.1, step: 0.1, view: [random_resized_crop]}]"}, {"data.augment=[autoaugment]"},
		{"methods=[conadv: {epsilon: 0.1, step: 0.1, view: [autoaugment]}]", "data.augment=[flip]"}} {
		r := parseRecipe(t, smallText, append([]string{"data.augment=[random_resized_crop]", "train.epochs=9"}, sets...)...)
		tr := startTrainer(t, r, smallPair(r), 2, &tape{})
		s := tr.fleet.train.stream
		for range 11 { // over the end of an epoch
			for before := tr.at.Updates; tr.at.Updates == before; {
				if tr.epochDone() {
					if err := tr.endEpoch(); err != nil {
						t.Fatal(err)
					}
				}
				if err := tr.computeLeaves(); err != nil {
					t.Fatal(err)
				}
				if tr.pending.leaves >= tr.leavesPerUpdate() {
					if err := tr.update(); err != nil {
						t.Fatal(err)
					}
				}
			}
			for _, f := range s.feeds {
				if f.extra.indices != nil {
					t.Fatalf("%v: after update %d a worker took a leaf that was not planned", sets, tr.at.Updates)
				}
				if len(f.slots) == 0 {
					t.Errorf("%v: after update %d nothing is decoded ahead", sets, tr.at.Updates)
				}
			}
		}
	}
}

// An image that cannot be decoded stops the run with its reason, and leaves no decoder behind.
func TestFailureToDecodeIsReported(t *testing.T) {
	r := parseRecipe(t, smallText, "data.augment=[random_resized_crop]")
	pair := smallPair(r)
	pair.Train.Source.(*hidden).broken = 7
	tr := startTrainer(t, r, pair, 2, &tape{})
	err := tr.train(context.Background())
	if err == nil || !strings.Contains(err.Error(), "image 7 is broken") || !strings.Contains(err.Error(), "epoch 1, update ") {
		t.Errorf("got %v", err)
	}
}

func TestStreamedStepAllocatesNothing(t *testing.T) {
	if devicetest.OnGPU() {
		t.Skip("calls of the GPU's driver allocate a little")
	}
	for _, method := range []string{"", "batchaug", "smallloss"} {
		r := smallRecipe(t, method)
		r.Data.Augment, r.Train.Epochs = []string{"random_resized_crop"}, 100
		tr := startTrainer(t, r, &data.Pair{Train: streamed(synthetic(200*32, 8, 3, 4)), Test: synthetic(5, 8, 3, 4)}, 2, &tape{})
		update := func() { step(t, tr) }
		for range 4 {
			update()
		}
		if n := testing.AllocsPerRun(20, update); n != 0 {
			t.Errorf("%s: %g allocations per step; want 0", method, n)
		}
	}
}

// A resume with another decoder warns, as the bits are others.
func TestResumeWarnsOfAnotherDecoder(t *testing.T) {
	folder := imageFolder(t, 2, 40)
	text := strings.Replace(smallText, "name: synthetic, augment: [pad_crop, flip, cutout], pad: 1, cutout_size: 2", "name: folder, size: 8, augment: [random_resized_crop, flip], decoder: go, path: "+folder, 1)
	r := parseRecipe(t, text, "train.epochs=1", "batch.size=32")
	dir := filepath.Join(t.TempDir(), "run")
	if _, err := Train(context.Background(), r, Options{RunDir: dir, Devices: 1}); err != nil {
		t.Fatal(err)
	}
	f, err := open(r, Options{Devices: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	found, err := readCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.otherDecoder(found.Checkpoint); got != "" {
		t.Errorf("the same decoder: %q", got)
	}
	found.Meta[metaDecoder] = "another"
	if got := f.otherDecoder(found.Checkpoint); !strings.Contains(got, "decoded by Go's image/jpeg from here on, by another before") {
		t.Errorf("another decoder: %q", got)
	}
	text2, err := os.ReadFile(filepath.Join(dir, telemetry.SummaryFile))
	if err != nil || !strings.Contains(string(text2), `"image_decoder": "Go's image/jpeg"`) || !strings.Contains(string(text2), `"data_wait": `) {
		t.Errorf("summary: %s, %v", text2, err)
	}
	if math.IsNaN(f.waited().Seconds()) {
		t.Error("no waiting time")
	}
}
