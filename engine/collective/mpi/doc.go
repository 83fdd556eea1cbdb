// Package mpi joins the processes of a cluster with Open MPI: a rank is a process with one memory, on a CPU or a GPU.
//
// It needs the build tag mpi and Open MPI's headers (`make mpi-deps`, `make mpi`); without the tag, [Open] says so.
// Programs are started as `mpirun -np N PROGRAM`, or by a batch system that speaks PMIx.
//
// Sums are exact in the sense of [collective.Comm]: every rank fetches its part of all other ranks' buffers, adds them
// in the order of [collective.Tree] and sends the sum to all. Messages go in chunks, so the scratch memory does
// not grow with the buffers. Memory of a GPU is staged through the host.
//
// One thread makes all calls of MPI, in the order in which the collectives were started. After an error the group is
// broken: nothing but [Abort] ends the other processes, or the end of this one, at which mpirun stops the others.
package mpi

import (
	"os"
	"strconv"
	"time"
)

// Options say how to join.
type Options struct {
	// Timeout bounds how long a collective waits for the other ranks; 0 is collective.DefaultTimeout.
	Timeout time.Duration
}

// Launched reports whether mpirun, or a batch system in its place, has started this process.
func Launched() bool {
	return fromEnvironment("OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK") >= 0
}

// LocalRank numbers the processes of this host, from 0 on: rank 1 may take the host's second GPU. It is 0 where
// nobody says.
func LocalRank() int {
	return max(0, fromEnvironment("OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"))
}

// fromEnvironment returns the number that the first of the variables with one holds, -1 if none has.
func fromEnvironment(names ...string) int {
	for _, name := range names {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n >= 0 {
			return n
		}
	}
	return -1
}
