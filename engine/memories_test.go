package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
)

// layouts are numbers of memories and of devices in each.
var layouts = [][2]int{{2, 1}, {4, 1}, {8, 1}, {2, 2}, {4, 2}}

// Training on separate memories has the bits of training on one: what every rank does for itself it does alike.
func TestMemoriesDoNotChangeBits(t *testing.T) {
	list, layouts := allMethods(), layouts
	if testing.Short() {
		list, layouts = []string{"", "absa"}, [][2]int{{2, 2}}
	}
	for _, method := range list {
		t.Run(method, func(t *testing.T) {
			_, one := trainSmall(t, method, 1, 0, nil)
			for i, l := range layouts {
				devices := devicetest.OpenApart(t, l[0], l[1])
				o := Options{BucketBytes: []int{0, 1, 20000}[i%3]} // one bucket, one for each parameter, some
				if _, many := trainSmallOn(t, method, devices, o, 0, nil); difference(one, many) != "" {
					t.Errorf("on %d memories of %d devices, %+v: %s", l[0], l[1], o, difference(one, many))
				}
			}
		})
	}
}

// A run that stops on some memories goes on with others, in mid-epoch, with the same bits.
func TestResumeOnOtherMemories(t *testing.T) {
	whole, want := trainSmall(t, "absa", 1, 0, nil)
	for i, stop := range []int{1, 4, whole.steps[len(whole.steps)-1].Updates - 1} {
		_, half := trainSmallOn(t, "absa", devicetest.OpenApart(t, 4>>i, 1), Options{}, stop, nil)
		if _, got := trainSmallOn(t, "absa", devicetest.OpenApart(t, 1<<i, 2), Options{}, 0, half); difference(want, got) != "" {
			t.Errorf("stopped after update %d: %s", stop, difference(want, got))
		}
	}
}

// All ranks hold the same parameters and running statistics after updates of every number of leaves.
func TestRanksAgree(t *testing.T) {
	pair := &data.Pair{Train: synthetic(20*32, 8, 3, 4), Test: synthetic(20, 8, 3, 4)}
	for leaves := 1; leaves <= 9; leaves++ {
		r := parseRecipe(t, smallText, fmt.Sprintf("batch.size=%d", 32*leaves))
		tr := startTrainerOn(t, r, pair, devicetest.OpenApart(t, 4, 1), Options{BucketBytes: 20000}, &tape{})
		one := startTrainer(t, r, pair, 1, &tape{})
		for _, tr := range []*trainer{tr, one} {
			for range 2 {
				if err := tr.computeLeaves(); err != nil {
					t.Fatal(err)
				}
				for rank := range tr.fleet.comms {
					if begun := tr.fleet.reduce.ranks[rank].begun; rank < leaves && (begun < 3 || begun != len(tr.fleet.reduce.buckets)) {
						t.Errorf("%d leaves: rank %d began %d buckets of %d while it computed", leaves, rank, begun, len(tr.fleet.reduce.buckets))
					}
				}
				if err := tr.update(); err != nil {
					t.Fatal(err)
				}
			}
		}
		for rank := range 4 {
			if !slices.Equal(read(part(tr.fleet.params, rank)), read(one.fleet.params)) {
				t.Errorf("%d leaves: rank %d has other parameters", leaves, rank)
			}
			if !slices.Equal(read(part(tr.fleet.state, rank)), read(one.fleet.state)) {
				t.Errorf("%d leaves: rank %d has other running statistics", leaves, rank)
			}
		}
	}
}

// The ring's sums are the tree's but for rounding.
func TestRingEqualsTreeToRounding(t *testing.T) {
	train := func(o Options) []float32 {
		pair := &data.Pair{Train: synthetic(8*32, 8, 3, 4), Test: synthetic(20, 8, 3, 4)}
		tr := startTrainerOn(t, parseRecipe(t, smallText, "batch.size=256"), pair, devicetest.OpenApart(t, 4, 1), o, &tape{})
		if err := tr.computeLeaves(); err != nil {
			t.Fatal(err)
		}
		if err := tr.update(); err != nil {
			t.Fatal(err)
		}
		for rank := range 4 {
			if !slices.Equal(read(part(tr.fleet.params, rank)), read(tr.fleet.params)) {
				t.Errorf("%+v: rank %d has other parameters", o, rank)
			}
		}
		return read(tr.fleet.params)
	}
	tree, ring := train(Options{}), train(Options{AllReduce: "ring"})
	if slices.Equal(tree, ring) {
		t.Error("ring and tree have the same bits: one of them did not run")
	}
	for i := range tree {
		if math.Abs(float64(tree[i]-ring[i])) > 1e-6 {
			t.Fatalf("parameter %d: %g by the tree, %g by the ring", i, tree[i], ring[i])
		}
	}
}

func TestProductOnManyMemories(t *testing.T) {
	for _, ghost := range []bool{false, true} {
		want, _ := productOf(t, 1, 100, ghost)
		for _, l := range layouts {
			got, _ := productOn(t, devicetest.OpenApart(t, l[0], l[1]), 100, ghost)
			if err := sameFloats(got, want); err != nil {
				t.Errorf("ghost %t, %d memories of %d devices: %v", ghost, l[0], l[1], err)
			}
		}
	}
}

func TestMemoriesThatCannotTrainTogether(t *testing.T) {
	net, err := newNetwork("resnet8", synthetic(1, 8, 3, 4))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		memories int
		sets     string
		options  Options
		want     string
	}{
		{3, "batch.lanes=8", Options{}, "joining 3 memories: their number must be a power of two"},
		{4, "batch.lanes=2", Options{}, "4 separate memories: their number must divide batch.lanes, 2"},
		{2, "batch.lanes=8", Options{AllReduce: "star"}, `unknown all-reduce "star": want one of tree, ring, nccl`},
	} {
		r := parseRecipe(t, smallText, c.sets)
		if _, err := newFleet(net, devicetest.OpenApart(t, c.memories, 1), configOf(r, c.options)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want an error with %q", c, err, c.want)
		}
	}
}
