package engine

import (
	"cmp"
	"context"
	"errors"

	"broadside/engine/recipe"
)

// try opens a recipe for updates that nobody follows and that leave nothing behind, and does something with its
// trainer.
func try(ctx context.Context, r *recipe.Recipe, o Options, do func(t *trainer) error) error {
	f, err := open(r, o)
	if err != nil {
		return err
	}
	defer f.close()
	t, err := newTrainer(f, r, nowhere{})
	if err := f.agree(err); err != nil {
		return err
	}
	defer t.free()
	text, err := r.YAML()
	if err != nil {
		return err
	}
	if err := f.same("recipe", string(text)); err != nil {
		return err
	}
	if !f.remote() {
		f.held.Store(true) // there is nothing to lose
		defer context.AfterFunc(ctx, func() { f.overdue.Store(true) })()
	}
	if err := do(t); !errors.Is(err, errGivenUp) {
		return err
	}
	return ctx.Err()
}

// tryUpdate makes one update as training does, but for what belongs to the end of an epoch.
func (t *trainer) tryUpdate(ctx context.Context) error {
	asked := goOn
	if ctx.Err() != nil {
		asked = stopNow
	}
	switch asked, err := t.fleet.most(asked); {
	case err != nil:
		return err
	case asked == stopNow:
		return cmp.Or(ctx.Err(), context.Canceled) // of this process, or of another
	}
	for before := t.at.Updates; t.at.Updates == before; {
		var err error
		switch {
		case t.pending.leaves >= t.leavesPerUpdate():
			err = t.update()
		case t.epochDone():
			t.turnEpoch()
		default:
			err = t.computeLeaves()
		}
		if err != nil {
			return err
		}
	}
	return nil
}
