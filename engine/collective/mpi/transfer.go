//go:build mpi

package mpi

// #include <stdlib.h>
// #include "wire.h"
import "C"

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"broadside/engine/collective"
	"broadside/kernels"
)

// chunkCells is how many floats a rank receives for a chunk of a sum; two chunks are under way at a time. It is the
// same on all ranks.
var chunkCells = 4 << 20

func init() {
	if n, err := strconv.Atoi(os.Getenv("BROADSIDE_MPI_CHUNK")); err == nil && n > 0 { // for tests
		chunkCells = n
	}
}

// Tags of messages. Messages of one tag arrive in order.
const (
	tagParts = 1 // of this rank's part: summands, or the root's
	tagTotal = 2 // the part that a rank has made
)

// plan says what a collective consists of. Each rank has a part of the buffer.
type plan struct {
	reduce bool // the sum of a part comes to its rank
	root   int  // or root sends each rank its part; -1 for none
	gather bool // then each rank sends its part to all others
}

// brings reports whether a rank's buffer is read at rank r's part.
func (p plan) brings(rank, r int) bool {
	return p.reduce || (p.root >= 0 && rank == p.root) || (p.root < 0 && r == rank)
}

// takes reports whether a rank's buffer is written at rank r's part.
func (p plan) takes(rank, r int) bool {
	switch {
	case p.root >= 0:
		return rank != p.root
	case p.reduce:
		return p.gather || r == rank
	default:
		return r != rank
	}
}

// transfer is a collective under way.
type transfer struct {
	plan
	*comm
	o        *operation
	count    int
	host     []float32         // the buffer, where the host reaches it; nil if it has no cells
	buffer   collective.Buffer // where it does not
	deadline time.Time
	said     bool // that it waits
}

// chunk is what is under way of each rank's part, with its memory.
type chunk struct {
	k        int
	messages *C.bs_messages
	slots    []float32 // what the others send for a sum, in C memory
	staged   []float32 // the chunk of every part, where the host does not reach the buffer
	summand  []*C.float
}

// AllReduce leaves the sum of all ranks' buffers in each.
func (c *comm) AllReduce(b collective.Buffer) collective.Pending {
	return c.transfer("all-reduce", b, plan{reduce: true, gather: true, root: -1})
}

// ReduceScatter leaves rank r's part of the sum in that part of its buffer.
func (c *comm) ReduceScatter(b collective.Buffer) collective.Pending {
	return c.transfer("reduce-scatter", b, plan{reduce: true, root: -1})
}

// AllGather copies every rank's part of its buffer to the same part of all others.
func (c *comm) AllGather(b collective.Buffer) collective.Pending {
	return c.transfer("all-gather", b, plan{gather: true, root: -1})
}

// Broadcast copies root's buffer to all others.
func (c *comm) Broadcast(b collective.Buffer, root int) collective.Pending {
	if root < 0 || root >= c.size {
		return c.refuse(collective.Describe("broadcast", b.Count), fmt.Errorf("there is no rank %d", root))
	}
	return c.transfer("broadcast", b, plan{gather: true, root: root})
}

func (c *comm) transfer(name string, b collective.Buffer, p plan) *operation {
	what := collective.Describe(name, b.Count)
	if b.Offset < 0 || b.Count < 0 || b.Offset > b.Memory.Len()-b.Count {
		return c.refuse(what, fmt.Errorf("cells [%d, %d) of a memory of %d cells", b.Offset, b.Offset+b.Count, b.Memory.Len()))
	}
	t := &transfer{plan: p, comm: c, count: b.Count, buffer: b}
	if m, ok := b.Memory.(kernels.HostMemory); ok {
		t.host = m.Floats(b.Offset, b.Count)
	}
	return c.start(what, t.run)
}

// Barrier is over when all ranks have come to it.
func (c *comm) Barrier() collective.Pending {
	return c.start("barrier", func(o *operation) error { return c.exchange(o, make([]float64, c.size)) })
}

