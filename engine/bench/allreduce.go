package bench

import (
	"context"
	"fmt"
	"strings"
	"time"

	"broadside/cgo/device"
	"broadside/engine/collective"
	"broadside/engine/collective/join"
	"broadside/engine/suggest"
	"broadside/kernels"
)

// Collectives says what [AllReduce] measures.
type Collectives struct {
	Op       string // see [CollectiveOps]
	Device   string // as --device takes it; "cpu" gives each device a memory of its own
	Devices  int    // 0: two CPU memories, or all GPUs
	Ways     []string
	MinBytes int64
	MaxBytes int64
	Time     time.Duration // of each size and way
	Rounds   int
	Timeout  time.Duration
}

// AllReduceResult is the speed of a collective for each way and size.
type AllReduceResult struct {
	Environment Environment      `json:"environment"`
	Op          string           `json:"op"`
	Ranks       int              `json:"ranks"`
	Rates       []CollectiveRate `json:"rates"`
}

// CollectiveRate is the speed of a collective over buffers of a size. The bandwidths are nccl-tests': the algorithm's
// is bytes over time; the bus's also counts how often a byte must cross a link at least, so it can be held against
// what the links can do whatever the number of ranks.
type CollectiveRate struct {
	Way          string  `json:"way"`
	Exact        bool    `json:"exact"`
	Bytes        int64   `json:"bytes"`
	Microseconds Spread  `json:"us"`
	AlgorithmGBS float64 `json:"algorithm_gb_per_second"` // at the median time
	BusGBS       float64 `json:"bus_gb_per_second"`
}

// collectiveOp starts a collective; factor is the bus's bandwidth over the algorithm's for n ranks.
type collectiveOp struct {
	name   string
	start  func(collective.Comm, collective.Buffer) collective.Pending
	factor func(n float64) float64
}

var collectiveOps = []collectiveOp{
	{"all-reduce", collective.Comm.AllReduce, func(n float64) float64 { return 2 * (n - 1) / n }},
	{"reduce-scatter", collective.Comm.ReduceScatter, func(n float64) float64 { return (n - 1) / n }},
	{"all-gather", collective.Comm.AllGather, func(n float64) float64 { return (n - 1) / n }},
	{"broadcast", func(c collective.Comm, b collective.Buffer) collective.Pending { return c.Broadcast(b, 0) }, func(float64) float64 { return 1 }},
}

// CollectiveOps lists the collectives that can be measured.
func CollectiveOps() (names []string) {
	for _, op := range collectiveOps {
		names = append(names, op.name)
	}
	return names
}

// AllReduce measures a collective between separate memories.
func AllReduce(ctx context.Context, c Collectives) (*AllReduceResult, error) {
	op, err := findOp(c.Op)
	if err != nil {
		return nil, err
	}
	for _, way := range c.Ways {
		if err := join.Check(way); err != nil {
			return nil, err
		}
	}
	devices, err := c.open()
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, d := range devices {
			d.Close()
		}
	}()
	out := &AllReduceResult{Environment: environment(devices[0].Name()), Op: op.name, Ranks: len(devices)}
	for _, way := range c.Ways {
		rates, err := c.measure(ctx, way, op, devices)
		if err != nil {
			return nil, fmt.Errorf("measuring %s by %s: %w", op.name, way, err)
		}
		out.Rates = append(out.Rates, rates...)
	}
	return out, nil
}

func findOp(name string) (collectiveOp, error) {
	for _, op := range collectiveOps {
		if op.name == name {
			return op, nil
		}
	}
	return collectiveOp{}, suggest.Unknown("collective", name, CollectiveOps())
}

// open opens a device for each memory.
func (c Collectives) open() ([]kernels.Device, error) {
	kind := c.Device
	if kind == "cpu" {
		n := c.Devices
		if n == 0 {
			n = 2
		}
		kind = "cpu:" + strings.Trim(strings.ReplaceAll(fmt.Sprint(upTo(n)), " ", ","), "[]")
	}
	devices, err := device.Open(kind, c.Devices, mostRanks)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, d := range devices {
		if seen[d.Space()] {
			for _, d := range devices {
				d.Close()
			}
			return nil, fmt.Errorf("device %s: two devices share the memory %s: there is nothing to reduce between them", c.Device, d.Space())
		}
		seen[d.Space()] = true
	}
	return devices, nil
}

// mostRanks bounds the memories of a measurement.
const mostRanks = 64

func upTo(n int) []int {
	out := make([]int, max(n, 0))
	for i := range out {
		out[i] = i
	}
	return out
}

// measure measures one way at all sizes, four times as large from one to the next.
func (c Collectives) measure(ctx context.Context, way string, op collectiveOp, devices []kernels.Device) (rates []CollectiveRate, err error) {
	comms, err := join.Memories(way, devices, c.Timeout)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, comm := range comms {
			comm.Close()
		}
	}()
	memories := make([]kernels.Memory, len(devices))
	defer func() {
		for _, m := range memories {
			if m != nil {
				m.Free()
			}
		}
	}()
	for i, d := range devices {
		if memories[i], err = d.Alloc(int(c.MaxBytes / 4)); err != nil {
			return nil, err
		}
	}
	for bytes := c.MinBytes; bytes <= c.MaxBytes; bytes *= 4 {
		run := func() error { return once(op, comms, memories, int(bytes/4)) }
		took, err := c.rounds(ctx, run, devices)
		if err != nil {
			return nil, err
		}
		s := spread(took)
		rate := float64(bytes) / s.Median / 1e9
		rates = append(rates, CollectiveRate{Way: way, Exact: comms[0].Exact(), Bytes: bytes, Microseconds: Spread{1e6 * s.Min, 1e6 * s.Median, 1e6 * s.Max},
			AlgorithmGBS: rate, BusGBS: rate * op.factor(float64(len(devices)))})
	}
	return rates, nil
}

// once does one collective on all ranks.
func once(op collectiveOp, comms []collective.Comm, memories []kernels.Memory, count int) error {
	var waits [mostRanks]collective.Pending
	for i, comm := range comms {
		waits[i] = op.start(comm, collective.Buffer{Memory: memories[i], Count: count})
	}
	for _, w := range waits[:len(comms)] {
		if err := w.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// rounds returns the seconds of one run in each round, after one to warm up. Devices that queue are waited for at the
// end of each round.
func (c Collectives) rounds(ctx context.Context, run func() error, devices []kernels.Device) (took []float64, err error) {
	part := c.Time / time.Duration(c.Rounds)
	for r := -1; r < c.Rounds; r++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		start, runs := time.Now(), 0
		for runs == 0 || r >= 0 && time.Since(start) < part {
			if err := run(); err != nil {
				return nil, err
			}
			runs++
		}
		for _, d := range devices {
			if err := kernels.Sync(d); err != nil {
				return nil, err
			}
		}
		if r >= 0 {
			took = append(took, time.Since(start).Seconds()/float64(runs))
		}
	}
	return took, nil
}
