package local

import (
	"fmt"
	"sync"
	"time"

	"broadside/engine/collective"
)

// meeting is where the ranks' goroutines wait for each other, again and again. It ends with the first failure.
type meeting struct {
	timeout time.Duration
	full    []chan struct{} // tells a rank that waits that all have come
	timers  []*time.Timer   // of each rank

	mu      sync.Mutex
	present []bool
	count   int
	ended   chan struct{} // closed at the end
	failure *collective.Error
}

func newMeeting(size int, timeout time.Duration) *meeting {
	m := &meeting{timeout: timeout, present: make([]bool, size), ended: make(chan struct{})}
	for range size {
		timer := time.NewTimer(timeout)
		timer.Stop()
		m.full, m.timers = append(m.full, make(chan struct{}, 1)), append(m.timers, timer)
	}
	return m
}

// wait waits until all ranks have come. Who waits for longer than the timeout ends the meeting for all.
func (m *meeting) wait(rank int, o *op) error {
	if all, err := m.come(rank, o); all || err != nil {
		return err
	}
	m.timers[rank].Reset(m.timeout)
	defer m.timers[rank].Stop()
	select {
	case <-m.full[rank]:
		return nil
	case <-m.ended:
		return m.err(rank, o)
	case <-m.timers[rank].C:
	}
	late := m.late(rank)
	if len(late) == 0 { // all came just now
		<-m.full[rank]
		return nil
	}
	return m.end(&collective.Error{Rank: rank, Op: o.String(), Missing: late, Err: fmt.Errorf("it did not come within %v", m.timeout)})
}

// come notes that a rank has come. The last one tells the others.
func (m *meeting) come(rank int, o *op) (all bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure != nil {
		return false, m.failed(rank, o)
	}
	m.present[rank] = true
	if m.count++; m.count < len(m.present) {
		return false, nil
	}
	m.count = 0
	clear(m.present)
	for i, c := range m.full {
		if i != rank {
			c <- struct{}{}
		}
	}
	return true, nil
}

// late lists the ranks that have not come to the meeting that a rank waits for; none if all have.
func (m *meeting) late(rank int) (out []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, p := range m.present {
		if !p && m.present[rank] {
			out = append(out, i)
		}
	}
	return out
}

// err is the failure that ended the meeting, if one did.
func (m *meeting) err(rank int, o *op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure == nil {
		return nil
	}
	return m.failed(rank, o)
}

// end ends the meeting with the first failure and returns the one that ended it.
func (m *meeting) end(failure *collective.Error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure == nil {
		m.failure = failure
		close(m.ended)
	}
	return m.failure
}

// failed is the failure as another rank sees it.
func (m *meeting) failed(rank int, o *op) error {
	if m.failure.Rank == rank {
		return m.failure
	}
	return &collective.Error{Rank: rank, Op: o.String(), Err: fmt.Errorf("given up: %w", m.failure)}
}
