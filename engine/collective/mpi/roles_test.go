//go:build mpi

package mpi

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"broadside/cgo/cpu"
	"broadside/cgo/cuda"
	"broadside/engine/collective"
	"broadside/kernels"
)

// play is one process of a job. It returns its exit status.
func play(role string) int {
	err := os.WriteFile(filepath.Join(os.Getenv("BROADSIDE_MPI_TEST_PIDS"), strconv.Itoa(os.Getpid())), nil, 0o666)
	var device kernels.Device
	if err == nil {
		device, err = openDevice()
	}
	timeout := 30 * time.Second
	if role == "late" || role == "victim" {
		timeout = 2 * time.Second
	}
	var c collective.Comm
	if err == nil {
		c, err = Open(device, Options{Timeout: timeout})
	}
	if err == nil {
		err = roles[role](&player{Comm: c, device: device})
	}
	if err != nil {
		fmt.Printf("%v: exit status 1\n", err)
		return 1
	}
	return 0
}

// openDevice opens this process's device: a GPU where the test is about those.
func openDevice() (kernels.Device, error) {
	if os.Getenv(memoryVariable) != "cuda" {
		return cpu.New("")
	}
	gpus, err := cuda.GPUs()
	if err != nil {
		return nil, err
	}
	return cuda.Open(LocalRank()%len(gpus), 0)
}

var roles = map[string]func(*player) error{
	"collectives": collectives, "panic": panics, "late": late, "leaver": leaver, "victim": victim, "aborter": aborter,
}

type player struct {
	collective.Comm
	device kernels.Device
}

// apart is memory that the host does not reach, such as a GPU's.
type apart struct{ kernels.Memory }

func (p *player) memory(values []float32) kernels.Memory {
	m, err := p.device.Alloc(len(values))
	if err != nil {
		panic(err)
	}
	m.WriteFloats(0, values)
	if os.Getenv(memoryVariable) == "device" {
		return apart{m}
	}
	return m
}

func read(m kernels.Memory) []float32 {
	out := make([]float32, m.Len())
	m.ReadFloats(0, out)
	return out
}

// fill returns what rank r brings to round i: numbers of many sizes, some too small to be normal.
func fill(n, r, i int) []float32 {
	random := rand.New(rand.NewPCG(uint64(r), uint64(i)))
	out := make([]float32, n)
	for j := range out {
		out[j] = float32(random.NormFloat64() * math.Exp2(float64(random.IntN(20)-10)))
		if random.IntN(50) == 0 {
			out[j] = math.Float32frombits(random.Uint32N(1 << 23)) // not normal
		}
	}
	return out
}

// treeSum is the sum over ranks as the interface has it, in plain Go.
func treeSum(n, size, i int) []float32 {
	summands := make([][]float32, size)
	for r := range summands {
		summands[r] = fill(n, r, i)
	}
	collective.Tree(size, func(to, from int) error {
		for j := range n {
			summands[to][j] = flush(flush(summands[to][j]) + flush(summands[from][j]))
		}
		return nil
	})
	return summands[0]
}

// flush is what the kernels for CPUs do to numbers that are too small to be normal, and those for GPUs do not.
func flush(v float32) float32 {
	if os.Getenv(memoryVariable) == "host" && math.Abs(float64(v)) < 0x1p-126 {
		return 0
	}
	return v
}

// kernelSum is the sum as the devices' own kernels make it.
func (p *player) kernelSum(n, i int) ([]float32, error) {
	summands := make([]kernels.Memory, p.Size())
	for r := range summands {
		summands[r] = p.memory(fill(n, r, i))
		defer summands[r].Free()
	}
	pass, err := p.device.Prepare([]kernels.Call{{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(n), A: 1, B: 1}, Args: []kernels.Ref{{Base: 0}, {Base: 1}}}})
	if err != nil {
		return nil, err
	}
	defer pass.Free()
	err = collective.Tree(p.Size(), func(to, from int) error {
		return pass.Run(&[kernels.MaxBases]kernels.Memory{summands[from], summands[to]})
	})
	return read(summands[0]), err
}

// same compares to the bit; zeros may differ in their sign.
func same(what string, got, want []float32) error {
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("%s: cell %d of %d is %v, want %v", what, i, len(want), got[i], want[i])
		}
	}
	return nil
}

