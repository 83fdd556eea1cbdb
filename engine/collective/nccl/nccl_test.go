//go:build cuda

package nccl

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"broadside/cgo/cpu"
	"broadside/cgo/cuda"
	"broadside/engine/collective"
	"broadside/engine/collective/local"
	"broadside/kernels"
)

func TestMain(m *testing.M) {
	os.Setenv("BROADSIDE_EMU_GPUS", "4")
	os.Exit(m.Run())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// gpus opens n GPUs.
func gpus(t *testing.T, n int) []kernels.Device {
	t.Helper()
	list, err := cuda.GPUs()
	if err == nil {
		_, err = Version()
	}
	if err != nil {
		t.Skipf("nothing to test on: %v (make test-cuda emulates it)", err)
	}
	if len(list) < n {
		t.Skipf("%d GPUs are needed, and there are %d", n, len(list))
	}
	var out []kernels.Device
	for i := range n {
		d, err := cuda.Open(i, 0)
		check(t, err)
		t.Cleanup(func() { check(t, d.Close()) })
		out = append(out, d)
	}
	return out
}

func emulated(t *testing.T) {
	t.Helper()
	if list, err := cuda.GPUs(); err != nil || list[0].Name != "emulated GPU" {
		t.Skip("only emulated GPUs fail on command")
	}
}

// ends joins n GPUs.
func ends(t *testing.T, n int, timeout time.Duration) ([]kernels.Device, []collective.Comm) {
	t.Helper()
	devices := gpus(t, n)
	comms, err := OpenAll(devices, Options{Timeout: timeout})
	check(t, err)
	t.Cleanup(func() {
		for _, c := range comms {
			check(t, c.Close())
		}
	})
	for r, c := range comms {
		if c.Rank() != r || c.Size() != n || c.Exact() {
			t.Fatalf("end %d is rank %d of %d, exact %v", r, c.Rank(), c.Size(), c.Exact())
		}
	}
	return devices, comms
}

// fill returns what rank r brings.
func fill(n, r int) []float32 {
	random := rand.New(rand.NewPCG(uint64(n), uint64(r)))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(random.NormFloat64())
	}
	return out
}

// sums returns the sum over ranks, and the sum of magnitudes, by which rounding is measured.
func sums(n, size int) (sum, magnitude []float64) {
	sum, magnitude = make([]float64, n), make([]float64, n)
	for r := range size {
		for i, v := range fill(n, r) {
			sum[i] += float64(v)
			magnitude[i] += math.Abs(float64(v))
		}
	}
	return sum, magnitude
}

func memory(t *testing.T, d kernels.Device, values []float32) kernels.Memory {
	t.Helper()
	m, err := d.Alloc(len(values))
	check(t, err)
	t.Cleanup(m.Free)
	m.WriteFloats(0, values)
	return m
}

func cells(m kernels.Memory) []float32 {
	out := make([]float32, m.Len())
	m.ReadFloats(0, out)
	return out
}

// all starts a collective on every rank and waits for all.
func all(t *testing.T, comms []collective.Comm, start func(r int, c collective.Comm) collective.Pending) {
	t.Helper()
	var pending []collective.Pending
	for r, c := range comms {
		pending = append(pending, start(r, c))
	}
	for _, p := range pending {
		check(t, p.Wait())
	}
}

// close to the sum but for rounding: each of a rank's additions errs by half a unit in the last place of what it adds.
func near(got []float32, sum, magnitude []float64, size int) error {
	for i, v := range got {
		if limit := 0x1p-24 * float64(size) * magnitude[i]; math.Abs(float64(v)-sum[i]) > limit {
			return fmt.Errorf("sum %d of %d over %d ranks is %v, want %v", i, len(got), size, v, sum[i])
		}
	}
	return nil
}

func TestCollectives(t *testing.T) {
	for _, size := range []int{1, 2, 3, 4} {
		t.Run(fmt.Sprintf("of %d", size), func(t *testing.T) { collectives(t, size) })
	}
}

