// Package cuda is NVIDIA GPUs as [kernels.Device]s: the kernels of broadside/kernels/cuda, over the CUDA driver
// through gorgonia.org/cu.
//
// It needs the build tag cuda and the library of kernels that `make cuda` compiles; without the tag, [Open] and
// [GPUs] say so. The program does not need NVIDIA's driver to start: it is loaded when a GPU is asked for.
//
// A device is a stream of a GPU, so several devices may share one GPU and its memory. Everything is queued on the
// stream: passes, writes from the host (through pinned memory) and reads to be fetched later. The host waits where it
// reads a number and in Sync, and nowhere else. A pass that runs for the second time over the same memory is captured
// as a CUDA graph and replayed from then on.
//
// Environment variables, for finding faults:
//
//	BROADSIDE_CUDA_GRAPHS=0  queues every call by itself, always
//	BROADSIDE_CUDA_SYNC=1    waits after every call, so that a failure names the call; implies the above
//	BROADSIDE_CUDA_HOPPER=0  keeps to kernels that all GPUs have, also where compute capability 9.0 has its own
//	BROADSIDE_LIBCUDA=FILE   is loaded as the driver instead of libcuda.so.1
package cuda

import "fmt"

// GPU describes a GPU.
type GPU struct {
	Ordinal int    // the driver's number of it
	Name    string // as in "NVIDIA H200"
	Memory  int64  // bytes
	Major   int    // compute capability
	Minor   int
}

// String describes the GPU, as in "NVIDIA H200, compute capability 9.0, 139.8 GiB".
func (g GPU) String() string {
	return fmt.Sprintf("%s, compute capability %d.%d, %.1f GiB", g.Name, g.Major, g.Minor, float64(g.Memory)/(1<<30))
}