// Exchange is an all-gather of host numbers.
func (c *comm) Exchange(values []float64) error {
	o := c.start(collective.Describe("exchange", 2*len(values)), func(o *operation) error { return c.exchange(o, values) })
	return o.Wait()
}

// exchange gathers by way of C memory, in which a number has two cells.
func (c *comm) exchange(o *operation, values []float64) error {
	if len(values)%c.size != 0 {
		return o.wrap(nil, fmt.Errorf("%d numbers cannot be shared out among %d ranks", len(values), c.size))
	}
	cells, err := hostCells(2 * len(values))
	if err != nil {
		return o.wrap(nil, err)
	}
	numbers := unsafe.Slice((*float64)(unsafe.Pointer(unsafe.SliceData(cells))), len(values))
	copy(numbers, values)
	t := &transfer{plan: plan{gather: true, root: -1}, comm: c, count: len(cells), host: cells}
	if err := t.run(o); err != nil {
		return err // MPI may still use the cells
	}
	copy(values, numbers)
	C.free(unsafe.Pointer(unsafe.SliceData(cells)))
	return nil
}

// hostCells returns C memory.
func hostCells(n int) ([]float32, error) {
	p := C.malloc(C.size_t(max(n, 1)) * 4)
	if p == nil {
		return nil, fmt.Errorf("%d bytes of host memory: out of memory", 4*n)
	}
	return unsafe.Slice((*float32)(p), max(n, 1))[:n], nil
}

// run does the collective chunk by chunk. What comes first of a chunk travels while the one before it is summed and
// gathered.
func (t *transfer) run(o *operation) error {
	t.o, t.deadline = o, time.Now().Add(t.timeout)
	n := t.chunkCount()
	if t.size == 1 {
		n = 0
	}
	for k := range n + 1 {
		if k < n {
			if err := t.begin(k); err != nil {
				return err
			}
		}
		if k > 0 {
			if err := t.end(t.chunks[(k-1)%2]); err != nil {
				return err
			}
		}
	}
	return nil
}

// piece returns where the chunk's piece of rank r's part lies in the buffer.
func (t *transfer) piece(k, r int) (first, n int) {
	first, n = collective.Part(t.count, t.size, r)
	from := min(k*t.pieceCells(), n)
	return first + from, min(n-from, t.pieceCells())
}

func (c *comm) pieceCells() int { return max(1, chunkCells/c.size) }

func (t *transfer) chunkCount() int {
	_, most := collective.Part(t.count, t.size, 0)
	return (most + t.pieceCells() - 1) / t.pieceCells()
}

// cells returns the chunk's piece of rank r's part.
func (t *transfer) cells(ch *chunk, r int) []float32 {
	first, n := t.piece(ch.k, r)
	if t.host != nil {
		return t.host[first : first+n]
	}
	at := r * t.pieceCells()
	return ch.staged[at : at+n]
}

// slot returns where rank r's summand of this rank's piece goes.
func (t *transfer) slot(ch *chunk, r int) []float32 {
	_, n := t.piece(ch.k, t.rank)
	if r > t.rank {
		r--
	}
	at := r * t.pieceCells()
	return ch.slots[at : at+n]
}

// begin reads a chunk and sends what comes first.
func (t *transfer) begin(k int) error {
	ch, err := t.chunk(k)
	if err != nil {
		return t.o.wrap(nil, err)
	}
	if err := t.load(ch); err != nil {
		return t.o.wrap(nil, err)
	}
	own := t.cells(ch, t.rank)
	for r := range t.size {
		switch {
		case r == t.rank:
		case t.reduce:
			err = errors.Join(err, ch.receive(t.slot(ch, r), r, tagParts), ch.send(t.cells(ch, r), r, tagParts))
		case t.root == t.rank:
			err = errors.Join(err, ch.send(t.cells(ch, r), r, tagParts))
		case t.root == r:
			err = errors.Join(err, ch.receive(own, r, tagParts))
		}
	}
	if err != nil {
		return t.o.wrap(nil, err)
	}
	return nil
}