var sizes = []int{0, 1, 2, 3, 5, 8, 100, 1000, 4099, 200_000}

func collectives(p *player) error {
	for i, n := range sizes {
		if n > 5000 && os.Getenv("BROADSIDE_MPI_CHUNK") != "" {
			n = 20_000
		}
		for _, check := range []func(n, i int) error{p.allReduce, p.parts, p.broadcast} {
			if err := check(n, i); err != nil {
				return fmt.Errorf("rank %d, %d cells: %w", p.Rank(), n, err)
			}
		}
	}
	for _, check := range []func() error{p.exchange, p.inOrder, p.refusals} {
		if err := check(); err != nil {
			return err
		}
	}
	fmt.Printf("%s, rank %d: all collectives are right\n", p.Name(), p.Rank())
	return p.Close()
}

func (p *player) allReduce(n, i int) error {
	const margin = 3
	m := p.memory(append(make([]float32, margin), append(fill(n, p.Rank(), i), 7)...))
	defer m.Free()
	if err := p.AllReduce(collective.Buffer{Memory: m, Offset: margin, Count: n}).Wait(); err != nil {
		return err
	}
	got := read(m)
	if !slices.Equal(got[:margin], make([]float32, margin)) || got[margin+n] != 7 {
		return fmt.Errorf("all-reduce wrote around its buffer: %v", got)
	}
	if p.Size() == 1 {
		return same("all-reduce", got[margin:], fill(n, 0, i))
	}
	if err := same("all-reduce", got[margin:], treeSum(n, p.Size(), i)); err != nil {
		return err
	}
	if n == 0 || os.Getenv(memoryVariable) == "device" {
		return nil // there are no kernels for such memory
	}
	want, err := p.kernelSum(n, i)
	if err != nil {
		return err
	}
	return same("all-reduce, against the kernels", got[margin:], want)
}

func (p *player) parts(n, i int) error {
	m := p.memory(fill(n, p.Rank(), i))
	defer m.Free()
	if err := p.ReduceScatter(collective.Whole(m)).Wait(); err != nil {
		return err
	}
	sum := treeSum(n, p.Size(), i)
	first, mine := collective.Part(n, p.Size(), p.Rank())
	if err := same("reduce-scatter", read(m)[first:first+mine], sum[first:first+mine]); err != nil {
		return err
	}
	if err := p.AllGather(collective.Whole(m)).Wait(); err != nil {
		return err
	}
	return same("all-gather", read(m), sum)
}

