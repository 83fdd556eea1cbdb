package cpu

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"broadside/cgo/table"
	"broadside/kernels"
)

// chain is a list of calls over count cells that each double what the one before wrote.
func chain(calls, count int) []kernels.Call {
	var list []kernels.Call
	for i := range calls {
		at := int64(i * count)
		list = append(list, kernels.Call{Kernel: kernels.Add, Shape: kernels.Vector{Count: int64(count), A: 1, B: 1},
			Args: []kernels.Ref{{Offset: at}, {Offset: at}, {Offset: at + int64(count)}}})
	}
	return list
}

// Calls wait for all members' shares of the one before, for teams that grow and shrink between runs.
func TestTeamRunsCallsInOrder(t *testing.T) {
	const calls, count = 20, 10_000
	var wait sync.WaitGroup
	for range 2 { // devices at the same time
		wait.Go(func() {
			if err := runChains(calls, count); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

// runChains runs a chain on a device of its own with several numbers of threads.
func runChains(calls, count int) error {
	d, err := New("")
	if err != nil {
		return err
	}
	defer d.Close()
	m, err := d.Alloc((calls + 1) * count)
	if err != nil {
		return err
	}
	defer m.Free()
	pass, err := d.Prepare(chain(calls, count))
	if err != nil {
		return err
	}
	defer pass.Free()
	ones, got := make([]float32, count), make([]float32, count)
	for i := range ones {
		ones[i] = 1
	}
	for round, threads := range []int{1, 2, 2, 5, 3, 1, 4} {
		if err := d.SetThreads(threads); err != nil {
			return err
		}
		if d.Threads() != threads {
			return fmt.Errorf("%d threads after SetThreads(%d)", d.Threads(), threads)
		}
		m.WriteFloats(0, ones)
		if err := pass.Run(&[kernels.MaxBases]kernels.Memory{m}); err != nil {
			return err
		}
		m.ReadFloats(calls*count, got)
		for i, v := range got {
			if v != float32(int(1)<<calls) {
				return fmt.Errorf("round %d on %d threads: cell %d is %v, want 2^%d", round, threads, i, v, calls)
			}
		}
	}
	return nil
}

func TestTeamStopsAtTheFirstError(t *testing.T) {
	const count = 5000
	d, m := device(t, 6*count)
	defer d.Close()
	check(t, d.SetThreads(3))
	list := chain(5, count)
	list[3] = kernels.Call{Kernel: kernels.MaxPoolTangent, Args: []kernels.Ref{{}, {Offset: 5 * count}, {Offset: 4 * count}},
		Shape: kernels.Pool{N: 1, H: 1, W: 1, C: 1, R: 1, S: 1, StrideH: 1, StrideW: 1, OH: 1, OW: 1}}
	pass, err := d.Prepare(list)
	check(t, err)
	defer pass.Free()
	bases := &[kernels.MaxBases]kernels.Memory{m}
	for range 50 {
		m.WriteFloats(0, []float32{1})
		m.WriteInts(5*count, []int32{7}) // a position outside the image of one pixel
		if err := pass.Run(bases); !errors.Is(err, table.ErrBadArgument) || !strings.Contains(err.Error(), "call 3") {
			t.Fatalf("a position outside the image in call 3: %v", err)
		}
		got := make([]int32, 1)
		if m.ReadInts(5*count, got); got[0] != 7 {
			t.Fatal("call 4 ran after call 3 failed")
		}
		m.WriteInts(5*count, []int32{0})
		check(t, pass.Run(bases))
	}
}

// Scratch follows the passes prepared, before the team is formed and after.
func TestTeamGrowsItsScratch(t *testing.T) {
	const x, w, y, work = 0, 1 << 16, 1 << 17, 1 << 18
	alone, m := device(t, 1<<20)
	d, err := New("")
	check(t, err)
	defer d.Close()
	numbers := make([]float32, y)
	for i := range numbers {
		numbers[i] = float32(i%17) - 8
	}
	m.WriteFloats(x, numbers)
	convolve := func(d *Device, c int32) []float32 {
		s := kernels.Conv2D{N: 2, H: 8, W: 8, C: c, K: c, R: 3, S: 3, StrideH: 1, StrideW: 1, PadH: 1, PadW: 1, Groups: 1, OH: 8, OW: 8}
		check(t, runOn(d, kernels.Call{Kernel: kernels.Conv2DForward, Shape: s, Args: []kernels.Ref{{Offset: x}, {Offset: w}, kernels.None, {Offset: y}, {Offset: work}}},
			&[kernels.MaxBases]kernels.Memory{m}))
		got := make([]float32, s.N*s.H*s.W*s.K)
		m.ReadFloats(y, got)
		return got
	}
	for _, c := range []int32{16, 64, 32} {
		if want, got := convolve(alone, c), convolve(d, c); !slices.Equal(got, want) {
			t.Errorf("%d channels on %d threads: other results than on one", c, d.Threads())
		}
		check(t, d.SetThreads(2))
	}
}

func TestSetThreadsIsBounded(t *testing.T) {
	d, _ := device(t, 1)
	for _, n := range []int{0, -1, 1 << 40} {
		check(t, d.SetThreads(n))
		if got := d.Threads(); got < 1 || got > 64 {
			t.Errorf("SetThreads(%d): %d threads", n, got)
		}
	}
	check(t, d.Close())
	check(t, d.Close())
	if d.Threads() != 1 {
		t.Errorf("%d threads after Close", d.Threads())
	}
}
