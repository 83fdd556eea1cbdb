// Package nccl joins GPUs with NVIDIA's NCCL: a rank is a GPU, of this process or of several processes and hosts.
//
// It needs the build tag cuda; without it, [Open] says so. The program does not need NCCL to start: libnccl.so.2 is
// loaded when it is asked for, version 2.14 or later, in the non-blocking mode in which no call can hang.
//
// Every rank has a communicator, a stream and a thread of its own. A collective waits on the GPU, not on the host, for
// what its device was told before; Wait waits on the host. Sums are added in an order of NCCL's choice: they are not
// exact in the sense of collective.Comm, and repeat their bits at best on the same GPUs, joined in the same way.
//
// After an error the communicator is aborted, and all later calls fail at once. The GPUs of a process learn at once of
// a failure of another; other processes do so by the timeout or through NCCL itself.
//
// The environment variable BROADSIDE_LIBNCCL=FILE names the library to load instead of libnccl.so.2. NCCL has
// variables of its own; NCCL_DEBUG=WARN has it print what it does not like.
package nccl

import "time"

// Options say how to join.
type Options struct {
	// Timeout bounds how long joining and each collective waits for the other ranks; 0 is collective.DefaultTimeout.
	Timeout time.Duration
}

// ID names a group of ranks. One of them makes it, and hands it to all others.
type ID [128]byte
