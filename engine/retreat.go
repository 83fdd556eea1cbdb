package engine

import (
	"context"
	"errors"
	"math"
	"time"
)

// retreat lets a stop give up an update, or the end of an epoch with its probes, that takes long. Before such a stretch,
// from the end of an update to the end of the next, the state is held on the host; a stop that has waited long enough in
// it keeps that one, and the run goes on from there.
type retreat struct {
	keep func() error // keeps the state held; nil where the stretch under way is short
	at   progress     // of that state

	began   time.Time        // of the stretch under way
	turning bool             // an epoch ends in it
	last    [2]time.Duration // how long the last stretch within an epoch took, and the last in which one ended
}

// unknown is how long a stretch takes before there was one like it.
const unknown = time.Duration(math.MaxInt64)

// haste says how soon a stop is to take effect.
type haste struct {
	grace time.Duration // that a stretch has to come to its end
	long  time.Duration // a stretch before which the state is held: that costs a copy of it
}

// defaultHaste ends most runs within the ten seconds that container engines give. Of a network as large as ResNet-50 the
// state is copied in 0.28 s: 3.5% of the shortest stretch before which it is.
var defaultHaste = haste{grace: 5 * time.Second, long: 8 * time.Second}

// errGivenUp is what comes of leaves that a stop has left undone.
var errGivenUp = errors.New("given up for a stop")

// givenUp reports whether no more leaves are to be begun.
func (f *fleet) givenUp() bool { return f.held.Load() && f.overdue.Load() }

// heed has a stop that has waited long enough noticed by the workers; it returns how to end that.
func (t *trainer) heed(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		time.AfterFunc(t.cfg.haste.grace, func() { t.fleet.overdue.Store(true) })
	})
}

// mark notes where training stands at the start or after an update, and holds the state if the next stretch may be long.
// Several processes hold none: one of them would leave the others in the midst of their exchanges.
func (t *trainer) mark() error {
	r, now := &t.retreat, time.Now()
	if r.began.IsZero() {
		r.last = [2]time.Duration{unknown, unknown}
	} else {
		*r.lastLike() = now.Sub(r.began)
	}
	t.fleet.held.Store(false)
	r.turning = t.sampler.LeavesPerEpoch()-t.at.Leaf < t.leavesPerUpdate()
	r.keep = nil
	if !t.fleet.remote() && *r.lastLike() >= t.cfg.haste.long {
		keep, err := t.hold()
		if err != nil {
			return err
		}
		r.keep, r.at = keep, t.at
		t.fleet.held.Store(true)
	}
	r.began = time.Now()
	return nil
}

// lastLike is how long the last stretch like the one under way took.
func (r *retreat) lastLike() *time.Duration {
	if r.turning {
		return &r.last[1]
	}
	return &r.last[0]
}

// goBack keeps the state that is held, in place of what was given up.
func (t *trainer) goBack(ctx context.Context) error {
	t.at = t.retreat.at
	if err := t.retreat.keep(); err != nil {
		return err
	}
	return ctx.Err()
}
