package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	cgocpu "broadside/cgo/cpu"
	"broadside/cgo/cuda"
	"broadside/engine/collective/mpi"
	"broadside/engine/collective/nccl"
	"broadside/engine/data/pixels"
	"broadside/engine/data/turbojpeg"
)

// finding is one line of the doctor: what was looked at, what is there, and what is missing for what.
type finding struct {
	What    string `json:"what"`
	Found   string `json:"found"`
	Missing string `json:"missing,omitempty"`
}

func newDoctor() *cobra.Command {
	return listing("doctor", "Say what this machine offers, and what is missing for what", func() ([]finding, error) { return examine(), nil },
		"WHAT\tFOUND\tMISSING", func(f finding) string { return fmt.Sprintf("%s\t%s\t%s", f.What, f.Found, f.Missing) })
}

func examine() []finding {
	out := []finding{
		{What: "platform", Found: fmt.Sprintf("%s/%s, %s", runtime.GOOS, runtime.GOARCH, runtime.Version())},
		{What: "cores", Found: fmt.Sprint(runtime.NumCPU())},
		memory(),
	}
	return append(append(append(out, cpuKernels()...), gpus()...), imageDecoder(), processes(), runsFolder())
}

func memory() finding {
	f := finding{What: "memory"}
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		f.Found = "unknown"
		return f
	}
	var total, available int64
	for _, l := range strings.Split(string(text), "\n") {
		fmt.Sscanf(l, "MemTotal: %d kB", &total)
		fmt.Sscanf(l, "MemAvailable: %d kB", &available)
	}
	f.Found = fmt.Sprintf("%.1f GiB, %.1f GiB available", float64(total)/(1<<20), float64(available)/(1<<20))
	return f
}

// cpuKernels tells which kernels run here, and how they compute train.precision bf16.
func cpuKernels() []finding {
	f := finding{What: "CPU kernels"}
	d, err := cgocpu.New("")
	if err != nil {
		f.Missing = err.Error()
		return []finding{f}
	}
	f.Found = fmt.Sprintf("%s of %s", strings.TrimSuffix(strings.TrimPrefix(d.Name(), "cpu ("), ")"), strings.Join(cgocpu.Available(), ", "))
	if forced := os.Getenv(cgocpu.ISAVariable); forced != "" {
		f.Found += fmt.Sprintf(" (forced by %s)", cgocpu.ISAVariable)
	}
	bf16 := finding{What: "precision bf16", Found: "in hardware (AVX512_BF16)"}
	if !d.HardwareBF16() {
		bf16.Found, bf16.Missing = "emulated by rounding, slower than f32", "a CPU with AVX512_BF16, for speed"
	}
	return []finding{f, bf16}
}

// gpus tells which GPUs can be used, or why none.
func gpus() []finding {
	list, err := cuda.GPUs()
	if err != nil {
		f := finding{What: "GPU", Found: "none that can be used", Missing: err.Error()}
		if nodes, _ := filepath.Glob("/dev/nvidia[0-9]*"); len(nodes) > 0 {
			f.Found = fmt.Sprintf("%d NVIDIA devices, none that can be used", len(nodes))
		}
		return []finding{f}
	}
	driver := finding{What: "NVIDIA driver"}
	if version, err := cuda.Driver(); err != nil {
		driver.Missing = err.Error()
	} else {
		driver.Found = "speaks CUDA " + version
	}
	out := []finding{driver, ncclLibrary()}
	for _, g := range list {
		f := finding{What: fmt.Sprintf("GPU cuda:%d", g.Ordinal), Found: g.String()}
		if d, err := cuda.Open(g.Ordinal, 0); err != nil {
			f.Missing = err.Error()
		} else {
			d.Close()
		}
		out = append(out, f)
	}
	return out
}

// ncclLibrary tells whether GPUs can be joined by NCCL, whose sums are not those of one GPU to the bit.
func ncclLibrary() finding {
	version, err := nccl.Version()
	if err != nil {
		return finding{What: "NCCL", Found: "none", Missing: err.Error()}
	}
	return finding{What: "NCCL", Found: version + ", whose sums depend on the number of GPUs in their last bits"}
}

// imageDecoder tells what decodes JPEG files.
func imageDecoder() finding {
	_, words, err := pixels.Resolve(pixels.Auto)
	f := finding{What: "JPEG files", Found: "decoded by " + words}
	if err != nil {
		f.Found, f.Missing = "cannot be decoded", err.Error()
	} else if _, err := turbojpeg.Library(); err != nil {
		f.Missing = err.Error() + ": it decodes faster (Debian's libturbojpeg0)"
	}
	return f
}

// processes tells whether several processes and hosts can train together.
func processes() finding {
	if mpi.Built {
		return finding{What: "several processes", Found: "by MPI: mpirun -np N"}
	}
	return finding{What: "several processes", Found: "not in this build", Missing: "MPI: use bin/broadside-mpi (make mpi)"}
}

// runsFolder tries to write where runs go by default.
func runsFolder() finding {
	f := finding{What: "run directories", Found: "can be written here"}
	probe, err := os.MkdirTemp(".", ".broadside-doctor-")
	if err != nil {
		f.Found, f.Missing = "cannot be written here", "a writable directory: name one with train --run"
		return f
	}
	os.Remove(probe)
	return f
}