func collectives(t *testing.T, size int) {
	devices, comms := ends(t, size, 20*time.Second)
	for _, n := range []int{0, 1, 2, 3, 4, 7, 1000, 1001, 4099, 100_000} {
		var m []kernels.Memory
		for r, d := range devices {
			m = append(m, memory(t, d, append([]float32{5}, append(fill(n, r), 6)...)))
		}
		buffer := func(r int) collective.Buffer { return collective.Buffer{Memory: m[r], Offset: 1, Count: n} }
		refill := func() {
			for r := range m {
				m[r].WriteFloats(1, fill(n, r))
			}
		}
		sum, magnitude := sums(n, size)

		all(t, comms, func(r int, c collective.Comm) collective.Pending { return c.AllReduce(buffer(r)) })
		first := cells(m[0])
		for r := range m {
			got := cells(m[r])
			if got[0] != 5 || got[n+1] != 6 {
				t.Errorf("%d ranks, %d floats: all-reduce wrote around its buffer", size, n)
			}
			check(t, near(got[1:n+1], sum, magnitude, size))
			if !slices.Equal(got, first) {
				t.Errorf("%d ranks, %d floats: rank %d has another sum than rank 0", size, n, r)
			}
		}
		refill()
		all(t, comms, func(r int, c collective.Comm) collective.Pending { return c.ReduceScatter(buffer(r)) })
		for r := range m {
			from, k := collective.Part(n, size, r)
			check(t, near(cells(m[r])[1+from:1+from+k], sum[from:from+k], magnitude[from:], size))
		}
		all(t, comms, func(r int, c collective.Comm) collective.Pending { return c.AllGather(buffer(r)) })
		for r := range m {
			check(t, near(cells(m[r])[1:n+1], sum, magnitude, size))
		}
		for root := range size {
			refill()
			all(t, comms, func(r int, c collective.Comm) collective.Pending { return c.Broadcast(buffer(r), root) })
			for r := range m {
				if got := cells(m[r]); !slices.Equal(got[1:n+1], fill(n, root)) || got[0] != 5 || got[n+1] != 6 {
					t.Errorf("%d ranks, %d floats: broadcast of rank %d to rank %d", size, n, root, r)
				}
			}
		}
	}
	all(t, comms, func(_ int, c collective.Comm) collective.Pending { return c.Barrier() })
	var group sync.WaitGroup
	for r, c := range comms {
		group.Go(func() {
			values := make([]float64, 2*size)
			values[2*r], values[2*r+1] = math.Pi*float64(r), math.Inf(-r)
			if err := c.Exchange(values); err != nil {
				t.Error(err)
			}
			for i := range size {
				if values[2*i] != math.Pi*float64(i) || values[2*i+1] != math.Inf(-i) {
					t.Errorf("rank %d got %v", r, values)
				}
			}
		})
	}
	group.Wait()
}

// A group of one is what a host with one GPU can try: NCCL's collectives there leave the bits that the tree's do.
func TestOneRankIsTheTree(t *testing.T) {
	devices, comms := ends(t, 1, 20*time.Second)
	tree, err := local.New(devices, local.Options{Algorithm: local.Tree})
	check(t, err)
	defer func() { check(t, tree[0].Close()) }()
	odd := []float32{float32(math.Copysign(0, -1)), 1e-42, float32(math.Inf(-1)), math.MaxFloat32}
	for _, n := range []int{1, 1000, 100_001} {
		values := append(odd, fill(n, 0)...)
		for name, start := range map[string]func(collective.Comm, collective.Buffer) collective.Pending{
			"all-reduce": collective.Comm.AllReduce, "reduce-scatter": collective.Comm.ReduceScatter, "all-gather": collective.Comm.AllGather,
			"broadcast": func(c collective.Comm, b collective.Buffer) collective.Pending { return c.Broadcast(b, 0) },
		} {
			m := []kernels.Memory{memory(t, devices[0], values), memory(t, devices[0], values)}
			for i, c := range []collective.Comm{comms[0], tree[0]} {
				check(t, start(c, collective.Whole(m[i])).Wait())
			}
			want := cells(m[1])
			for i, v := range cells(m[0]) {
				if math.Float32bits(v) != math.Float32bits(want[i]) {
					t.Fatalf("%s of %d floats: float %d is %v, by the tree %v", name, len(values), i, v, want[i])
				}
			}
		}
	}
}

