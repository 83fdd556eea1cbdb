package engine

import (
	"slices"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/checkpoint"
	"broadside/engine/data"
)

// An epoch of replays is every whole update, several times in a row.
func TestOrderOfReplays(t *testing.T) {
	s, err := data.NewSampler(11, 1, 7)
	if err != nil {
		t.Fatal(err)
	}
	plain, leaf := make([]int32, 11), make([]int32, 1)
	for i := range plain {
		s.Leaf(2, i, leaf)
		plain[i] = leaf[0]
	}
	r := replayed{s, 3, 2}
	if n := r.LeavesPerEpoch(); n != 18 {
		t.Fatalf("%d leaves; want 3 updates of 3, twice", n)
	}
	var got []int32
	for i := range r.LeavesPerEpoch() {
		r.Leaf(2, i, leaf)
		got = append(got, leaf[0])
	}
	want := slices.Concat(plain[:3], plain[:3], plain[3:6], plain[3:6], plain[6:9], plain[6:9])
	if !slices.Equal(got, want) {
		t.Errorf("order %v; want %v", got, want)
	}
}

// Every replay is an update, and its samples count again; it costs no further pass.
func TestCountsOfReplays(t *testing.T) {
	ck, s := trainText(t, smallText+"methods: [free: {replays: 4}]\n", devicetest.Open(t, 1), 0, nil, nil)
	if ck == nil || len(s.epochs) != 3 {
		t.Fatalf("%d epochs; want 3", len(s.epochs))
	}
	const seen = 3 * 4 * 10 * 32 // ten of the eleven leaves are whole updates of two
	if e := s.epochs[2]; e.Updates != seen/64 || e.SamplesSeen != seen || e.GradPasses != seen {
		t.Errorf("%+v; want %d samples and passes in updates of 64", e, seen)
	}
}

// The perturbation outlives updates, and stops.
func TestDroppedPerturbationIsNoticed(t *testing.T) {
	text := smallText + "methods: [free: {epsilon: 0.1, step: 0.05}]\n"
	want, _ := trainText(t, text, devicetest.Open(t, 1), 0, nil, nil)
	half, _ := trainText(t, text, devicetest.OpenApart(t, 2, 1), 5, nil, nil)
	for place := range 2 {
		delta := half.Tensors[deltaName(place)].Data().([]float32)
		if most := slices.Max(delta); most != 0.1 || slices.Min(delta) != -0.1 {
			t.Errorf("place %d: the perturbation is from %g to %g; want the whole ball of 0.1", place, slices.Min(delta), most)
		}
	}
	if got, _ := trainText(t, text, devicetest.Open(t, 1), 0, half, nil); difference(want, got) != "" {
		t.Errorf("resumed: %s", difference(want, got))
	}
	drop := func(change func(ck *checkpoint.Checkpoint)) *checkpoint.Checkpoint {
		half, _ := trainText(t, text, devicetest.Open(t, 1), 5, nil, nil)
		change(half)
		return half
	}
	cleared := drop(func(ck *checkpoint.Checkpoint) { clear(ck.Tensors[deltaName(1)].Data().([]float32)) })
	if got, _ := trainText(t, text, devicetest.Open(t, 1), 0, cleared, nil); difference(want, got) == "" {
		t.Error("a resume without the perturbation went unnoticed")
	}
	lost := drop(func(ck *checkpoint.Checkpoint) { delete(ck.Tensors, deltaName(1)) })
	pair := &data.Pair{Train: synthetic(11*32+5, 8, 3, 4), Test: synthetic(50, 8, 3, 4)}
	if err := startTrainer(t, parseRecipe(t, text), pair, 1, &tape{}).restore(lost); err == nil {
		t.Error("a checkpoint without a perturbation was accepted")
	}
}
