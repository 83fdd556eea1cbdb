// Package cpu is the CPU as a [kernels.Device]: one thread or a team of them, host memory, the kernels of
// broadside/kernels/cpu.
//
// A pass crosses into C once, however many calls it has, and allocates nothing. Several devices may run
// at the same time; they share nothing but the memories they are given. One device runs one pass at a time.
package cpu

// #cgo CFLAGS: -I${SRCDIR}/../../kernels
// #include <stdlib.h>
// #include "broadside.h"
//
// static int64_t workspace(const void *table, int32_t kernel, const bs_shape *shape) {
//   return ((const bs_kernels *)table)->workspace(kernel, shape);
// }
// static const char *name(const void *table) { return ((const bs_kernels *)table)->name; }
// static uint32_t abi(const void *table) { return ((const bs_kernels *)table)->abi; }
// static uint32_t size(const void *table) { return ((const bs_kernels *)table)->size; }
import "C"

import (
	"fmt"
	"os"
	"unsafe"

	"broadside/kernels"
	tables "broadside/kernels/cpu"
)

// ISAVariable is the environment variable that chooses the kernels where New is given no name.
const ISAVariable = "BROADSIDE_ISA"

// Device is one CPU worker with the kernels of one instruction set.
type Device struct {
	table   unsafe.Pointer // const bs_kernels *
	isa     string
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
	table, err := tables.Table(isa)
	if err != nil {
		return nil, fmt.Errorf("opening the CPU device: %w", err)
	}
	// The table's package may have been built against another header than this one.
	if C.abi(table) != C.BS_ABI || C.size(table) != C.sizeof_bs_kernels {
		return nil, fmt.Errorf("opening the CPU device: kernels of ABI %d with %d bytes, want ABI %d with %d: rebuild with go build -a",
			C.abi(table), C.size(table), C.BS_ABI, C.sizeof_bs_kernels)
	}
	return &Device{table: table, isa: C.GoString(C.name(table)), threads: 1}, nil
}

// Available returns the names that [New] takes on this processor, best first.
func Available() []string { return tables.Available() }

// HardwareBF16 reports whether convolutions with rounded factors (BF16) run on instructions for bfloat16.
// Other devices compute the same by rounding, at the speed of float32 at best.
func (d *Device) HardwareBF16() bool { return d.isa == "avx512bf16" }

// Name returns "cpu" and the instruction set, as in "cpu (avx2)".
func (d *Device) Name() string { return "cpu (" + d.isa + ")" }

// Space returns "host": all CPU devices share the memory of the process.
func (d *Device) Space() string { return "host" }

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
	var shape C.bs_shape
	if err := putShape(&shape, k, s); err != nil {
		return 0, fmt.Errorf("%s: %w", d.Name(), err)
	}
	cells := int(C.workspace(d.table, C.int32_t(k), &shape))
	if cells < 0 {
		return 0, fmt.Errorf("%s: %s: bad shape", d.Name(), kernels.Call{Kernel: k, Shape: s})
	}
	return cells, nil
}