// The emulated library must not add as the tree does, or tests of the engine would see nothing.
func TestEmulatedSumsAreNotTheTree(t *testing.T) {
	emulated(t)
	devices, comms := ends(t, 4, 20*time.Second)
	const n = 1000
	var m []kernels.Memory
	want := make([][]float32, 4)
	for r, d := range devices {
		m, want[r] = append(m, memory(t, d, fill(n, r))), fill(n, r)
	}
	all(t, comms, func(r int, c collective.Comm) collective.Pending { return c.AllReduce(collective.Whole(m[r])) })
	check(t, collective.Tree(4, func(to, from int) error {
		for i := range n {
			want[to][i] += want[from][i]
		}
		return nil
	}))
	if slices.Equal(cells(m[0]), want[0]) {
		t.Error("the ring's sums are the tree's to the bit")
	}
}

// Kernels before a collective, the collective and kernels behind it are ordered without a wait but its own, and
// collectives among themselves without any.
func TestOrder(t *testing.T) {
	const size, n, rounds = 4, 1003, 5
	devices, comms := ends(t, size, 20*time.Second)
	var m []kernels.Memory
	var double []kernels.Pass
	for r, d := range devices {
		m = append(m, memory(t, d, slices.Repeat([]float32{float32(r + 1)}, n)))
		p, err := d.Prepare([]kernels.Call{{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: n, A: 0, B: 2}, Args: []kernels.Ref{{Base: 0}, {Base: 0}}}})
		check(t, err)
		t.Cleanup(p.Free)
		double = append(double, p)
	}
	want := float32(1 + 2 + 3 + 4)
	for round := range rounds {
		var pending []collective.Pending
		for r, c := range comms {
			check(t, double[r].Run(&[kernels.MaxBases]kernels.Memory{m[r]}))
			pending = append(pending, c.AllReduce(collective.Whole(m[r])), c.AllReduce(collective.Whole(m[r])))
		}
		for i := range pending {
			check(t, pending[len(pending)-1-i].Wait())
		}
		if round == 0 {
			want *= 2 * size
		} else {
			want *= 2 * size * size
		}
	}
	for r := range m {
		for i, v := range cells(m[r]) {
			if v != want {
				t.Fatalf("rank %d, float %d: %v, want %v", r, i, v, want)
			}
		}
	}
}

// failed checks the error of a collective, and that nothing works after it.
func failed(t *testing.T, c collective.Comm, err error, missing []int, text string) {
	t.Helper()
	var e *collective.Error
	if !errors.As(err, &e) || e.Rank != c.Rank() || !slices.Equal(e.Missing, missing) || !strings.Contains(err.Error(), text) {
		t.Errorf("rank %d: %v, want an error with %q about ranks %v", c.Rank(), err, text, missing)
	}
	start := time.Now()
	if err := c.Barrier().Wait(); err == nil || !strings.Contains(err.Error(), "the group is broken") {
		t.Errorf("rank %d: a collective after a failure: %v", c.Rank(), err)
	}
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Errorf("rank %d: a collective after a failure takes %v", c.Rank(), took)
	}
}

func TestMissingRankRunsIntoTheDeadline(t *testing.T) {
	const timeout = 400 * time.Millisecond
	devices, comms := ends(t, 4, timeout)
	start := time.Now()
	var pending []collective.Pending
	for r, c := range comms {
		if r != 2 {
			pending = append(pending, c.AllReduce(collective.Whole(memory(t, devices[r], fill(1000, r)))))
		}
	}
	// Whoever runs into the deadline first fails; the others see it or do so too.
	named := 0
	for i, p := range pending {
		err := p.Wait()
		var e *collective.Error
		if !errors.As(err, &e) || len(e.Missing) != 1 {
			t.Fatalf("a collective without rank 2: %v", err)
		}
		if e.Missing[0] == 2 {
			named++
			failed(t, comms[[]int{0, 1, 3}[i]], err, []int{2}, "all-reduce of 4.0 kB: waiting for rank [2]: not within the timeout of 400ms")
		}
	}
	if took := time.Since(start); took < timeout || took > 10*timeout {
		t.Errorf("the failure took %v", took)
	}
	if named == 0 {
		t.Error("nobody named rank 2")
	}
}

