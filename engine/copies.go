package engine

import (
	"fmt"

	"broadside/engine/methods"
)

// An update may train on several augmented copies of every sample. A copy of a leaf is a leaf of its own, so its samples
// share no ghost with those of another copy; the copies of a leaf have neighbouring places in the update.

// copiesEach is how many copies of a leaf an update trains on.
func (f *fleet) copiesEach() int { return max(f.copies, 1) }

// views is how many places of an update a leaf has: those of its copies, or those of its pair.
func (f *fleet) views() int {
	if f.pair != nil {
		return f.pair.views()
	}
	return f.copiesEach()
}

// viewKind tells the places of a leaf apart.
type viewKind int

const (
	cleanView     viewKind = iota
	augmentedView          // drawn anew, with augmentations of its own
	twinView               // attacked
)

// view returns the leaf of the update that a place is of, which copy of it that is drawn as, and its kind.
func (f *fleet) view(place int) (leaf, copy int, kind viewKind) {
	if f.pair == nil {
		return place / f.copiesEach(), place % f.copiesEach(), cleanView
	}
	leaf, kind = f.pair.view(place)
	if kind == augmentedView {
		copy = 1
	}
	return leaf, copy, kind
}

// maxCopies bounds the copies, whose number is one byte of the random counter.
const maxCopies = 256

// openCopies asks the methods how many copies of every sample an update has.
func (t *trainer) openCopies() error {
	for _, m := range t.methods {
		c, ok := m.Method.(methods.Copier)
		if !ok {
			continue
		}
		t.fleet.copies = c.Copies()
		if t.fleet.copies > maxCopies {
			return fmt.Errorf("method %s: %d copies of every sample: there may be %d", m.info.Name, t.fleet.copies, maxCopies)
		}
		if t.fleet.copies > 1 && t.cfg.augment == (augmentation{}) {
			return fmt.Errorf("method %s: %d copies of every sample would all be the same: data.augment is none; use pad_crop, flip, cutout or autoaugment",
				m.info.Name, t.fleet.copies)
		}
	}
	return nil
}
