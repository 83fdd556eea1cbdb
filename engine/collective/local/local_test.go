package local

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"broadside/cgo/device/devicetest"
	"broadside/engine/collective"
	"broadside/kernels"
	"broadside/kernels/philox"
)

// join joins n memories.
func join(t *testing.T, n int, o Options) ([]collective.Comm, []kernels.Device) {
	t.Helper()
	devices := devicetest.OpenApart(t, n, 1)
	comms, err := New(devices, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range comms {
			c.Close()
		}
		for _, d := range devices {
			d.Close()
		}
	})
	return comms, devices
}

// random are count numbers of a rank whose sums depend on the order.
func random(rank, count int) []float32 {
	s := philox.NewStream(3, 98, uint32(rank), uint32(count), 0)
	out := make([]float32, count)
	for i := range out { // of many magnitudes
		out[i] = float32((s.Float64() - 0.5) * math.Exp(8*s.Float64()))
	}
	return out
}

// each runs work for every rank, side by side, and fails the test with the errors.
func each(t *testing.T, comms []collective.Comm, work func(rank int) error) {
	t.Helper()
	errs := make([]error, len(comms))
	var group sync.WaitGroup
	for i := range comms {
		group.Go(func() { errs[i] = work(i) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// buffers allocates a memory of every rank with some cells before and behind the buffer.
func buffers(t *testing.T, devices []kernels.Device, count int) []collective.Buffer {
	t.Helper()
	out := make([]collective.Buffer, len(devices))
	for i, d := range devices {
		m, err := d.Alloc(count + 8)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Free)
		out[i] = collective.Buffer{Memory: m, Offset: 3, Count: count}
		m.WriteFloats(3, random(i, count))
	}
	return out
}

func contents(b collective.Buffer) []float32 {
	out := make([]float32, b.Count)
	b.Memory.ReadFloats(b.Offset, out)
	return out
}

// treeSum is the sum of all ranks' numbers in the fixed tree.
func treeSum(ranks, count int) []float32 {
	parts := make([][]float32, ranks)
	for i := range parts {
		parts[i] = random(i, count)
	}
	collective.Tree(ranks, func(to, from int) error {
		for i, v := range parts[from] {
			parts[to][i] += v
		}
		return nil
	})
	return parts[0]
}

// close32 reports whether two sums differ by no more than rounding can.
func close32(got, want []float32, ranks int) bool {
	scales := make([]float64, len(want))
	for r := range ranks {
		for i, v := range random(r, len(want)) {
			scales[i] += math.Abs(float64(v))
		}
	}
	for i, scale := range scales {
		if math.Abs(float64(got[i]-want[i])) > scale*1e-6 {
			return false
		}
	}
	return true
}

var counts = []int{0, 1, 3, 64, 1001}

func TestAllReduce(t *testing.T) {
	for _, ranks := range []int{1, 2, 4, 8} {
		for _, algorithm := range Algorithms() {
			t.Run(fmt.Sprint(ranks, algorithm), func(t *testing.T) {
				comms, devices := join(t, ranks, Options{Algorithm: algorithm})
				for _, count := range counts {
					all := buffers(t, devices, count)
					each(t, comms, func(r int) error { return comms[r].AllReduce(all[r]).Wait() })
					want := treeSum(ranks, count)
					for r, b := range all {
						got := contents(b)
						if comms[r].Exact() && !slices.Equal(got, want) {
							t.Errorf("%d floats, rank %d: not the sum of the tree", count, r)
						}
						if !close32(got, want, ranks) || !slices.Equal(got, contents(all[0])) {
							t.Errorf("%d floats, rank %d: not the sum", count, r)
						}
						if around := read(b.Memory); around[0] != 0 || around[2] != 0 || around[count+3] != 0 {
							t.Errorf("%d floats, rank %d: wrote outside its buffer", count, r)
						}
					}
				}
			})
		}
	}
}

func read(m kernels.Memory) []float32 {
	out := make([]float32, m.Len())
	m.ReadFloats(0, out)
	return out
}

// A buffer of several chunks has the same sum.
func TestLargeAllReduce(t *testing.T) {
	const count = 2*chunk + 2*777 // of which a rank's part is more than a chunk
	for _, algorithm := range Algorithms() {
		comms, devices := join(t, 2, Options{Algorithm: algorithm})
		all := make([]collective.Buffer, len(devices))
		numbers := make([]float32, count)
		for i := range numbers {
			numbers[i] = float32(i % 1013)
		}
		for r, d := range devices {
			m, err := d.Alloc(count)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Free()
			m.WriteFloats(0, numbers)
			all[r] = collective.Whole(m)
		}
		each(t, comms, func(r int) error { return comms[r].AllReduce(all[r]).Wait() })
		for r := range all {
			for i, v := range contents(all[r]) {
				if v != float32(2*(i%1013)) {
					t.Fatalf("%v, rank %d: number %d is %g", algorithm, r, i, v)
				}
			}
		}
	}
}

func TestHalvesOfAllReduce(t *testing.T) {
	for _, algorithm := range Algorithms() {
		for _, count := range counts {
			const ranks = 4
			comms, devices := join(t, ranks, Options{Algorithm: algorithm})
			all := buffers(t, devices, count)
			each(t, comms, func(r int) error { return comms[r].ReduceScatter(all[r]).Wait() })
			want := treeSum(ranks, count)
			for r := range all {
				first, n := collective.Part(count, ranks, r)
				if got := contents(all[r])[first : first+n]; !close32(got, want[first:first+n], 0) && algorithm == Tree {
					t.Errorf("%v of %d: rank %d's part is not the sum's", algorithm, count, r)
				}
			}
			each(t, comms, func(r int) error { return comms[r].AllGather(all[r]).Wait() })
			for r := range all {
				if !close32(contents(all[r]), want, ranks) || !slices.Equal(contents(all[r]), contents(all[0])) {
					t.Errorf("%v of %d: rank %d did not gather the sum", algorithm, count, r)
				}
			}
		}
	}
}

func TestBroadcastAndExchange(t *testing.T) {
	const ranks = 4
	comms, devices := join(t, ranks, Options{})
	for root := range ranks {
		all := buffers(t, devices, 100)
		each(t, comms, func(r int) error { return comms[r].Broadcast(all[r], root).Wait() })
		for r := range all {
			if !slices.Equal(contents(all[r]), random(root, 100)) {
				t.Errorf("rank %d has not what rank %d sent", r, root)
			}
		}
	}
	got := make([][]float64, ranks)
	each(t, comms, func(r int) error {
		got[r] = make([]float64, 2*ranks)
		got[r][2*r], got[r][2*r+1] = float64(r), float64(-r)
		return comms[r].Exchange(got[r])
	})
	for r := range got {
		if !slices.Equal(got[r], []float64{0, 0, 1, -1, 2, -2, 3, -3}) {
			t.Errorf("rank %d: %v", r, got[r])
		}
	}
}

// Collectives that are under way at the same time take place in order, also where one goroutine drives all ranks.
func TestOrder(t *testing.T) {
	const ranks, rounds = 2, 100
	comms, devices := join(t, ranks, Options{})
	all := make([]collective.Buffer, ranks)
	for r, d := range devices {
		m, err := d.Alloc(5)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Free()
		m.WriteFloats(0, []float32{1, 1, 1, 1, 1})
		all[r] = collective.Whole(m)
	}
	var waits []collective.Pending
	for i := range rounds {
		for r := range all {
			if i%10 == 9 {
				waits = append(waits, comms[r].Barrier())
			} else if i < 20 {
				waits = append(waits, comms[r].AllReduce(all[r]))
			} else {
				waits = append(waits, comms[r].Broadcast(all[r], i%ranks))
			}
		}
	}
	for _, w := range waits {
		if err := w.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	for r := range all {
		if got := contents(all[r]); got[0] != 1<<18 || got[4] != 1<<18 { // 18 doublings
			t.Errorf("rank %d: %v", r, got)
		}
	}
}

func TestWhatGoesWrong(t *testing.T) {
	quick := Options{Timeout: 50 * time.Millisecond}
	t.Run("a rank that does not come", func(t *testing.T) {
		comms, devices := join(t, 4, quick)
		all := buffers(t, devices, 1000)
		var waits []collective.Pending
		for _, r := range []int{0, 1, 3} {
			waits = append(waits, comms[r].AllReduce(all[r]))
		}
		for i, w := range waits {
			err := w.Wait()
			var failure *collective.Error
			if !errors.As(err, &failure) || !strings.Contains(err.Error(), "all-reduce of 4.0 kB: waiting for rank [2]: it did not come within 50ms") {
				t.Errorf("%d: %v", i, err)
			}
		}
		if err := comms[2].AllReduce(all[2]).Wait(); err == nil || !strings.Contains(err.Error(), "given up") {
			t.Errorf("the late rank: %v", err)
		}
	})
	t.Run("ranks that disagree", func(t *testing.T) {
		comms, devices := join(t, 2, quick)
		all := buffers(t, devices, 8)
		a, b := comms[0].AllReduce(all[0]), comms[1].Broadcast(all[1], 0)
		for _, w := range []collective.Pending{a, b} {
			if err := w.Wait(); err == nil || !strings.Contains(err.Error(), "instead: all ranks must start the same collectives") {
				t.Errorf("%v", err)
			}
		}
	})
	t.Run("a rank that leaves", func(t *testing.T) {
		comms, devices := join(t, 2, Options{})
		all := buffers(t, devices, 8)
		w := comms[0].AllReduce(all[0])
		go comms[1].(*rank).group.meeting.end(&collective.Error{Rank: 1, Op: "close", Err: errors.New("the rank has left")})
		if err := w.Wait(); err == nil || !strings.Contains(err.Error(), "rank 1: close: the rank has left") {
			t.Errorf("%v", err)
		}
	})
	t.Run("three memories", func(t *testing.T) {
		if _, err := New(make([]kernels.Device, 3), Options{}); err == nil || !strings.Contains(err.Error(), "power of two") {
			t.Errorf("%v", err)
		}
	})
}

// A collective allocates nothing once the group knows its buffer.
func TestAllReduceAllocatesNothing(t *testing.T) {
	comms, devices := join(t, 2, Options{})
	all := buffers(t, devices, 1000)
	reduce := func() {
		a, b := comms[0].AllReduce(all[0]), comms[1].AllReduce(all[1])
		for _, w := range [...]collective.Pending{a, b} {
			if err := w.Wait(); err != nil {
				t.Fatal(err)
			}
		}
	}
	reduce()
	if n := testing.AllocsPerRun(50, reduce); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
