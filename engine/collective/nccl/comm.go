//go:build cuda

package nccl

// #include <stdlib.h>
// #include "library.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"gorgonia.org/cu"

	"broadside/cgo/cuda"
	"broadside/engine/collective"
	"broadside/kernels"
)

// grace is what is added to the timeout where a thread does not answer.
const grace = 2 * time.Second

// pause is how long a thread sleeps between two looks at what is under way.
const pause = 50 * time.Microsecond

// errLate is the cause of an error after the timeout.
var errLate = errors.New("not within the timeout")

// group is the ranks of a group that this process has.
type group struct {
	timeout time.Duration
	ranks   []*comm
	open    atomic.Int32 // ranks that are not closed
	failed  atomic.Pointer[broken]
}

// broken is why a rank, or the ranks of this process, cannot be used any more.
type broken struct {
	rank int
	err  error
}

// comm is a rank. Its thread makes all calls of NCCL.
type comm struct {
	*group
	device     *cuda.Device
	rank, size int
	queue      chan *operation
	failure    atomic.Pointer[broken]
	started    atomic.Int64  // collectives
	left       atomic.Bool   // closed
	looked     atomic.Int64  // when the thread was seen last, in nanoseconds
	ended      chan struct{} // closed when the thread has ended
	scratch    kernels.Memory

	mu    sync.Mutex
	spare []marks

	// Of the thread.
	holder **C.bs_nccl_comm
	stream cu.Stream
	flying []*operation
	since  time.Time // the first of them has been the first
}

// marks are a place in the device's stream and one in NCCL's.
type marks struct{ ready, done cu.Event }

// operation is a collective.
type operation struct {
	comm   *comm
	what   string
	number int64
	asks   time.Time
	queue  func() error // queues it on NCCL's stream
	wrong  error        // why it cannot be queued
	marks  marks
	done   chan struct{}
	err    error // once done is closed
}

var _ collective.Comm = (*comm)(nil)

func newComm(g *group, device *cuda.Device, rank, size int) *comm {
	return &comm{group: g, device: device, rank: rank, size: size, queue: make(chan *operation, 1024), ended: make(chan struct{})}
}

// Name describes the group, as in "NCCL 2.27.3 over 8 GPUs".
func (c *comm) Name() string {
	version, _ := Version()
	return fmt.Sprintf("NCCL %s over %d GPUs", version, c.size)
}

func (c *comm) Rank() int   { return c.rank }
func (c *comm) Size() int   { return c.size }
func (c *comm) Exact() bool { return false }

// start has the thread queue a collective behind what the device was told so far.
func (c *comm) start(what string, queue func() error) *operation {
	o := &operation{comm: c, what: what, queue: queue, asks: time.Now(), done: make(chan struct{})}
	switch failed := c.failure.Load(); {
	case c.left.Load():
		return o.finish(o.wrap(nil, errors.New("the group was left")))
	case failed != nil:
		return o.finish(o.wrap(nil, failed.err))
	}
	o.number = c.started.Add(1) - 1
	o.wrong = c.device.Use(func(stream cu.Stream) (err error) {
		if o.marks, err = c.take(); err != nil {
			return err
		}
		return o.marks.ready.Record(stream)
	})
	c.queue <- o
	return o
}

// refuse returns a collective that fails at once and breaks nothing.
func (c *comm) refuse(what string, err error) *operation {
	o := &operation{comm: c, what: what, asks: time.Now(), done: make(chan struct{})}
	return o.finish(o.wrap(nil, err))
}

// take returns marks that nobody uses. The thread has the GPU's context.
func (c *comm) take() (m marks, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.spare); n > 0 {
		m, c.spare = c.spare[n-1], c.spare[:n-1]
		return m, nil
	}
	if m.ready, err = cu.MakeEvent(cu.DisableTiming); err == nil {
		m.done, err = cu.MakeEvent(cu.DisableTiming)
	}
	return m, err
}

func (c *comm) give(m marks) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = append(c.spare, m)
}

func (o *operation) finish(err error) *operation {
	o.err = err
	close(o.done)
	return o
}

