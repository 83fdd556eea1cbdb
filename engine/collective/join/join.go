// Package join joins memories by the name of a way, as the command line gives it: those of this process, or those of
// the processes that mpirun has started.
package join

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"broadside/engine/collective"
	"broadside/engine/collective/local"
	"broadside/engine/collective/mpi"
	"broadside/engine/collective/nccl"
	"broadside/engine/suggest"
	"broadside/kernels"
)

// The ways. The tree has the same bits for any number of memories.
const (
	Tree = "tree"
	Ring = "ring"
	NCCL = "nccl"

	Default = Tree
)

// Names lists the ways.
func Names() []string { return []string{Tree, Ring, NCCL} }

// Check refuses a name that is none of a way.
func Check(name string) error {
	if slices.Contains(Names(), name) {
		return nil
	}
	return suggest.Unknown("all-reduce", name, Names())
}

// Processes returns this process's number and how many of them mpirun, or a batch system in its place, has started;
// 0 of 1 if none has.
func Processes() (rank, size int) {
	number := func(names ...string) int {
		for _, name := range names {
			if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n >= 0 {
				return n
			}
		}
		return -1
	}
	rank, size = number("OMPI_COMM_WORLD_RANK", "PMI_RANK"), number("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
	if rank < 0 || size <= rank {
		return 0, 1
	}
	return rank, size
}

// Homes joins the memories of devices, one rank for each: with the other processes where there are any, else with each
// other. It returns nothing where there is nothing to join. The devices stay their owner's.
func Homes(name string, devices []kernels.Device, timeout time.Duration) ([]collective.Comm, error) {
	_, size := Processes()
	switch {
	case size > 1:
		c, err := processes(name, devices, timeout)
		if err != nil {
			return nil, err
		}
		return []collective.Comm{c}, nil
	case len(devices) > 1:
		return Memories(name, devices, timeout)
	}
	return nil, nil
}

// processes joins this process's memory with those of the others.
func processes(name string, devices []kernels.Device, timeout time.Duration) (collective.Comm, error) {
	if len(devices) > 1 {
		return nil, fmt.Errorf("this process has %d separate memories: processes that train together have one each; start more of them, or one without mpirun", len(devices))
	}
	if name == Ring {
		return nil, fmt.Errorf("all-reduce %s: it joins memories of one process; processes use %s or %s", name, Tree, NCCL)
	}
	world, err := mpi.Open(devices[0], mpi.Options{Timeout: timeout})
	if err != nil || name != NCCL {
		return world, err
	}
	return nccl.Over(devices[0], world, nccl.Options{Timeout: timeout})
}

// Memories joins the memories of devices of this process, one rank for each. The devices stay their owner's.
func Memories(name string, devices []kernels.Device, timeout time.Duration) ([]collective.Comm, error) {
	if name == "" {
		name = Default
	}
	if err := Check(name); err != nil {
		return nil, err
	}
	if name == NCCL {
		return nccl.OpenAll(devices, nccl.Options{Timeout: timeout})
	}
	algorithm := local.Tree
	if name == Ring {
		algorithm = local.Ring
	}
	return local.New(devices, local.Options{Algorithm: algorithm, Timeout: timeout})
}
