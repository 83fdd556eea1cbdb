//go:build !mpi

package main

import (
	"strings"
	"testing"
)

// Without MPI every process would train alone and write over the others' files.
func TestProcessesWithoutMPI(t *testing.T) {
	tinyFolder(t)
	t.Setenv("OMPI_COMM_WORLD_SIZE", "2")
	for _, rank := range []string{"0", "1"} {
		t.Setenv("OMPI_COMM_WORLD_RANK", rank)
		if r := broadside("train", "tiny.yaml"); r.status != exitFailure || !strings.Contains(r.errors, "this build has no MPI") {
			t.Errorf("rank %s: status %d, %s", rank, r.status, r.errors)
		}
	}
}
