package collective

import (
	"fmt"
	"sync"
)

// Watched is a rank's end of a group that knows what it is at: what to tell of it when nothing moves any more.
type Watched struct {
	Comm

	mu           sync.Mutex
	begun, ended int
	last         string // kind of the one begun last
	count        int    // of its numbers
	spare        []*watchedPending
}

// Watch watches one end.
func Watch(c Comm) *Watched { return &Watched{Comm: c} }

// State says what has been begun and what of it is over.
func (w *Watched) State() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun == 0 {
		return "no collective begun"
	}
	return fmt.Sprintf("%d collectives begun, %d over, the last begun is %s", w.begun, w.ended, Describe(w.last, w.count))
}

// AllReduce is that of the Comm.
func (w *Watched) AllReduce(b Buffer) Pending {
	return w.begin("all-reduce", b.Count).set(w.Comm.AllReduce(b))
}

// ReduceScatter is that of the Comm.
func (w *Watched) ReduceScatter(b Buffer) Pending {
	return w.begin("reduce-scatter", b.Count).set(w.Comm.ReduceScatter(b))
}

// AllGather is that of the Comm.
func (w *Watched) AllGather(b Buffer) Pending {
	return w.begin("all-gather", b.Count).set(w.Comm.AllGather(b))
}

// Broadcast is that of the Comm.
func (w *Watched) Broadcast(b Buffer, root int) Pending {
	return w.begin("broadcast", b.Count).set(w.Comm.Broadcast(b, root))
}

// Barrier is that of the Comm.
func (w *Watched) Barrier() Pending { return w.begin("barrier", 0).set(w.Comm.Barrier()) }

// Exchange is that of the Comm.
func (w *Watched) Exchange(values []float64) error {
	p := w.begin("exchange", 2*len(values))
	defer p.end()
	return w.Comm.Exchange(values)
}

// begin counts a collective before it is started: starting it may be what hangs.
func (w *Watched) begin(kind string, count int) *watchedPending {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun++
	w.last, w.count = kind, count
	n := len(w.spare)
	if n == 0 {
		return &watchedPending{of: w}
	}
	p := w.spare[n-1]
	w.spare = w.spare[:n-1]
	return p
}

type watchedPending struct {
	Pending
	of *Watched
}

func (p *watchedPending) set(of Pending) *watchedPending {
	p.Pending = of
	return p
}

// Wait waits, and counts.
func (p *watchedPending) Wait() error {
	err := p.Pending.Wait()
	p.end()
	return err
}

func (p *watchedPending) end() {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.of.ended++
	p.Pending = nil
	p.of.spare = append(p.of.spare, p)
}
