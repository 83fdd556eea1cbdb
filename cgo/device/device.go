// Package device opens devices by name, as the command line gives it.
package device

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"broadside/cgo/cpu"
	"broadside/cgo/cuda"
	"broadside/kernels"
)

// Open returns count devices, at most `most`. The kinds:
//
//	cpu           one per core; count 0 means as many as the machine has
//	cuda          GPUs from the first on; count 0 means one
//	cuda:0,1      the GPUs of these numbers, one device for each; a GPU that is named again has several devices,
//	              which share it
//	auto or ""    cuda where this build and this machine have it, or else cpu
func Open(kind string, count, most int) ([]kernels.Device, error) {
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
		return openAll(make([]int, count), func(int, int) (kernels.Device, error) { return cpu.New("") })
	case name == "cuda":
		gpus, err := choose(list, listed, count)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", kind, err)
		}
		if err := checkCount(len(gpus), most); err != nil {
			return nil, err
		}
		return openAll(gpus, cuda.Open)
	}
	return nil, fmt.Errorf("unknown device %q: must be auto, cpu, cuda, or GPUs by number as in cuda:0,1", kind)
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
	var chosen []int
	for _, text := range strings.Split(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n >= len(gpus) {
			return nil, fmt.Errorf("%q is no GPU of this machine: they are numbered from 0 to %d", text, len(gpus)-1)
		}
		chosen = append(chosen, n)
	}
	if count > 0 && count != len(chosen) {
		return nil, fmt.Errorf("it names %d devices, and %d are wanted: leave the number out", len(chosen), count)
	}
	return chosen, nil
}

// openAll opens a device for each number; those that share a number are told apart.
func openAll(numbers []int, open func(number, virtual int) (kernels.Device, error)) ([]kernels.Device, error) {
	var devices []kernels.Device
	seen := map[int]int{}
	for _, n := range numbers {
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
