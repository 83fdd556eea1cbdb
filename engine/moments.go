package engine

import (
	"fmt"
	"math"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/kernels"
)

// moments measures how far the gradients of an update's lanes lie apart, for the methods that ask. Each worker takes the
// squared norms of its own lanes before the reduction adds them; the sums over lanes are taken on the host, in the order
// of the lanes, so that they have the same bits for any number of devices, memories and processes.
type moments struct {
	laneJob
	readers []methods.MomentReader

	rows    []kernels.Memory // a squared norm of each tensor, of a lane of every rank
	blocks  kernels.Memory   // the rows
	sum     kernels.Memory   // as a row, of the sum of all lanes
	lanes   []kernels.Pass   // each worker's, over a lane
	whole   kernels.Pass
	mixed   bool      // samples of the update differ in weight
	block   []float64 // the rows of a memory
	own     []float64 // rows of this process, for the exchange
	squares []float64 // of each lane, by tensor
	summed  []float64 // of the sum of all lanes, by tensor
	out     methods.Moments
}

// newMoments returns nothing where no method asks.
func newMoments(f *fleet, list []method) (*moments, error) {
	m := &moments{laneJob: laneJob{fleet: f}}
	for _, entry := range list {
		r, ok := entry.Method.(methods.MomentReader)
		if !ok {
			continue
		}
		if err := checkLanes(f); err != nil {
			return nil, fmt.Errorf("method %s: %w", entry.info.Name, err)
		}
		m.readers = append(m.readers, r)
	}
	if len(m.readers) == 0 {
		return nil, nil
	}
	if err := m.alloc(); err != nil {
		m.free()
		return nil, fmt.Errorf("preparing the moments of gradients: %w", err)
	}
	return m, nil
}

func (m *moments) alloc() (err error) {
	f, tensors := m.fleet, len(m.fleet.net.Params)
	if m.blocks, err = f.dev.Alloc(f.lanes / f.ranks * 2 * tensors); err != nil {
		return err
	}
	for i := range f.lanes / f.ranks {
		m.rows = append(m.rows, m.blocks.Slice(i*2*tensors, 2*tensors))
	}
	if m.sum, err = f.dev.Alloc(2 * tensors); err != nil {
		return err
	}
	if m.whole, err = f.prepare(squaredNorms(f.net)...); err != nil {
		return err
	}
	m.lanes = make([]kernels.Pass, len(f.workers))
	m.block = make([]float64, f.lanes/f.ranks*tensors)
	m.squares = make([]float64, f.lanes*tensors)
	m.summed = make([]float64, tensors)
	m.out.Sizes = make([]int, 0, f.lanes)
	m.out.Tensors = make([]methods.TensorMoments, tensors)
	return nil
}

// squaredNorms are the calls that leave the squared norm of every tensor of parameter-shaped memory at resultBase.
func squaredNorms(net *graph.Network) []kernels.Call {
	var calls []kernels.Call
	for i, p := range net.Params {
		x := kernels.Ref{Base: xBase, Offset: int64(p.Offset)}
		calls = append(calls, kernels.Call{Kernel: kernels.Dot, Shape: kernels.Vector{Count: int64(p.Size())},
			Args: []kernels.Ref{x, x, {Base: resultBase, Offset: int64(2 * i)}}})
	}
	return calls
}

// run takes the squared norms of a worker's lanes.
func (m *moments) run(w *worker) error {
	f := w.fleet
	return m.each(w, func(lane int) error {
		if err := m.prepare(w); err != nil {
			return err
		}
		w.bases[graph.ArenaBase] = w.arena
		w.bases[xBase], w.bases[resultBase] = f.sums.lane(w, lane), part(m.rows[lane/f.ranks], w.home)
		return m.lanes[w.id].Run(&w.bases)
	})
}

// prepare prepares a worker's pass, once.
func (m *moments) prepare(w *worker) error {
	if m.lanes[w.id] != nil {
		return nil
	}
	calls := squaredNorms(w.fleet.net)
	cells, err := addWorkspace(w.dev, calls)
	if err != nil {
		return err
	}
	if err := w.reserve(cells); err != nil {
		return err
	}
	m.lanes[w.id], err = w.dev.Prepare(calls)
	return err
}