// end sums and gathers a chunk, and writes it.
func (t *transfer) end(ch *chunk) error {
	if err := t.wait(ch); err != nil {
		return err
	}
	if t.reduce {
		t.sum(ch)
	}
	if t.gather {
		if err := t.gatherPieces(ch); err != nil {
			return t.o.wrap(nil, err)
		}
		if err := t.wait(ch); err != nil {
			return err
		}
	}
	t.store(ch)
	return nil
}

// gatherPieces sends this rank's piece to all others and receives theirs. A root has them all.
func (t *transfer) gatherPieces(ch *chunk) (err error) {
	own := t.cells(ch, t.rank)
	for r := range t.size {
		if r == t.rank {
			continue
		}
		if t.rank != t.root {
			err = errors.Join(err, ch.receive(t.cells(ch, r), r, tagTotal))
		}
		if r != t.root {
			err = errors.Join(err, ch.send(own, r, tagTotal))
		}
	}
	return err
}

// sum adds all ranks' summands of this rank's piece. Sums of memory of CPUs are the kernels' to the bit.
func (t *transfer) sum(ch *chunk) {
	own := t.cells(ch, t.rank)
	if t.size == 1 || len(own) == 0 {
		return
	}
	for r := range t.size {
		cells := own
		if r != t.rank {
			cells = t.slot(ch, r)
		}
		ch.summand[r] = (*C.float)(unsafe.SliceData(cells))
	}
	flush := C.int(0)
	if t.host != nil {
		flush = 1
	}
	C.bs_tree_sum((*C.float)(unsafe.SliceData(own)), unsafe.SliceData(ch.summand), C.int(t.size), C.long(len(own)), flush)
}

// load reads the chunk from a device.
func (t *transfer) load(ch *chunk) error {
	if t.host != nil {
		return nil
	}
	for r := range t.size {
		if first, n := t.piece(ch.k, r); n > 0 && t.brings(t.rank, r) {
			t.buffer.Memory.ReadFloats(t.buffer.Offset+first, t.cells(ch, r))
		}
	}
	return kernels.Sync(t.device)
}

// store writes the chunk to a device.
func (t *transfer) store(ch *chunk) {
	if t.host != nil {
		return
	}
	for r := range t.size {
		if first, n := t.piece(ch.k, r); n > 0 && t.takes(t.rank, r) {
			t.buffer.Memory.WriteFloats(t.buffer.Offset+first, t.cells(ch, r))
		}
	}
}

// wait waits until the chunk's messages have arrived. After half the time it tells the others that it waits, and they
// tell it, so that whoever gives up knows who was late and who waited like itself.
func (t *transfer) wait(ch *chunk) error {
	if t.othersWait() {
		t.sayWaiting(ch)
	}
	for {
		if err := t.deserted(); err != nil {
			return err
		}
		until := t.deadline
		if !t.said {
			until = until.Add(-t.timeout / 2)
		}
		var code C.int
		switch C.bs_wait(ch.messages, C.double(time.Until(until).Seconds()), &code) {
		case C.BS_ARRIVED:
			return nil
		case C.BS_NOTICE:
			if t.othersWait() {
				t.sayWaiting(ch)
			}
		case C.BS_INTERRUPTED:
			t.abort()
		case C.BS_LATE:
			if time.Now().After(t.deadline) {
				return t.o.wrap(t.missing(ch), fmt.Errorf("%w of %v", errLate, t.timeout))
			}
			t.sayWaiting(ch)
		default:
			return t.o.wrap(t.missing(ch), failure(code))
		}
	}
}