// wrap makes an error of the operation.
func (o *operation) wrap(missing []int, err error) error {
	return &collective.Error{Rank: o.comm.rank, Op: o.what, Missing: missing, Err: err}
}

// Wait waits for the end. The rank's thread sees to the timeout, unless it is stuck itself.
func (o *operation) Wait() error {
	c := o.comm
	alive := func() time.Time { return time.Unix(0, max(c.looked.Load(), o.asks.UnixNano())) }
	if collective.Await(o.done, c.timeout+grace, alive) {
		return o.err
	}
	err := o.wrap(nil, fmt.Errorf("%w of %v, NCCL does not answer", errLate, c.timeout))
	c.spoil(err)
	return err
}

// spoil lets nothing more begin, here or on the other ranks of this process.
func (c *comm) spoil(err error) {
	b := &broken{c.rank, fmt.Errorf("the group is broken: %w", err)}
	c.failure.CompareAndSwap(nil, b)
	c.failed.CompareAndSwap(nil, b)
}

// Close leaves the group. The last rank of this process waits until all have left.
func (c *comm) Close() error {
	if c.left.Swap(true) {
		return nil
	}
	close(c.queue)
	if c.open.Add(-1) > 0 { // NCCL lets ranks go together
		return nil
	}
	late := time.After(c.timeout + grace)
	for _, r := range c.ranks {
		select {
		case <-r.ended:
		case <-late:
			return &collective.Error{Rank: r.rank, Op: "leaving the group", Err: fmt.Errorf("%w of %v", errLate, c.timeout)}
		}
	}
	var errs []error
	for _, r := range c.ranks {
		if r.scratch != nil {
			r.scratch.Free()
		}
		errs = append(errs, r.device.Use(func(cu.Stream) error { return r.destroyMarks() }))
	}
	if c.failed.Load() != nil {
		return nil // it was said, and the devices may have failed with it
	}
	return errors.Join(errs...)
}

func (c *comm) destroyMarks() (err error) {
	for _, m := range c.spare {
		err = errors.Join(err, cu.DestroyEvent(&m.ready), cu.DestroyEvent(&m.done))
	}
	c.spare = nil
	return err
}

// serve is the rank's thread, which ends with it.
func (c *comm) serve(id ID, joined chan<- error) {
	runtime.LockOSThread()
	defer close(c.ended)
	err := c.join(id)
	if err != nil {
		err = fmt.Errorf("rank %d: %w", c.rank, err)
		c.spoil(err)
	}
	joined <- err
	for {
		c.looked.Store(time.Now().UnixNano())
		o, open := c.next()
		if !open {
			break
		}
		if o != nil {
			c.launch(o)
		}
		c.look()
	}
	c.leave()
}

// next returns the next collective to be queued, nil if it is time to look at those under way.
func (c *comm) next() (o *operation, open bool) {
	if len(c.flying) == 0 {
		o, open = <-c.queue
		c.looked.Store(time.Now().UnixNano())
		return o, open
	}
	select {
	case o, open = <-c.queue:
		return o, open
	case <-time.After(pause):
		return nil, true
	}
}

// join makes the communicator.
func (c *comm) join(id ID) (err error) {
	if err = c.device.Bind(); err != nil {
		return err
	}
	if c.stream, err = cu.MakeStream(cu.NonBlocking); err != nil {
		return err
	}
	// NCCL may write the communicator later, so its place is none of Go's.
	if c.holder = (**C.bs_nccl_comm)(C.calloc(1, C.size_t(unsafe.Sizeof(uintptr(0))))); c.holder == nil {
		return errors.New("out of memory")
	}
	if err = result(C.bs_nccl_join(c.holder, C.int(c.size), (*C.bs_nccl_id)(unsafe.Pointer(&id)), C.int(c.rank))); err != nil {
		return err
	}
	if err = c.settle(time.Now().Add(c.timeout)); err != nil {
		C.bs_nccl_abort(*c.holder)
		*c.holder = nil
	}
	return err
}

