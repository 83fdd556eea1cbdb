//go:build !cuda

package cuda

import (
	"errors"

	"broadside/kernels"
)

// Built reports whether this build has CUDA kernels.
const Built = false

var errNotBuilt = errors.New("this build has no CUDA kernels: use the CUDA build, bin/broadside-cuda (make cuda), or --device cpu")

// Open fails: this build has no CUDA kernels.
func Open(gpu, virtual int) (kernels.Device, error) { return nil, errNotBuilt }

// GPUs fails: this build has no CUDA kernels.
func GPUs() ([]GPU, error) { return nil, errNotBuilt }

// Driver fails: this build has no CUDA kernels.
func Driver() (string, error) { return "", errNotBuilt }
