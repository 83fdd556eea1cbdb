//go:build !mpi

package mpi

import (
	"errors"
	"os"

	"broadside/engine/collective"
	"broadside/kernels"
)

// Built reports whether this build has MPI.
const Built = false

// Open fails: this build has no MPI.
func Open(kernels.Device, Options) (collective.Comm, error) {
	return nil, errors.New("this build has no MPI: use the MPI build, bin/broadside-mpi (make mpi)")
}

// Abort ends this process.
func Abort(status int) { os.Exit(status) }