// settle waits until NCCL has done what it was asked.
func (c *comm) settle(until time.Time) error {
	for {
		state := C.bs_nccl_state(*c.holder)
		if state != C.BS_NCCL_IN_PROGRESS {
			return result(state)
		}
		if failed := c.failed.Load(); failed != nil {
			return fmt.Errorf("rank %d failed: %w", failed.rank, failed.err)
		}
		if time.Now().After(until) {
			return fmt.Errorf("%w of %v", errLate, c.timeout)
		}
		time.Sleep(pause)
	}
}

// launch queues a collective on NCCL's stream.
func (c *comm) launch(o *operation) {
	if failed := c.failure.Load(); failed != nil {
		o.finish(o.wrap(nil, failed.err))
		return
	}
	if len(c.flying) == 0 {
		c.since = time.Now()
	}
	c.flying = append(c.flying, o)
	err := o.wrong
	if err == nil {
		err = c.stream.Wait(o.marks.ready, 0)
	}
	if err == nil {
		err = o.queue()
	}
	if err == nil {
		err = c.settle(c.since.Add(c.timeout))
	}
	if err == nil {
		err = o.marks.done.Record(c.stream)
	}
	switch {
	case errors.Is(err, errLate):
		c.fail(o, c.missing(o), err)
	case err != nil:
		c.fail(o, nil, err)
	}
}

// look ends the collectives that are done, and all if something went wrong.
func (c *comm) look() {
	for len(c.flying) > 0 {
		o := c.flying[0]
		err := o.marks.done.Query()
		if err != nil && !errors.Is(err, cu.NotReady) {
			c.fail(o, nil, err)
			return
		}
		if err != nil {
			c.doubt(o)
			return
		}
		c.flying, c.since = c.flying[1:], time.Now()
		c.give(o.marks)
		o.finish(nil)
	}
}

// doubt fails if a collective that is not done will not be.
func (c *comm) doubt(o *operation) {
	if err := result(C.bs_nccl_state(*c.holder)); err != nil {
		c.fail(o, nil, err)
		return
	}
	if failed := c.failed.Load(); failed != nil {
		c.fail(o, []int{failed.rank}, fmt.Errorf("it failed: %w", failed.err))
		return
	}
	for _, r := range c.ranks {
		if r.left.Load() && r.started.Load() <= o.number {
			c.fail(o, []int{r.rank}, errors.New("it has left the group"))
			return
		}
	}
	if time.Since(c.since) > c.timeout {
		c.fail(o, c.missing(o), fmt.Errorf("%w of %v", errLate, c.timeout))
	}
}

// missing returns the ranks of this process that have not come to a collective. Of other processes nothing is known.
func (c *comm) missing(o *operation) (out []int) {
	for _, r := range c.ranks {
		if r.started.Load() <= o.number {
			out = append(out, r.rank)
		}
	}
	return out
}

// fail ends all collectives with an error, and aborts.
func (c *comm) fail(o *operation, missing []int, err error) {
	err = o.wrap(missing, err)
	c.spoil(err)
	for _, other := range c.flying {
		if other == o {
			o.finish(err)
			continue
		}
		other.finish(other.wrap(nil, c.failure.Load().err))
	}
	c.flying = nil
	c.abort()
}

func (c *comm) abort() {
	if *c.holder != nil {
		C.bs_nccl_abort(*c.holder)
		*c.holder = nil
	}
}

// leave ends the thread's part.
func (c *comm) leave() {
	if len(c.flying) > 0 {
		c.fail(c.flying[0], nil, errors.New("the group was left"))
	}
	if c.holder != nil && *c.holder != nil {
		err := result(C.bs_nccl_finalize(*c.holder))
		if err == nil {
			err = c.settle(time.Now().Add(c.timeout))
		}
		if err == nil {
			err = result(C.bs_nccl_destroy(*c.holder))
			*c.holder = nil
		}
		if err != nil {
			c.spoil(fmt.Errorf("rank %d: leaving the group: %w", c.rank, err))
			c.abort()
		}
	}
	C.free(unsafe.Pointer(c.holder))
	if c.stream != (cu.Stream{}) {
		c.stream.Destroy()
	}
}
