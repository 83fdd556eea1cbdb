package engine

import (
	"fmt"

	"broadside/engine/methods"
)

// An update may train on several augmented copies of every sample. A copy of a leaf is a leaf of its own, so its samples
// share no ghost with those of another copy; the copies of a leaf have neighbouring places in the update.

// copiesEach is how many copies of a leaf an update trains on.
func (f *fleet) copiesEach() int { return max(f.copies, 1) }

// views is how many places of an update a leaf has: those of its copies, or its own and its twin's.
func (f *fleet) views() int {
	if f.pair != nil {
		return 2
	}
	return f.copiesEach()
}

// view returns the leaf of the update that a place is of, which copy of it, and whether it is its twin.
func (f *fleet) view(place int) (leaf, copy int, twin bool) {
	if f.pair != nil {
		return place / 2, 0, twinPlace(place/2) == place
	}
	return place / f.copiesEach(), place % f.copiesEach(), false
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
			return fmt.Errorf("method %s: %d copies of every sample would all be the same: data.augment is none; use pad_crop, flip or cutout",
				m.info.Name, t.fleet.copies)
		}
	}
	return nil
}