func (p *player) broadcast(n, i int) error {
	for root := range p.Size() {
		m := p.memory(fill(n, p.Rank(), i))
		defer m.Free()
		if err := p.Broadcast(collective.Whole(m), root).Wait(); err != nil {
			return err
		}
		if err := same(fmt.Sprintf("broadcast of rank %d", root), read(m), fill(n, root, i)); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) exchange() error {
	const each = 3
	values := make([]float64, each*p.Size())
	for i := range each {
		values[each*p.Rank()+i] = math.Pi * float64(10*p.Rank()+i)
	}
	if err := p.Exchange(values); err != nil {
		return err
	}
	for i, v := range values {
		if want := math.Pi * float64(10*(i/each)+i%each); v != want {
			return fmt.Errorf("exchange: number %d is %v, want %v", i, v, want)
		}
	}
	return p.Barrier().Wait()
}

// inOrder starts many collectives, some over the results of others, before it waits for any.
func (p *player) inOrder() error {
	const n, rounds = 10_001, 20
	ones := make([]float32, n)
	for i := range ones {
		ones[i] = 1
	}
	m, other := p.memory(ones), p.memory(ones)
	defer m.Free()
	defer other.Free()
	var pending []collective.Pending
	for i := range rounds {
		if i%5 == p.Rank() {
			time.Sleep(5 * time.Millisecond)
		}
		pending = append(pending, p.AllReduce(collective.Whole(m)), p.Barrier(), p.Broadcast(collective.Whole(other), i%p.Size()))
	}
	for i := range pending { // the order of waiting is of no consequence
		if err := pending[len(pending)-1-i].Wait(); err != nil {
			return err
		}
	}
	want := float32(math.Pow(float64(p.Size()), rounds))
	for i, v := range read(m) {
		if v != want {
			return fmt.Errorf("%d sums in a row: cell %d is %v, want %v", rounds, i, v, want)
		}
	}
	return nil
}

// refusals are mistakes of a call. They do not break the group.
func (p *player) refusals() error {
	m := p.memory(make([]float32, 4))
	defer m.Free()
	for _, pending := range []collective.Pending{
		p.AllReduce(collective.Buffer{Memory: m, Offset: 2, Count: 3}),
		p.Broadcast(collective.Whole(m), p.Size()),
	} {
		var e *collective.Error
		if err := pending.Wait(); !errors.As(err, &e) || e.Rank != p.Rank() {
			return fmt.Errorf("a call with a mistake: %v", err)
		}
	}
	if _, err := Open(p.device, Options{}); err == nil {
		return errors.New("joined twice")
	}
	return p.Barrier().Wait()
}

// panics has MPI started, which must leave Go its panics.
func panics(p *player) error {
	func() {
		defer func() { fmt.Println("recovered from", recover()) }()
		var nothing *player
		nothing.device = nil
	}()
	return p.Close()
}

// late never comes to a collective as rank 2.
func late(p *player) error {
	if err := p.Barrier().Wait(); err != nil {
		return err
	}
	if p.Rank() == 2 {
		time.Sleep(4 * time.Second)
		return errors.New("rank 2 slept")
	}
	start := time.Now()
	b := collective.Whole(p.memory(make([]float32, 1000)))
	var err error
	switch os.Getenv("BROADSIDE_MPI_TEST_OP") {
	case "all-reduce":
		err = p.AllReduce(b).Wait()
	case "all-reduce of 4 bytes": // rank 0 makes the sum, and the others wait for rank 0
		if p.Rank() == 0 {
			time.Sleep(500 * time.Millisecond)
		}
		b.Count = 1
		err = p.AllReduce(b).Wait()
	case "reduce-scatter":
		err = p.ReduceScatter(b).Wait()
	case "all-gather":
		err = p.AllGather(b).Wait()
	case "broadcast":
		err = p.Broadcast(b, 2).Wait()
	case "barrier":
		err = p.Barrier().Wait()
	case "exchange":
		err = p.Exchange(make([]float64, 4))
	}
	var e *collective.Error
	if !errors.As(err, &e) || !slices.Equal(e.Missing, []int{2}) {
		return fmt.Errorf("rank 2 did not come, and the error is %v", err)
	}
	if took := time.Since(start); took > 3500*time.Millisecond {
		return fmt.Errorf("rank %d waited for %v", p.Rank(), took)
	}
	fmt.Println(err)
	fmt.Println("the next one fails at once:", errors.Unwrap(p.Barrier().Wait()))
	time.Sleep(time.Second) // let all speak before mpirun ends them
	return errors.Join(err, p.Close())
}

// leaver closes its end as rank 1 before a collective.
func leaver(p *player) error {
	if err := p.Barrier().Wait(); err != nil {
		return err
	}
	if p.Rank() == 1 {
		err := p.Close()
		time.Sleep(2 * time.Second)
		return err
	}
	start := time.Now()
	err := p.AllReduce(collective.Whole(p.memory(make([]float32, 1000)))).Wait()
	if took := time.Since(start); took > 5*time.Second {
		return fmt.Errorf("rank %d waited for %v", p.Rank(), took)
	}
	fmt.Println(err)
	time.Sleep(time.Second)
	return errors.New("left alone")
}

// victim is killed as rank 3, while all are busy with large sums.
func victim(p *player) error {
	m := p.memory(make([]float32, 20_000_000))
	if err := p.Barrier().Wait(); err != nil {
		return err
	}
	if p.Rank() == 3 {
		time.AfterFunc(300*time.Millisecond, func() { syscall.Kill(os.Getpid(), syscall.SIGKILL) })
	}
	for {
		if err := p.AllReduce(collective.Whole(m)).Wait(); err != nil {
			return err
		}
	}
}

// aborter ends all processes as rank 1, while the others wait.
func aborter(p *player) error {
	if p.Rank() == 1 {
		time.Sleep(500 * time.Millisecond)
		fmt.Println("rank 1 aborts")
		Abort(7)
	}
	return p.Barrier().Wait()
}
