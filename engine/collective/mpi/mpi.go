//go:build mpi

package mpi

// #cgo CFLAGS: -O3
// #cgo LDFLAGS: -lmpi
// #include "wire.h"
import "C"

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"broadside/engine/collective"
	"broadside/kernels"
)

// Built reports whether this build has MPI.
const Built = true

// grace is what Wait adds to the timeout where the thread of MPI itself does not answer.
const grace = 2 * time.Second

// idlePeriod is how often MPI is given the time to finish what it has buffered, where it has nothing to do.
const idlePeriod = 10 * time.Millisecond

// errLate is the cause of an error after the timeout.
var errLate = errors.New("not within the timeout")

// comm is this process's end of the group of all processes.
type comm struct {
	device     kernels.Device
	timeout    time.Duration
	rank, size int
	hosts      int

	queue   chan *operation
	began   atomic.Int64           // when the thread took up what it does, in nanoseconds
	failure atomic.Pointer[broken] // nil while the group is whole
	closed  bool

	// Of the thread of MPI.
	number int  // of the collective under way
	told   bool // the last notice
	chunks [2]*chunk
}

// broken is why the group cannot be used any more.
type broken struct{ err error }

// operation is what the thread of MPI is asked to do.
type operation struct {
	comm *comm
	what string
	work func(o *operation) error
	asks time.Time
	done chan struct{}
	err  error // once done is closed
}

var _ collective.Comm = (*comm)(nil)

var (
	opened  atomic.Bool
	current atomic.Pointer[comm]
	aborts  = make(chan int, 1)
	aborted atomic.Bool
)

// Open joins all processes that were started together; memories of the collectives are the given device's. All must
// call it, once in their lives. Their number must be a power of two.
func Open(device kernels.Device, o Options) (collective.Comm, error) {
	if o.Timeout == 0 {
		o.Timeout = collective.DefaultTimeout
	}
	if opened.Swap(true) {
		return nil, errors.New("joining with MPI: a process can do so once only")
	}
	c := &comm{device: device, timeout: o.Timeout, queue: make(chan *operation, 1024)}
	joined := make(chan error, 1)
	go c.serve(joined)
	select {
	case err := <-joined:
		if err != nil {
			return nil, fmt.Errorf("joining with MPI: %w", err)
		}
	case <-time.After(o.Timeout):
		return nil, fmt.Errorf("joining with MPI: the other processes did not come within %v", o.Timeout)
	}
	current.Store(c)
	return c, nil
}

// Abort ends all processes with an exit status. It does not return.
func Abort(status int) {
	if aborted.Swap(true) {
		select {} // another goroutine is at it
	}
	if current.Load() != nil {
		aborts <- status
		C.bs_mpi_interrupt()
		time.Sleep(5 * time.Second) // the thread of MPI may be stuck
	}
	os.Exit(status)
}

// serve owns MPI: its thread makes all calls. It ends with the group, and with it the thread.
func (c *comm) serve(joined chan<- error) {
	runtime.LockOSThread()
	err := c.join()
	joined <- err
	if err != nil {
		return
	}
	idle := time.NewTicker(idlePeriod)
	defer idle.Stop()
	for queue := c.queue; ; {
		select {
		case <-idle.C:
			if c.failure.Load() == nil {
				C.bs_mpi_progress()
			}
		case status := <-aborts:
			C.bs_mpi_abort(C.int(status))
		case o, open := <-queue:
			if !open && c.failure.Load() == nil {
				return
			}
			if !open {
				queue = nil // there may still be an Abort
				continue
			}
			c.do(o)
		}
	}
}

func (c *comm) join() error {
	var rank, size, hosts C.int
	if err := failure(C.bs_mpi_start(&rank, &size, &hosts)); err != nil {
		return err
	}
	c.rank, c.size, c.hosts = int(rank), int(size), int(hosts)
	if bits.OnesCount(uint(c.size)) != 1 {
		return errors.Join(fmt.Errorf("%d processes: sums that do not depend on their number need a power of two", c.size),
			failure(C.bs_mpi_finish()))
	}
	return nil
}

// failure makes an error of one of MPI.
func failure(code C.int) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("%s (MPI error %d)", C.GoString(C.bs_mpi_error(code)), int(code))
}

// Name describes the group, as in "MPI, tree over 8 processes on 2 hosts".
func (c *comm) Name() string {
	if c.hosts == 1 {
		return fmt.Sprintf("MPI, tree over %d processes", c.size)
	}
	return fmt.Sprintf("MPI, tree over %d processes on %d hosts", c.size, c.hosts)
}

