// Package device opens devices by name, as the command line gives it.
package device

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"broadside/cgo/cpu"
	"broadside/cgo/cuda"
	"broadside/kernels"
)

// Open returns count devices, at most `most`. The kinds:
//
//	cpu           one per core; count 0 means as many as the machine has
//	cpu:0,0,1,1   a worker for each number; workers of different numbers have separate memories, as GPUs have
//	cuda          GPUs from the first on; count 0 means one
//	cuda:0,1      the GPUs of these numbers, one device for each; a GPU that is named again has several devices,
//	              which share it
//	auto or ""    cuda where this build and this machine have it, or else cpu
//
// Devices whose places in the list are in `without` are not opened.
func Open(kind string, count, most int, without ...int) ([]kernels.Device, error) {
	kind = Resolve(kind)
	name, list, listed := strings.Cut(kind, ":")
	switch {
	case kind == "cpu":
		if count == 0 {
			count = min(runtime.NumCPU(), most)
		}
		if err := checkCount(count, most); err != nil {
			return nil, err
		}
		return openAll(make([]int, count), without, func(int, int) (kernels.Device, error) { return cpu.New("") })
	case name == "cpu":
		memories, err := numbers(list, most, count)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", kind, err)
		}
		if err := checkCount(len(memories), most); err != nil {
			return nil, err
		}
		return openAll(memories, without, openApart)
	case name == "cuda":
		gpus, err := choose(list, listed, count)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", kind, err)
		}
		if err := checkCount(len(gpus), most); err != nil {
			return nil, err
		}
		return openAll(gpus, without, cuda.Open)
	}
	return nil, fmt.Errorf("unknown device %q: must be auto, cpu, cuda, GPUs by number as in cuda:0,1, or separate memories by number as in cpu:0,1", kind)
}

// Resolve returns the kind that auto stands for, and any other as it is.
func Resolve(kind string) string {
	if kind != "auto" && kind != "" {
		return kind
	}
	if _, err := cuda.GPUs(); err == nil {
		return "cuda"
	}
	return "cpu"
}

func checkCount(count, most int) error {
	if count < 1 || count > most {
		return fmt.Errorf("%d devices: must be between 1 and batch.lanes, %d", count, most)
	}
	return nil
}

// choose returns the numbers of the GPUs to open: those listed, or the first count.
func choose(list string, listed bool, count int) ([]int, error) {
	gpus, err := cuda.GPUs()
	if err != nil {
		return nil, err
	}
	if !listed {
		if count = max(count, 1); count > len(gpus) {
			return nil, fmt.Errorf("%d devices wanted, this machine has %d GPU(s); cuda:0,0 puts two on the first", count, len(gpus))
		}
		list = "0"
		for i := 1; i < count; i++ {
			list += "," + strconv.Itoa(i)
		}
	}
	chosen, err := numbers(list, len(gpus), count)
	if err != nil {
		return nil, fmt.Errorf("GPUs of this machine: %w", err)
	}
	return chosen, nil
}

// numbers reads a list of numbers below a bound. There must be count of them, unless that is 0.
func numbers(list string, bound, count int) (out []int, err error) {
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n >= bound {
			return nil, fmt.Errorf("%q is no number from 0 to %d", text, bound-1)
		}
		out = append(out, n)
	}
	if count > 0 && count != len(out) {
		return nil, fmt.Errorf("it names %d devices, and %d are wanted: leave the number out", len(out), count)
	}
	return out, nil
}

// openApart opens a CPU worker of a numbered memory.
func openApart(memory, _ int) (kernels.Device, error) {
	d, err := cpu.New("")
	if err != nil {
		return nil, err
	}
	return d.Apart(memory), nil
}

// openAll opens a device for each number but those at the places left out; those that share a number are told apart.
func openAll(numbers, without []int, open func(number, virtual int) (kernels.Device, error)) ([]kernels.Device, error) {
	var devices []kernels.Device
	seen := map[int]int{}
	for i, n := range numbers {
		if slices.Contains(without, i) {
			continue
		}
		d, err := open(n, seen[n])
		if err != nil {
			for _, d := range devices {
				d.Close()
			}
			return nil, err
		}
		seen[n]++
		devices = append(devices, d)
	}
	return devices, nil
}
