// Package local joins several memories of one process, as of several GPUs, by copies between them.
//
// Every rank has a goroutine and a device of its own beside the one that computes, so collectives go on beside
// computation. The goroutines meet before each phase of a collective, so that what one rank's device is to wait for
// has been queued by the other.
package local

import (
	"errors"
	"fmt"
	"time"

	"broadside/engine/collective"
	"broadside/kernels"
)

// Algorithm is how sums are made.
type Algorithm int

const (
	// Tree is exact (see [collective.Comm]): every rank fetches its part of all buffers and adds them in the fixed
	// tree, and then all fetch the sums of all parts. Each rank reads 2 (n-1)/n of the buffer from others, in two
	// steps, which suits a switch between all pairs.
	Tree Algorithm = iota
	// Ring passes partial sums round a ring (Patarasuk and Yuan 2009): it reads as much, from one neighbour only,
	// in 2 (n-1) steps.
	Ring
)

func (a Algorithm) String() string { return [...]string{"tree", "ring"}[a] }

// Algorithms lists the algorithms.
func Algorithms() []Algorithm { return []Algorithm{Tree, Ring} }

// Options steer a group; the zero value will do.
type Options struct {
	Algorithm Algorithm
	Timeout   time.Duration // how long a rank waits for the others; 0 means collective.DefaultTimeout
}

// chunk is how many floats of each part are worked on at a time. It bounds the scratch.
const chunk = 4 << 20

// New joins the memories of devices of one kind, one rank for each. The devices stay their owner's.
func New(devices []kernels.Device, o Options) ([]collective.Comm, error) {
	n := len(devices)
	if n == 0 || n&(n-1) != 0 {
		return nil, fmt.Errorf("joining %d memories: their number must be a power of two, as that of the lanes", n)
	}
	if o.Timeout == 0 {
		o.Timeout = collective.DefaultTimeout
	}
	g := &group{algorithm: o.Algorithm, meeting: newMeeting(n, o.Timeout)}
	for i, d := range devices {
		r, err := newRank(g, i, d)
		if err != nil {
			for _, r := range g.ranks {
				r.side.Close()
			}
			return nil, fmt.Errorf("joining %s: %w", d.Name(), err)
		}
		g.ranks = append(g.ranks, r)
	}
	comms := make([]collective.Comm, n)
	for i, r := range g.ranks {
		comms[i] = r
		go r.serve()
	}
	return comms, nil
}

// group is what the ranks share.
type group struct {
	algorithm Algorithm
	ranks     []*rank
	meeting   *meeting
}

// rank is one rank's end.
type rank struct {
	group  *group
	id     int
	home   kernels.Device // computes
	side   kernels.Peer   // copies and adds
	todo   chan *op
	closed chan struct{}
	now    *op // under way; the others look at it between two meetings
	spare  []*op
	plans  map[span]*plan
	ring   scratch
	tree   []scratch // a summand of each rank; this rank's own is in its buffer
	bases  [kernels.MaxBases]kernels.Memory
}

var _ collective.Comm = (*rank)(nil)

func newRank(g *group, id int, home kernels.Device) (*rank, error) {
	p, ok := home.(kernels.Peer)
	if !ok {
		return nil, errors.New("it cannot copy from other memories")
	}
	side, err := p.Fork()
	if err != nil {
		return nil, err
	}
	return &rank{group: g, id: id, home: home, side: side.(kernels.Peer), todo: make(chan *op, 256), closed: make(chan struct{}),
		plans: map[span]*plan{}}, nil
}

func (r *rank) Name() string {
	return fmt.Sprintf("%v over %d memories", r.group.algorithm, len(r.group.ranks))
}
func (r *rank) Rank() int   { return r.id }
func (r *rank) Size() int   { return len(r.group.ranks) }
func (r *rank) Exact() bool { return r.group.algorithm == Tree }

// kind is a kind of collective.
type kind string

const (
	allReduce     kind = "all-reduce"
	reduceScatter kind = "reduce-scatter"
	allGather     kind = "all-gather"
	broadcast     kind = "broadcast"
	barrier       kind = "barrier"
	exchange      kind = "exchange"
)

// op is a collective under way.
type op struct {
	rank   *rank
	kind   kind
	buffer collective.Buffer
	root   int
	values []float64
	done   chan error
}

func (o *op) String() string {
	if o.kind == exchange {
		return collective.Describe(string(o.kind), 2*len(o.values))
	}
	return collective.Describe(string(o.kind), o.buffer.Count)
}

// same reports whether two ranks' ops are the same collective.
func (o *op) same(other *op) bool {
	return o.kind == other.kind && o.buffer.Count == other.buffer.Count && o.root == other.root && len(o.values) == len(other.values)
}

