//go:build cuda

package cuda

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"broadside/cgo/table"
	"broadside/kernels"
)

// devices returns n streams of the first GPU.
func devices(t *testing.T, n int) []*Device {
	t.Helper()
	if _, err := GPUs(); err != nil {
		t.Skipf("no GPU to test on: %v (make test-cuda emulates one)", err)
	}
	var out []*Device
	for i := range n {
		d, err := Open(0, i)
		check(t, err)
		t.Cleanup(func() { check(t, d.Close()) })
		out = append(out, d.(*Device))
	}
	return out
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// floats returns memory with the given cells.
func floats(t *testing.T, d *Device, values ...float32) kernels.Memory {
	t.Helper()
	m, err := d.Alloc(len(values))
	check(t, err)
	t.Cleanup(m.Free)
	m.WriteFloats(0, values)
	return m
}

// cells reads all of a memory.
func cells(m kernels.Memory) []float32 {
	out := make([]float32, m.Len())
	m.ReadFloats(0, out)
	return out
}

// axpby is y = a x + b y over n cells, x at base 0 and y at base 1.
func axpby(n int, a, b float64) kernels.Call {
	return kernels.Call{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(n), A: a, B: b}, Args: []kernels.Ref{{Base: 0}, {Base: 1}}}
}

func prepare(t *testing.T, d *Device, calls ...kernels.Call) *pass {
	t.Helper()
	p, err := d.Prepare(calls)
	check(t, err)
	t.Cleanup(p.Free)
	return p.(*pass)
}

func bases(m ...kernels.Memory) *[kernels.MaxBases]kernels.Memory {
	var b [kernels.MaxBases]kernels.Memory
	copy(b[:], m)
	return &b
}

func TestMemory(t *testing.T) {
	d := devices(t, 1)[0]
	m, err := d.Alloc(5)
	check(t, err)
	if got := cells(m); !slices.Equal(got, make([]float32, 5)) {
		t.Errorf("fresh memory holds %v", got)
	}
	m.WriteFloats(1, []float32{1, 2})
	m.WriteInts(3, []int32{7})
	ints := make([]int32, 1)
	m.ReadInts(3, ints)
	if got := cells(m); got[1] != 1 || got[2] != 2 || ints[0] != 7 {
		t.Errorf("read back %v and %v", got, ints)
	}
	image, err := d.AllocBytes([]byte{1, 0, 0, 0, 2})
	check(t, err)
	ints = make([]int32, 2)
	image.ReadInts(0, ints)
	if image.Len() != 2 || !slices.Equal(ints, []int32{1, 2}) {
		t.Errorf("image memory of %d cells holds %v", image.Len(), ints)
	}
	check(t, d.Sync())
	m.Free()
	m.Free()
	image.Free()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("writing freed memory does not panic")
			}
		}()
		m.WriteInts(0, []int32{1})
	}()
	if _, err := d.Alloc(1 << 50); err == nil || !strings.Contains(err.Error(), "GiB are free") || !strings.Contains(err.Error(), d.Name()) {
		t.Errorf("allocating too much: %v", err)
	}
}

// More is written than the staging memory holds, before anything is waited for.
func TestStagedWritesKeepTheirBytes(t *testing.T) {
	d := devices(t, 1)[0]
	const n, rounds = stagingHalf/4 - 1, 7
	all, err := d.Alloc(n * rounds)
	check(t, err)
	defer all.Free()
	src := make([]float32, n)
	for r := range rounds {
		for i := range src {
			src[i] = float32(r*n + i)
		}
		all.WriteFloats(r*n, src) // src changes right after
	}
	for i, v := range cells(all) {
		if v != float32(i) {
			t.Fatalf("cell %d is %v", i, v)
		}
	}
	check(t, d.Sync())
}

func TestWritesWaitForQueuedWork(t *testing.T) {
	d := devices(t, 1)[0]
	x, y := floats(t, d, 1, 2), floats(t, d, 0, 0)
	p := prepare(t, d, axpby(2, 1, 1))
	for i := range 5 {
		x.WriteFloats(0, []float32{float32(i), 1})
		check(t, p.Run(bases(x, y)))
	}
	if got := cells(y); got[0] != 10 || got[1] != 5 {
		t.Errorf("sum of what was written in turn: %v", got)
	}
	check(t, d.Sync())
}

