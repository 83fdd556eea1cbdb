//go:build cuda

package nccl

// #include "library.h"
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
	"unsafe"

	"broadside/cgo/cuda"
	"broadside/engine/collective"
	"broadside/kernels"
)

// Built reports whether this build can load NCCL.
const Built = true

// load loads NCCL.
func load() error {
	if why := C.bs_nccl_load(); why != nil {
		return errors.New(C.GoString(why))
	}
	return nil
}

// Version returns the version of the NCCL that is found, as in "2.27.3".
func Version() (string, error) {
	if err := load(); err != nil {
		return "", err
	}
	v := int(C.bs_nccl_version())
	return fmt.Sprintf("%d.%d.%d", v/10000, v/100%100, v%100), nil
}

// result makes an error of one of NCCL. A call that is in progress has not failed.
func result(code C.int) error {
	if code == C.BS_NCCL_SUCCESS || code == C.BS_NCCL_IN_PROGRESS {
		return nil
	}
	err := fmt.Errorf("NCCL: %s (error %d)", C.GoString(C.bs_nccl_error(code)), int(code))
	if more := C.GoString(C.bs_nccl_last_error(nil)); more != "" {
		err = fmt.Errorf("%w: %s", err, more)
	}
	return err
}

// NewID returns a new group's name.
func NewID() (ID, error) {
	if err := load(); err != nil {
		return ID{}, err
	}
	var id ID
	if err := result(C.bs_nccl_new_id((*C.bs_nccl_id)(unsafe.Pointer(&id)))); err != nil {
		return ID{}, fmt.Errorf("naming a group: %w", err)
	}
	return id, nil
}

// Open joins a GPU to a group as one of size ranks, and waits until all have come. No other rank has this GPU.
func Open(device kernels.Device, id ID, rank, size int, o Options) (collective.Comm, error) {
	if size < 1 || rank < 0 || rank >= size {
		return nil, fmt.Errorf("joining with NCCL: rank %d of %d", rank, size)
	}
	comms, err := join([]kernels.Device{device}, id, rank, size, o)
	if err != nil {
		return nil, err
	}
	return comms[0], nil
}

// OpenAll joins GPUs of this process to a group of their own; the result's order is theirs. A goroutine that drives
// several ranks starts a collective on all before it waits for one. All ends are to be closed before the devices are.
func OpenAll(devices []kernels.Device, o Options) ([]collective.Comm, error) {
	id, err := NewID()
	if err != nil {
		return nil, fmt.Errorf("joining with NCCL: %w", err)
	}
	return join(devices, id, 0, len(devices), o)
}

// Over joins GPUs that are one each to the ranks of another group, such as MPI's.
func Over(device kernels.Device, over collective.Comm, o Options) (collective.Comm, error) {
	// Every rank says whether it has NCCL, and the first one names the group.
	var id ID
	err := load()
	if err == nil && over.Rank() == 0 {
		id, err = NewID()
	}
	const words = 1 + len(id)/8
	said := make([]float64, words*over.Size())
	own := said[words*over.Rank():]
	if err == nil {
		own[0] = 1
		for i := range words - 1 {
			own[1+i] = math.Float64frombits(binary.NativeEndian.Uint64(id[8*i:]))
		}
	}
	if e := over.Exchange(said); e != nil {
		return nil, fmt.Errorf("joining with NCCL: %w", e)
	}
	for r := range over.Size() {
		if err == nil && said[words*r] != 1 {
			err = fmt.Errorf("rank %d cannot", r)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("joining with NCCL: %w", err)
	}
	for i := range words - 1 {
		binary.NativeEndian.PutUint64(id[8*i:], math.Float64bits(said[1+i]))
	}
	return Open(device, id, over.Rank(), over.Size(), o)
}

// join makes the ranks from first on of a group of size. Each joins on the thread that it keeps.
func join(devices []kernels.Device, id ID, first, size int, o Options) (_ []collective.Comm, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("joining with NCCL: %w", err)
		}
	}()
	if err := load(); err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = collective.DefaultTimeout
	}
	g := &group{timeout: o.Timeout}
	seen := map[int]bool{}
	for i, d := range devices {
		gpu, ok := d.(*cuda.Device)
		if !ok {
			return nil, fmt.Errorf("%s is no GPU", d.Name())
		}
		if seen[gpu.GPU().Ordinal] {
			return nil, fmt.Errorf("%s is one of two devices of a GPU; NCCL joins one of each", d.Name())
		}
		seen[gpu.GPU().Ordinal] = true
		g.ranks = append(g.ranks, newComm(g, gpu, first+i, size))
	}
	g.open.Store(int32(len(g.ranks)))
	joined := make(chan error, len(g.ranks))
	for _, c := range g.ranks {
		go c.serve(id, joined)
	}
	late := time.After(o.Timeout + grace)
	var comms []collective.Comm
	for _, c := range g.ranks {
		select {
		case e := <-joined:
			err = errors.Join(err, e)
		case <-late:
			return nil, fmt.Errorf("%w of %v, NCCL does not answer", errLate, o.Timeout)
		}
		comms = append(comms, c)
	}
	if err != nil {
		for _, c := range comms {
			c.Close()
		}
		return nil, err
	}
	return comms, nil
}