func (r *rank) AllReduce(b collective.Buffer) collective.Pending { return r.start(allReduce, b, 0) }
func (r *rank) ReduceScatter(b collective.Buffer) collective.Pending {
	return r.start(reduceScatter, b, 0)
}
func (r *rank) AllGather(b collective.Buffer) collective.Pending { return r.start(allGather, b, 0) }
func (r *rank) Barrier() collective.Pending                      { return r.start(barrier, collective.Buffer{}, 0) }
func (r *rank) Broadcast(b collective.Buffer, root int) collective.Pending {
	return r.start(broadcast, b, root)
}

func (r *rank) Exchange(values []float64) error {
	o := r.newOp(exchange)
	o.values = values
	return r.hand(o).Wait()
}

func (r *rank) newOp(k kind) *op {
	n := len(r.spare)
	if n == 0 {
		return &op{rank: r, kind: k, done: make(chan error, 1)}
	}
	o := r.spare[n-1]
	r.spare = r.spare[:n-1]
	*o = op{rank: r, kind: k, done: o.done}
	return o
}

// start hands a collective to the rank's goroutine. Its device waits for what the other has been told so far.
func (r *rank) start(k kind, b collective.Buffer, root int) collective.Pending {
	o := r.newOp(k)
	o.buffer, o.root = b, root
	if err := kernels.Follow(r.side, r.home); err != nil {
		r.group.meeting.end(&collective.Error{Rank: r.id, Op: o.String(), Err: err})
	}
	return r.hand(o)
}

func (r *rank) hand(o *op) collective.Pending {
	r.todo <- o
	return o
}

// Wait waits until the rank's part in the collective is queued, and makes the device that computes follow it.
func (o *op) Wait() error {
	err := <-o.done
	if err == nil {
		if e := kernels.Follow(o.rank.home, o.rank.side); e != nil {
			err = &collective.Error{Rank: o.rank.id, Op: o.String(), Err: e}
		}
	}
	o.rank.spare = append(o.rank.spare, o)
	return err
}

// serve runs the rank's collectives in order, until Close. After a failure all fail.
func (r *rank) serve() {
	defer close(r.closed)
	for o := range r.todo {
		err := r.group.meeting.err(r.id, o)
		if err == nil {
			r.now = o
			err = r.run(o)
		}
		if err != nil {
			err = r.failure(o, err)
		}
		o.done <- err
	}
}

// failure ends the meeting with an error that does not come from there.
func (r *rank) failure(o *op, err error) error {
	var known *collective.Error
	if errors.As(err, &known) {
		return err
	}
	return r.group.meeting.end(&collective.Error{Rank: r.id, Op: o.String(), Err: err})
}

// Close leaves the group; what is under way fails.
func (r *rank) Close() error {
	r.group.meeting.end(&collective.Error{Rank: r.id, Op: "close", Err: errors.New("the rank has left")})
	close(r.todo)
	<-r.closed
	r.freePlans()
	for _, s := range append(r.tree, r.ring) {
		s.free()
	}
	return r.side.Close()
}

// run does the rank's part in a collective.
func (r *rank) run(o *op) error {
	if err := r.meet(); err != nil {
		return err
	}
	for i, other := range r.group.ranks {
		if !o.same(other.now) {
			return fmt.Errorf("rank %d has begun %v instead: all ranks must start the same collectives in the same order", i, other.now)
		}
	}
	switch {
	case o.kind == barrier || len(r.group.ranks) == 1:
	case o.kind == exchange:
		r.collect(o.values)
	case o.kind == broadcast:
		if o.root != r.id {
			if err := r.fetch(o, o.root, 0, o.buffer.Count); err != nil {
				return err
			}
		}
	default:
		if err := r.sumAndGather(o); err != nil {
			return err
		}
	}
	return r.meet() // nobody touches its buffer before all have read it
}

// meet waits for the goroutines of all ranks, and makes the device follow what the others' were told.
func (r *rank) meet() error {
	if err := r.group.meeting.wait(r.id, r.now); err != nil {
		return err
	}
	for _, other := range r.group.ranks {
		if other != r {
			if err := kernels.Follow(r.side, other.side); err != nil {
				return err
			}
		}
	}
	return nil
}

// collect copies the other ranks' blocks of host numbers.
func (r *rank) collect(values []float64) {
	n := len(values) / len(r.group.ranks)
	for i, other := range r.group.ranks {
		if other != r {
			copy(values[i*n:(i+1)*n], other.now.values[i*n:(i+1)*n])
		}
	}
}

// fetch copies part of another rank's buffer to the same place of this rank's.
func (r *rank) fetch(o *op, from, first, n int) error {
	source := r.group.ranks[from].now.buffer
	return r.side.Copy(o.buffer.Memory, o.buffer.Offset+first, source.Memory, source.Offset+first, n)
}

