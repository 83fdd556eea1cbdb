//go:build !cuda

package nccl

import (
	"errors"

	"broadside/engine/collective"
	"broadside/kernels"
)

// Built reports whether this build can load NCCL.
const Built = false

var errNotBuilt = errors.New("this build has no CUDA kernels, so no use for NCCL: use the CUDA build, bin/broadside-cuda (make cuda)")

// Version fails: this build cannot load NCCL.
func Version() (string, error) { return "", errNotBuilt }

// NewID fails: this build cannot load NCCL.
func NewID() (ID, error) { return ID{}, errNotBuilt }

// Open fails: this build cannot load NCCL.
func Open(kernels.Device, ID, int, int, Options) (collective.Comm, error) { return nil, errNotBuilt }

// OpenAll fails: this build cannot load NCCL.
func OpenAll([]kernels.Device, Options) ([]collective.Comm, error) { return nil, errNotBuilt }

// Over fails: this build cannot load NCCL.
func Over(kernels.Device, collective.Comm, Options) (collective.Comm, error) { return nil, errNotBuilt }