func TestLateReads(t *testing.T) {
	d := devices(t, 1)[0]
	x, y := floats(t, d, 1, 2), floats(t, d, 0, 0)
	p := prepare(t, d, axpby(2, 1, 1))
	var seen [4][2]float32
	for i := range seen {
		check(t, p.Run(bases(x, y)))
		kernels.ReadFloatsLater(y, 0, seen[i][:])
	}
	big, err := d.Alloc(lateCells + 1)
	check(t, err)
	defer big.Free()
	big.WriteFloats(lateCells, []float32{9})
	rest := make([]float32, lateCells+1)
	kernels.ReadFloatsLater(big, 0, rest) // does not fit, and comes at once
	check(t, d.Sync())
	if seen != [4][2]float32{{1, 2}, {2, 4}, {3, 6}, {4, 8}} || rest[lateCells] != 9 {
		t.Errorf("late reads saw %v and %v", seen, rest[lateCells])
	}
}

// Work on shared memory goes to and fro between streams, ordered by Follow alone.
func TestFollowOrdersStreams(t *testing.T) {
	d := devices(t, 3)
	x, y := floats(t, d[0], 1, 1), floats(t, d[0], 0, 0)
	double, add := prepare(t, d[1], axpby(2, 0, 2)), prepare(t, d[2], axpby(2, 1, 1))
	for range 4 { // y = 2y + x
		check(t, kernels.Follow(d[1], d[0]))
		check(t, double.Run(bases(x, y)))
		check(t, kernels.Follow(d[2], d[1]))
		check(t, add.Run(bases(x, y)))
		check(t, kernels.Follow(d[0], d[2]))
	}
	if got := cells(y); got[0] != 15 {
		t.Errorf("y = 2y + 1, four times: %v", got)
	}
	for _, d := range d {
		check(t, d.Sync())
	}
}

func TestGraphsAreReplayed(t *testing.T) {
	for _, graphs := range []string{"1", "0"} {
		t.Setenv("BROADSIDE_CUDA_GRAPHS", graphs)
		d := devices(t, 1)[0]
		x, y, z := floats(t, d, 1, 2), floats(t, d, 0, 0), floats(t, d, 5, 5)
		p := prepare(t, d, axpby(2, 1, 1), axpby(2, 0, 2)) // y = 2 (x + y)
		for range 4 {
			check(t, p.Run(bases(x, y)))
			check(t, p.Run(bases(x, z)))
			x.WriteFloats(0, []float32{1, 2})
		}
		if got := cells(y); got[0] != 30 || got[1] != 60 {
			t.Errorf("y = 2 (y + x), four times: %v", got)
		}
		if got := cells(z); got[0] != 110 {
			t.Errorf("z = 2 (z + x), four times: %v", got)
		}
		captured := 0
		for _, g := range p.graphs {
			if g.exec != nil {
				captured++
			}
		}
		if want := map[string]int{"0": 0, "1": 2}[graphs]; captured != want {
			t.Errorf("BROADSIDE_CUDA_GRAPHS=%s: %d graphs, want %d", graphs, captured, want)
		}
		check(t, d.Sync())
	}
}

// A pass that goes round more addresses than it remembers keeps its graphs, and drops those that went out of use.
func TestGraphsAreBounded(t *testing.T) {
	d := devices(t, 1)[0]
	x := floats(t, d, 1)
	var ys []kernels.Memory
	for range mostGraphs + 3 {
		ys = append(ys, floats(t, d, 0))
	}
	p := prepare(t, d, axpby(1, 1, 1), axpby(1, 0, 2))
	captured := func() (n int) {
		for _, g := range p.graphs {
			if g.exec != nil {
				n++
			}
		}
		return n
	}
	for range 3 {
		for _, y := range ys {
			check(t, p.Run(bases(x, y)))
		}
	}
	if len(p.graphs) != mostGraphs || captured() != mostGraphs {
		t.Errorf("%d addresses and %d graphs after going round", len(p.graphs), captured())
	}
	for range 2*mostGraphs + 2 {
		check(t, p.Run(bases(x, ys[mostGraphs])))
		check(t, p.Run(bases(x, ys[mostGraphs+1])))
	}
	if len(p.graphs) != mostGraphs || p.graphs[addresses{uintptr(x.(*memory).at), uintptr(ys[mostGraphs].(*memory).at)}] == nil {
		t.Error("addresses in use take no place of those that are not")
	}
	if got := cells(ys[0]); got[0] != 14 { // y = 2 (y + 1), three times
		t.Errorf("y = %v", got)
	}
	check(t, d.Sync())
}