// waits reports whether rank r has said that it waits in this collective.
func (t *transfer) waits(r int) bool {
	n := C.bs_noticed(C.int(r))
	return n.reason == C.BS_WAITING && int(n.collectives) == t.number
}

func (t *transfer) othersWait() bool {
	for r := range t.size {
		if t.waits(r) {
			return true
		}
	}
	return false
}

// sayWaiting tells the others, once, that this rank waits in this collective, and for whom. An error will show
// elsewhere.
func (t *transfer) sayWaiting(ch *chunk) {
	missing := t.missing(ch)
	if t.said || len(missing) == 0 {
		return
	}
	t.said = true
	C.bs_notify(C.bs_notice{collectives: C.int64_t(t.number), reason: C.BS_WAITING, culprit: C.int32_t(missing[0])}, 0)
}

// deserted fails if a rank said that it takes no part in this collective.
func (t *transfer) deserted() error {
	for r := range t.size {
		n := C.bs_noticed(C.int(r))
		if n.reason < C.BS_LEFT || int(n.collectives) > t.number {
			continue
		}
		culprit := int(n.culprit)
		switch {
		case n.reason == C.BS_LEFT:
			return t.o.wrap([]int{r}, errors.New("it has left the group"))
		case culprit < 0:
			return t.o.wrap([]int{r}, errors.New("it failed"))
		case culprit == t.rank:
			return t.o.wrap(nil, fmt.Errorf("rank %d gave up waiting for this rank", r))
		default:
			return t.o.wrap([]int{culprit}, fmt.Errorf("rank %d gave up waiting for it", r))
		}
	}
	return nil
}

// missing returns the ranks whose messages have not come, or those whom they wait for.
func (t *transfer) missing(ch *chunk) (out []int) {
	peers := make([]C.int, t.size)
	n := C.bs_missing(ch.messages, unsafe.SliceData(peers))
	for _, p := range peers[:n] {
		r := int(p)
		for range t.size {
			if next := int(C.bs_noticed(C.int(r)).culprit); t.waits(r) && next != t.rank {
				r = next
			}
		}
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out
}

// chunk returns the memory for chunk k, with what this collective needs of it.
func (t *transfer) chunk(k int) (ch *chunk, err error) {
	if t.chunks[k%2] == nil {
		m := C.bs_messages_new(C.int(2 * t.size))
		if m == nil {
			return nil, errors.New("out of memory")
		}
		t.chunks[k%2] = &chunk{messages: m, summand: make([]*C.float, t.size)}
	}
	ch = t.chunks[k%2]
	ch.k = k
	if t.reduce && ch.slots == nil {
		if ch.slots, err = hostCells((t.size - 1) * t.pieceCells()); err != nil {
			return nil, err
		}
	}
	if t.host == nil && ch.staged == nil {
		if ch.staged, err = hostCells(t.size * t.pieceCells()); err != nil {
			return nil, err
		}
	}
	return ch, nil
}

// free gives back the chunks' memory. No message is on its way.
func (c *comm) free() {
	for _, ch := range c.chunks {
		if ch != nil {
			C.free(unsafe.Pointer(unsafe.SliceData(ch.slots)))
			C.free(unsafe.Pointer(unsafe.SliceData(ch.staged)))
			ch.slots, ch.staged = nil, nil
		}
	}
}

// send sends cells to a rank; none is no message.
func (ch *chunk) send(cells []float32, to, tag int) error {
	if len(cells) == 0 {
		return nil
	}
	return failure(C.bs_send(ch.messages, (*C.float)(unsafe.SliceData(cells)), C.int(len(cells)), C.int(to), C.int(tag)))
}

// receive receives cells of a rank.
func (ch *chunk) receive(cells []float32, from, tag int) error {
	if len(cells) == 0 {
		return nil
	}
	return failure(C.bs_receive(ch.messages, (*C.float)(unsafe.SliceData(cells)), C.int(len(cells)), C.int(from), C.int(tag)))
}