// unequal notes that samples of the update under way differ in weight.
func (m *moments) unequal() {
	if m != nil {
		m.mixed = true
	}
}

// readLanes measures the lanes that an update of so many leaves reaches.
func (m *moments) readLanes(leaves int) error {
	if m == nil {
		return nil
	}
	m.reach(leaves)
	if err := m.gather(m.fleet.do(m)); err != nil {
		return fmt.Errorf("measuring the lanes' gradients: %w", err)
	}
	return nil
}

// readSum measures the sum of the lanes and tells the methods the moments of the update.
func (m *moments) readSum(sum kernels.Memory) error {
	if m == nil {
		return nil
	}
	f := m.fleet
	f.bases[resultBase] = m.sum
	if err := f.run(m.whole, sum, nil); err != nil {
		return err
	}
	m.sum.ReadDoubles(0, m.summed)
	if err := kernels.Sync(f.dev); err != nil {
		return err
	}
	m.combine()
	m.mixed = false
	for _, r := range m.readers {
		r.ReadMoments(&m.out)
	}
	return nil
}

// gather reads the rows of all lanes into squares, after a job that may have failed.
func (m *moments) gather(err error) error {
	f, tensors := m.fleet, len(m.out.Tensors)
	if err == nil {
		for home := range f.homes {
			part(m.blocks, home).ReadDoubles(0, m.block)
			for lane := f.first + home; lane < m.used(); lane += f.ranks {
				copy(m.squares[lane*tensors:(lane+1)*tensors], m.block[lane/f.ranks*tensors:])
			}
		}
		err = kernels.Sync(f.dev)
	}
	if !f.remote() {
		return err
	}
	return m.exchange(err)
}

// exchange gives every process the rows of the others.
func (m *moments) exchange(err error) error {
	f, tensors := m.fleet, len(m.out.Tensors)
	rows := ceilDiv(m.used(), f.ranks)
	m.own = m.own[:0]
	for lane := f.first; lane < rows*f.ranks; lane += f.ranks {
		m.own = append(m.own, m.squares[lane*tensors:(lane+1)*tensors]...)
	}
	blocks, err := f.exchange(err, m.own...)
	if err != nil {
		return err
	}
	for lane := range m.used() {
		at := lane%f.ranks*(1+rows*tensors) + 1 + lane/f.ranks*tensors
		copy(m.squares[lane*tensors:(lane+1)*tensors], blocks[at:])
	}
	return nil
}

// combine makes the moments of the squared norms of the lanes' sums and of the whole sum.
func (m *moments) combine() {
	out, tensors, leaf := &m.out, len(m.out.Tensors), m.fleet.leaf.Capacity
	out.Samples, out.Sizes = m.leaves*leaf, out.Sizes[:0]
	for lane := range m.used() {
		out.Sizes = append(out.Sizes, m.leavesOf(lane)*leaf)
	}
	out.SquaredNorm = 0
	scatter, n := 0.0, float64(out.Samples)
	for i := range tensors {
		t := methods.TensorMoments{Norm: math.Sqrt(m.summed[i]) / n}
		for lane, size := range out.Sizes {
			t.MeanNorm += math.Sqrt(m.squares[lane*tensors+i]) / n // of size_j |g_j| / n
			scatter += m.squares[lane*tensors+i] / float64(size)
		}
		scatter -= m.summed[i] / n
		out.SquaredNorm += m.summed[i] / (n * n)
		out.Tensors[i] = t
	}
	out.Trace = math.NaN()
	if m.used() > 1 && !m.mixed {
		out.Trace = max(scatter, 0) / float64(m.used()-1) // below 0 by rounding alone
	}
}

func (m *moments) free() {
	if m == nil {
		return
	}
	free(m.blocks, m.sum)
	for _, p := range append(m.lanes, m.whole) {
		if p != nil {
			p.Free()
		}
	}
}

var _ job = (*moments)(nil)