func (c *comm) Rank() int   { return c.rank }
func (c *comm) Size() int   { return c.size }
func (c *comm) Exact() bool { return true }

// start queues an operation.
func (c *comm) start(what string, work func(*operation) error) *operation {
	o := &operation{comm: c, what: what, work: work, asks: time.Now(), done: make(chan struct{})}
	switch failed := c.failure.Load(); {
	case c.closed:
		o.finish(o.wrap(nil, errors.New("the group was left")))
	case failed != nil:
		o.finish(o.wrap(nil, failed.err))
	default:
		c.queue <- o
	}
	return o
}

// refuse returns an operation that fails at once and breaks nothing.
func (c *comm) refuse(what string, err error) *operation {
	o := &operation{comm: c, what: what, asks: time.Now(), done: make(chan struct{})}
	o.finish(o.wrap(nil, err))
	return o
}

// do does an operation on the thread of MPI.
func (c *comm) do(o *operation) {
	c.began.Store(time.Now().UnixNano())
	if failed := c.failure.Load(); failed != nil {
		o.finish(o.wrap(nil, failed.err))
		return
	}
	err := o.work(o)
	if err != nil {
		c.fail(err)
	}
	c.number++
	o.finish(err)
}

// fail breaks the group, and tells the others.
func (c *comm) fail(err error) {
	c.failure.CompareAndSwap(nil, &broken{fmt.Errorf("the group is broken: %w", err)})
	culprit := -1
	var e *collective.Error
	if errors.As(err, &e) && len(e.Missing) > 0 {
		culprit = e.Missing[0]
	}
	c.tell(C.BS_FAILED, culprit)
}

// tell sends the others the last notice that they get from this rank.
func (c *comm) tell(reason C.int32_t, culprit int) error {
	if c.told || c.size == 1 {
		return nil
	}
	c.told = true
	notice := C.bs_notice{collectives: C.int64_t(c.number), reason: reason, culprit: C.int32_t(culprit)}
	return failure(C.bs_notify(notice, 0.2))
}

func (o *operation) finish(err error) {
	o.err = err
	close(o.done)
}

// wrap makes an error of the operation.
func (o *operation) wrap(missing []int, err error) error {
	return &collective.Error{Rank: o.comm.rank, Op: o.what, Missing: missing, Err: err}
}

// Wait waits for the end. The thread of MPI sees to the timeout, unless it is stuck itself.
func (o *operation) Wait() error {
	c := o.comm
	alive := func() time.Time { return time.Unix(0, max(c.began.Load(), o.asks.UnixNano())) }
	if collective.Await(o.done, c.timeout+grace, alive) {
		return o.err
	}
	err := o.wrap(nil, fmt.Errorf("%w of %v, MPI or the device does not answer", errLate, c.timeout))
	c.failure.CompareAndSwap(nil, &broken{fmt.Errorf("the group is broken: %w", err)})
	return err
}

// Close leaves the group once all others do so too, which it waits for no longer than the timeout.
func (c *comm) Close() error {
	if c.closed {
		return nil
	}
	if c.failure.Load() != nil { // whatever MPI still has to do stays undone
		c.closed = true
		close(c.queue)
		return nil
	}
	o := c.start("leaving the group", (*operation).leave)
	c.closed = true
	close(c.queue)
	return o.Wait()
}

func (o *operation) leave() error {
	c := o.comm
	if err := c.tell(C.BS_LEFT, -1); err != nil {
		return o.wrap(nil, err)
	}
	var code C.int
	switch C.bs_wait_notices(C.double(c.timeout.Seconds()), &code) {
	case C.BS_ARRIVED:
	case C.BS_INTERRUPTED:
		c.abort()
	case C.BS_LATE:
		var missing []int
		for r := range c.size {
			if r != c.rank && C.bs_noticed(C.int(r)).reason < C.BS_LEFT {
				missing = append(missing, r)
			}
		}
		return o.wrap(missing, fmt.Errorf("%w of %v", errLate, c.timeout))
	default:
		return o.wrap(nil, failure(code))
	}
	for r := range c.size {
		if C.bs_noticed(C.int(r)).reason == C.BS_FAILED {
			return o.wrap([]int{r}, errors.New("it failed"))
		}
	}
	c.free()
	if err := failure(C.bs_mpi_finish()); err != nil {
		return o.wrap(nil, err)
	}
	current.Store(nil)
	return nil
}

// abort ends all processes, on the thread of MPI.
func (c *comm) abort() {
	C.bs_mpi_abort(C.int(<-aborts))
}