// A bad index is found when the call runs, comes out of Sync once, and names the call.
func TestFaultsComeOutOfSync(t *testing.T) {
	d := devices(t, 1)[0]
	shape := kernels.Softmax{N: 1, Classes: 2}
	call := kernels.Call{Kernel: kernels.SoftmaxXent, Shape: shape, Args: make([]kernels.Ref, kernels.SoftmaxXent.Args())}
	for i := range call.Args {
		call.Args[i] = kernels.Ref{Base: 0, Offset: int64(16 * i)}
	}
	m, err := d.Alloc(16 * len(call.Args))
	check(t, err)
	defer m.Free()
	p := prepare(t, d, axpby(1, 1, 0), call)
	label := make([]int32, m.Len())
	for i := range label {
		label[i] = 2 // every integer argument is a class that does not exist
	}
	m.WriteInts(0, label)
	check(t, p.Run(bases(m, m)))
	p.Free() // the fault outlives the pass
	err = d.Sync()
	if !errors.Is(err, table.ErrBadArgument) || !strings.Contains(err.Error(), "call 1, softmax_xent{N:1 Classes:2") || !strings.Contains(err.Error(), d.Name()) {
		t.Errorf("a bad label: %v", err)
	}
	check(t, d.Sync())
}

func TestFailuresStay(t *testing.T) {
	d := devices(t, 1)[0]
	if d.gpu.Name != "emulated GPU" {
		t.Skip("only an emulated GPU fails on command")
	}
	x, y := floats(t, d, 1), floats(t, d, 1)
	p := prepare(t, d, axpby(1, 1, 1))
	check(t, p.Run(bases(x, y)))
	t.Setenv("BROADSIDE_EMU_FAIL", "700")
	for _, err := range []error{d.Sync(), p.Run(bases(x, y)), d.Sync()} {
		if err == nil || !strings.Contains(err.Error(), "axpby{Count:1 A:1 B:1}") || !strings.Contains(err.Error(), d.Name()) {
			t.Errorf("a failed device: %v", err)
		}
	}
	if _, err := d.Alloc(1); err == nil {
		t.Error("a failed device allocates")
	}
	t.Setenv("BROADSIDE_EMU_FAIL", "")
}

func TestRunRefuses(t *testing.T) {
	d := devices(t, 1)[0]
	x := floats(t, d, 1)
	p := prepare(t, d, axpby(1, 1, 1))
	for _, c := range []struct {
		what, err string
		bases     *[kernels.MaxBases]kernels.Memory
	}{
		{"a missing base", "base 1, which is nil", bases(x)},
		{"foreign memory", "memory of another device", bases(x, foreign{x})},
	} {
		if err := p.Run(c.bases); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want an error with %q", c.what, err, c.err)
		}
	}
	p.Free()
	if err := p.Run(bases(x, x)); err == nil || !strings.Contains(err.Error(), "freed") {
		t.Errorf("a freed pass: %v", err)
	}
	if _, err := d.Prepare([]kernels.Call{{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: 1}}}); err == nil {
		t.Error("a call without arguments is prepared")
	}
}

// foreign is memory of another kind of device.
type foreign struct{ kernels.Memory }

func TestOpenRefusesGPUsThatAreNot(t *testing.T) {
	devices(t, 0)
	if _, err := Open(1000, 0); err == nil || !strings.Contains(err.Error(), "1000") {
		t.Errorf("GPU 1000: %v", err)
	}
}

// A program that runs a pass allocates nothing.
func TestRunAllocatesNothing(t *testing.T) {
	d := devices(t, 1)[0]
	b := bases(floats(t, d, 1), floats(t, d, 1))
	p := prepare(t, d, axpby(1, 1, 1), axpby(1, 1, 1))
	run := func() {
		if err := p.Run(b); err != nil {
			t.Fatal(err)
		}
	}
	run()
	run()
	if n := testing.AllocsPerRun(10, run); n > 0 {
		t.Errorf("a run allocates %v times", n)
	}
	check(t, d.Sync())
}
