// Package cpu is the CPU as a [kernels.Device]: one thread or a team of them, host memory, the kernels of
// broadside/kernels/cpu.
//
// A pass crosses into C once, however many calls it has, and allocates nothing. Several devices may run
// at the same time; they share nothing but the memories they are given. One device runs one pass at a time.
package cpu

import (
	"fmt"
	"os"
	"unsafe"

	"broadside/cgo/table"
	"broadside/kernels"
	tables "broadside/kernels/cpu"
)

// ISAVariable is the environment variable that chooses the kernels where New is given no name.
const ISAVariable = "BROADSIDE_ISA"

// Device is one CPU worker with the kernels of one instruction set.
type Device struct {
	table   table.Table
	isa     string
	space   string
	team    *tables.Team // nil until there are two threads
	threads int
	scratch int // cells of the largest workspace of the passes prepared
}

var _ kernels.Device = (*Device)(nil)

// New returns a device with the kernels of the named instruction set (see [Available]). An empty name
// means the environment variable BROADSIDE_ISA, or where that is empty the best set of this processor.
func New(isa string) (*Device, error) {
	if isa == "" {
		isa = os.Getenv(ISAVariable)
	}
	kernels, err := tables.Table(isa)
	if err != nil {
		return nil, fmt.Errorf("opening the CPU device: %w", err)
	}
	return Of(kernels)
}

// Of returns a device with any kernels (const bs_kernels *) that compute on host memory and are done when they
// return.
func Of(kernels unsafe.Pointer) (*Device, error) {
	t, err := table.Of(kernels)
	if err != nil {
		return nil, fmt.Errorf("opening the CPU device: %w", err)
	}
	return &Device{table: t, isa: t.Name(), space: host, threads: 1}, nil
}

// host is the space of CPU devices: the memory of the process.
const host = "host"

// Apart gives the device a memory of its own kind, as GPUs have: devices of other numbers do not see it. So what
// is meant for several GPUs runs on a CPU. To be called before the device is used.
func (d *Device) Apart(number int) *Device {
	d.space = fmt.Sprintf("%s:%d", host, number)
	return d
}

// Fork returns another device of the same kernels and memory.
func (d *Device) Fork() (kernels.Device, error) {
	return &Device{table: d.table, isa: d.isa, space: d.space, threads: 1}, nil
}

// Available returns the names that [New] takes on this processor, best first.
func Available() []string { return tables.Available() }

// HardwareBF16 reports whether convolutions with rounded factors (BF16) run on instructions for bfloat16.
// Other devices compute the same by rounding, at the speed of float32 at best.
func (d *Device) HardwareBF16() bool { return d.isa == "avx512bf16" }

// Name returns "cpu" and the instruction set, as in "cpu (avx2)".
func (d *Device) Name() string { return "cpu (" + d.isa + ")" }

// Space returns "host": all CPU devices share the memory of the process, but for those set apart.
func (d *Device) Space() string { return d.space }

// Close ends the device's threads.
func (d *Device) Close() error {
	if d.team != nil {
		d.team.Close()
	}
	d.team, d.threads = nil, 1
	return nil
}

// SetThreads has so many threads share the kernels of each pass from now on, at most [tables.MaxMembers]; 1 is
// the beginning. The results have the same bits for any number. The threads sleep between passes, and end with
// Close. No pass may be running. After an error there is one thread.
func (d *Device) SetThreads(n int) error {
	n = min(max(n, 1), tables.MaxMembers)
	if n == d.threads {
		return nil
	}
	if d.team == nil {
		team, err := tables.NewTeam()
		if err != nil {
			return fmt.Errorf("%s: %w", d.Name(), err)
		}
		d.team = team
	}
	d.threads = n
	return d.form()
}

// Threads returns how many threads share a pass.
func (d *Device) Threads() int { return d.threads }

// form gives the team its threads, with scratch for every pass prepared.
func (d *Device) form() error {
	if d.team == nil {
		return nil
	}
	if err := d.team.Form(d.threads, d.scratch); err != nil {
		d.threads = 1
		return fmt.Errorf("%s: %w", d.Name(), err)
	}
	return nil
}

// stream is what a pass hands to the kernels' run: the team if there is one.
func (d *Device) stream() unsafe.Pointer {
	if d.threads == 1 {
		return nil
	}
	return d.team.Stream()
}

// Workspace returns the cells of scratch that a kernel needs for a shape. It fails for a bad shape.
func (d *Device) Workspace(k kernels.Kernel, s kernels.Shape) (int, error) {
	cells, err := d.table.Workspace(k, s)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", d.Name(), err)
	}
	return cells, nil
}