func TestAsynchronousErrors(t *testing.T) {
	emulated(t)
	devices, comms := ends(t, 2, 20*time.Second)
	t.Setenv("BROADSIDE_EMU_NCCL_FAIL", "1")
	start := time.Now()
	b := collective.Whole(memory(t, devices[1], fill(10, 1)))
	err := comms[1].AllReduce(b).Wait()
	failed(t, comms[1], err, nil, "remote process exited or there was a network error (error 6): told by the emulator")
	err = comms[0].AllReduce(collective.Whole(memory(t, devices[0], fill(10, 0)))).Wait()
	if err == nil || !strings.Contains(err.Error(), "rank 0") || time.Since(start) > 5*time.Second {
		t.Errorf("rank 0, whose partner failed: %v", err)
	}
	os.Unsetenv("BROADSIDE_EMU_NCCL_FAIL")
}

func TestLeavingEndsWhatIsUnderWay(t *testing.T) {
	devices, comms := ends(t, 3, 20*time.Second)
	p := comms[0].AllReduce(collective.Whole(memory(t, devices[0], fill(10, 0))))
	check(t, comms[1].Close())
	failed(t, comms[0], p.Wait(), []int{1}, "it has left the group")
	if err := comms[1].Barrier().Wait(); err == nil || !strings.Contains(err.Error(), "was left") {
		t.Errorf("a collective after Close: %v", err)
	}
}

func TestJoining(t *testing.T) {
	devices := gpus(t, 2)
	id, err := NewID()
	check(t, err)
	start := time.Now()
	if _, err := Open(devices[0], id, 0, 2, Options{Timeout: 300 * time.Millisecond}); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("joining alone: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("joining alone takes %v", took)
	}
	id, err = NewID()
	check(t, err)
	exchange := newMeeting(2)
	for _, open := range []func(r int) (collective.Comm, error){
		func(r int) (collective.Comm, error) {
			return Open(devices[r], id, r, 2, Options{Timeout: 10 * time.Second})
		},
		func(r int) (collective.Comm, error) {
			return Over(devices[r], &meeter{rank: r, meeting: exchange}, Options{Timeout: 10 * time.Second})
		},
	} {
		var group sync.WaitGroup
		for r, d := range devices {
			m := memory(t, d, []float32{float32(r + 1)})
			group.Go(func() {
				c, err := open(r)
				if err == nil {
					err = c.AllReduce(collective.Whole(m)).Wait()
				}
				if err == nil {
					err = c.Close()
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	}
}

// meeting is an exchange between goroutines.
type meeting struct {
	sync.Mutex
	values []float64
	came   int
	all    chan struct{}
	size   int
}

func newMeeting(size int) *meeting { return &meeting{size: size, all: make(chan struct{})} }

type meeter struct {
	collective.Comm
	*meeting
	rank int
}

func (m *meeter) Rank() int { return m.rank }
func (m *meeter) Size() int { return m.meeting.size }
func (m *meeter) Exchange(values []float64) error {
	m.Lock()
	if m.values == nil {
		m.values = make([]float64, len(values))
	}
	n := len(values) / m.Size()
	copy(m.values[n*m.rank:n*(m.rank+1)], values[n*m.rank:])
	if m.came++; m.came == m.Size() {
		close(m.all)
	}
	m.Unlock()
	<-m.all
	copy(values, m.values)
	return nil
}

func TestMistakesAreRefused(t *testing.T) {
	devices, comms := ends(t, 2, 20*time.Second)
	m := memory(t, devices[0], fill(10, 0))
	host, err := cpu.New("")
	check(t, err)
	hosted := memory(t, host, fill(10, 0))
	for what, p := range map[string]collective.Pending{
		"memory of another":  comms[1].AllReduce(collective.Whole(m)),
		"memory of the host": comms[0].AllReduce(collective.Whole(hosted)),
		"outside":            comms[0].AllReduce(collective.Buffer{Memory: m, Offset: 1, Count: 10}),
		"a root":             comms[0].Broadcast(collective.Whole(m), 2),
	} {
		if err := p.Wait(); err == nil {
			t.Errorf("%s is not refused", what)
		}
	}
	all(t, comms, func(_ int, c collective.Comm) collective.Pending { return c.Barrier() }) // nothing is broken
	if _, err := OpenAll([]kernels.Device{devices[0], devices[0]}, Options{}); err == nil || !strings.Contains(err.Error(), "two devices of a GPU") {
		t.Errorf("two ranks on a GPU: %v", err)
	}
	if _, err := OpenAll([]kernels.Device{host}, Options{}); err == nil || !strings.Contains(err.Error(), "no GPU") {
		t.Errorf("a CPU: %v", err)
	}
}
