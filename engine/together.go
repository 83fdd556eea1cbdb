package engine

import (
	"fmt"

	"broadside/engine/methods"
)

// role is what a method does to the way an update is computed. Some roles do not go together.
type role int

const (
	copies     role = 1 << iota // trains on copies of every sample
	selects                     // trains on some samples only
	twins                       // trains on an adversarial twin of every leaf
	replays                     // trains on every update several times
	displaces                   // computes a second gradient
	scales                      // measures the gradients of single copies
	replicates                  // trains replicas after the recipe's own epochs
	searches                    // searches for the learning rate along the gradient
	transforms                  // changes the gradient
	stops                       // may end the recipe's training
)

const views = copies | selects | twins | replays

// apart are the roles that two methods of a run may not have, and why.
var apart = []struct {
	one, other role
	why        string
}{
	{views, views, "both decide what an update trains on"},
	{displaces, twins | replays, "a second gradient is computed for plain leaves only"},
	{displaces, scales, "the gradients of single copies are those of the first one"},
	{replicates, views, "replicas train on plain leaves only"},
	{searches, copies | twins | replays | scales, "a learning rate is searched for on plain leaves only"},
	{replicates, stops, "both decide when the recipe's own epochs end"},
	{searches, transforms, "a learning rate is searched for along the gradient as it is"},
}

// roleOf asks a method that is ready to train.
func roleOf(m methods.Method) (r role) {
	if c, ok := m.(methods.Copier); ok && c.Copies() > 1 {
		r |= copies
	}
	if _, ok := m.(methods.CopyScaler); ok {
		r |= scales
	}
	if _, ok := m.(methods.Selector); ok {
		r |= selects
	}
	if p, ok := m.(methods.Pairer); ok && p.Pair().Attack.Samples > 0 {
		r |= twins
	}
	if _, ok := m.(methods.Replayer); ok {
		r |= replays
	}
	if _, ok := m.(methods.Displacer); ok {
		r |= displaces
	}
	if _, ok := m.(methods.Replicator); ok {
		r |= replicates
	}
	if _, ok := m.(methods.Searcher); ok {
		r |= searches
	}
	if _, ok := m.(methods.Stopper); ok {
		r |= stops
	}
	if _, ok := m.(methods.Transformer); ok {
		r |= transforms
	}
	return r
}

// checkTogether refuses methods whose roles do not go together.
func (t *trainer) checkTogether() error {
	for i, a := range t.methods {
		for _, b := range t.methods[:i] {
			one, other := roleOf(a.Method), roleOf(b.Method)
			for _, rule := range apart {
				if one&rule.one != 0 && other&rule.other != 0 || one&rule.other != 0 && other&rule.one != 0 {
					return fmt.Errorf("methods %s and %s do not go together: %s", b.info.Name, a.info.Name, rule.why)
				}
			}
		}
	}
	return nil
}