// sumAndGather does the two halves of an all-reduce, or one of them.
func (r *rank) sumAndGather(o *op) error {
	if o.kind != allGather {
		if err := r.sum(o); err != nil || o.kind == reduceScatter {
			return err
		}
		if err := r.meet(); err != nil {
			return err
		}
	}
	if r.group.algorithm == Ring {
		return r.gatherRing(o)
	}
	for i := range r.group.ranks {
		if i != r.id {
			first, n := collective.Part(o.buffer.Count, len(r.group.ranks), i)
			if err := r.fetch(o, i, first, n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *rank) sum(o *op) error {
	if r.group.algorithm == Ring {
		return r.sumRing(o)
	}
	first, n := collective.Part(o.buffer.Count, len(r.group.ranks), r.id)
	for n > 0 {
		count := min(n, chunk)
		if err := r.sumTree(o, first, count); err != nil {
			return err
		}
		first, n = first+count, n-count
	}
	return nil
}

// sumTree sums all ranks' floats from first on into this rank's buffer.
func (r *rank) sumTree(o *op, first, n int) error {
	p, err := r.plan(o.buffer, first, n)
	if err != nil {
		return err
	}
	for len(r.tree) < len(r.group.ranks) {
		r.tree = append(r.tree, scratch{})
	}
	summand := func(i int) kernels.Memory {
		if i == r.id {
			return p.own
		}
		return r.tree[i].memory
	}
	for i, other := range r.group.ranks {
		if i == r.id {
			continue
		}
		if err := r.tree[i].grow(r.side, n); err != nil {
			return err
		}
		from := other.now.buffer
		if err := r.side.Copy(r.tree[i].memory, 0, from.Memory, from.Offset+first, n); err != nil {
			return err
		}
	}
	err = collective.Tree(len(r.group.ranks), func(to, from int) error { return r.add(p, summand(to), summand(from)) })
	if err != nil || r.id == 0 {
		return err
	}
	return r.side.Copy(p.own, 0, r.tree[0].memory, 0, n)
}

// sumRing passes partial sums round the ring. The one that ends at this rank is that of its own part.
func (r *rank) sumRing(o *op) error {
	size := len(r.group.ranks)
	left := (r.id + size - 1) % size
	for step := range size - 1 {
		if step > 0 {
			if err := r.meet(); err != nil {
				return err
			}
		}
		first, n := collective.Part(o.buffer.Count, size, (r.id+2*size-2-step)%size)
		for n > 0 {
			count := min(n, chunk)
			p, err := r.plan(o.buffer, first, count)
			if err != nil {
				return err
			}
			if err := r.ring.grow(r.side, count); err != nil {
				return err
			}
			from := r.group.ranks[left].now.buffer
			if err := r.side.Copy(r.ring.memory, 0, from.Memory, from.Offset+first, count); err != nil {
				return err
			}
			if err := r.add(p, p.own, r.ring.memory); err != nil {
				return err
			}
			first, n = first+count, n-count
		}
	}
	return nil
}

// gatherRing passes finished parts round the ring.
func (r *rank) gatherRing(o *op) error {
	size := len(r.group.ranks)
	left := (r.id + size - 1) % size
	for step := range size - 1 {
		if step > 0 {
			if err := r.meet(); err != nil {
				return err
			}
		}
		first, n := collective.Part(o.buffer.Count, size, (r.id+size-1-step)%size)
		if err := r.fetch(o, left, first, n); err != nil {
			return err
		}
	}
	return nil
}

// span is a part of a buffer.
type span struct {
	memory   kernels.Memory
	first, n int
}

// plan is what adding to a part of a buffer needs.
type plan struct {
	own kernels.Memory
	sum kernels.Pass // own += from
}

// mostPlans bounds the plans that a rank remembers.
const mostPlans = 64

// plan returns the plan of n floats of a buffer, first floats from its start.
func (r *rank) plan(b collective.Buffer, first, n int) (*plan, error) {
	key := span{b.Memory, b.Offset + first, n}
	if p, ok := r.plans[key]; ok {
		return p, nil
	}
	if len(r.plans) >= mostPlans {
		r.freePlans()
	}
	sum, err := r.side.Prepare([]kernels.Call{{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(n), A: 1, B: 1},
		Args: []kernels.Ref{{Base: fromBase}, {Base: toBase}}}})
	if err != nil {
		return nil, err
	}
	p := &plan{own: b.Memory.Slice(key.first, n), sum: sum}
	r.plans[key] = p
	return p, nil
}

// The operands of an addition.
const (
	fromBase = iota
	toBase
)

func (r *rank) add(p *plan, to, from kernels.Memory) error {
	r.bases[fromBase], r.bases[toBase] = from, to
	return p.sum.Run(&r.bases)
}

func (r *rank) freePlans() {
	for key, p := range r.plans {
		p.sum.Free()
		delete(r.plans, key)
	}
}

// scratch is memory that grows.
type scratch struct{ memory kernels.Memory }

func (s *scratch) grow(dev kernels.Device, cells int) (err error) {
	if s.memory != nil && s.memory.Len() >= cells {
		return nil
	}
	s.free()
	s.memory, err = dev.Alloc(cells)
	return err
}

func (s *scratch) free() {
	if s.memory != nil {
		s.memory.Free()
	}
	s.memory = nil
}
