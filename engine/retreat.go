package engine

import (
	"context"
	"errors"
	"time"
)

// retreat lets a stop give up an update, or the end of an epoch with its probes, that takes long. Before such a stretch,
// from the end of an update to the end of the next, the state is held on the host; a stop that has waited long enough in
// it keeps that one, and the run goes on from there.
type retreat struct {
	keep func() error // keeps the state held; nil where the stretch under way is expected to be short
	at   progress     // of that state

	began  time.Time     // of the stretch under way
	leaves int           // of its update
	ending time.Duration // what of it the ends of epochs have taken

	perLeaf time.Duration    // of the stretch before
	longest [2]time.Duration // end of an epoch so far, without an evaluation and with one
}

// unknown is how long something is taken to last before it is known.
const unknown = time.Minute

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
	r := &t.retreat
	r.learn()
	r.keep, r.leaves, r.ending = nil, t.leavesPerUpdate(), 0
	t.fleet.held.Store(false)
	if !t.fleet.remote() && t.expected() >= t.cfg.haste.long {
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

// learn takes what the stretch that is over has shown.
func (r *retreat) learn() {
	if r.began.IsZero() {
		r.perLeaf, r.longest = unknown, [2]time.Duration{unknown, unknown}
		return
	}
	r.perLeaf = (time.Since(r.began) - r.ending) / time.Duration(r.leaves)
}

// ended is told how long an end of an epoch took.
func (r *retreat) ended(evaluated bool, took time.Duration) {
	r.ending += took
	longest := r.of(evaluated)
	if *longest == unknown {
		*longest = 0
	}
	*longest = max(*longest, took)
}

// of is how long the end of an epoch may take.
func (r *retreat) of(evaluated bool) *time.Duration {
	if evaluated {
		return &r.longest[1]
	}
	return &r.longest[0]
}

// expected is how long the stretch to come may take. What follows the last epoch of a phase, such as an average of
// copies, is not known before.
func (t *trainer) expected() time.Duration {
	all := t.retreat.perLeaf * time.Duration(t.leavesPerUpdate())
	if left := t.sampler.LeavesPerEpoch() - t.at.Leaf; left >= t.leavesPerUpdate() {
		return all
	}
	if t.at.Epoch+1 >= t.cfg.epochs {
		return all + unknown
	}
	return all + *t.retreat.of(t.evaluates(t.at.Epoch + 1))
}

// goBack keeps the state that is held, in place of what was given up.
func (t *trainer) goBack(ctx context.Context) error {
	t.at = t.retreat.at
	if err := t.retreat.keep(); err != nil {
		return err
	}
	return ctx.Err()
}
