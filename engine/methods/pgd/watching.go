package pgd

import (
	"fmt"

	"broadside/engine/graph"
	"broadside/engine/methods"
)

// Watching is FGSM-RS that ends training where the network overfits to the single step. As the authors do it, but that
// they leave samples alone which an attack has got wrong, and let the test's forward passes into the running statistics.
type Watching struct {
	*Method
	most  float64 // drop
	state watched
}

// watched is what a resume needs.
type watched struct {
	Accuracy float64 `json:"robust_accuracy"` // after the last epoch
	Before   float64 `json:"before"`          // after the one before it
}

// The authors' test: steps of 2/255 for an epsilon of 8/255.
const (
	testIterations = 5
	testStep       = 1. / 4 // in units of epsilon
)

// test is the attack that accuracy is measured under.
func (m *Watching) test(leaf int) methods.Attack {
	eps := m.attack.Eps
	return methods.Attack{Samples: leaf, TrainMode: true, Attack: graph.Attack{Eps: eps, Step: testStep * eps,
		Iterations: testIterations, RandomStart: true, Pixels: true, Clamp: graph.ToBox}}
}

// EpochEnd measures the accuracy under the attack.
func (m *Watching) EpochEnd(t methods.Training) error {
	accuracy, err := t.RobustAccuracy(t.Batch(), m.test(t.Leaf()))
	if err != nil {
		return fmt.Errorf("measuring the accuracy under PGD: %w", err)
	}
	m.state.Before, m.state.Accuracy = m.state.Accuracy, accuracy
	return nil
}

// Stops reports whether the accuracy has fallen too far.
func (m *Watching) Stops() (why string, stop bool) {
	s := m.state
	if s.Before-s.Accuracy <= m.most {
		return "", false
	}
	return fmt.Sprintf("the accuracy under PGD fell from %.1f%% to %.1f%% in an epoch (catastrophic overfitting)", 100*s.Before, 100*s.Accuracy), true
}

// State returns the state to keep in checkpoints.
func (m *Watching) State() any { return &m.state }

// Report adds the accuracy to the epoch's record.
func (m *Watching) Report() map[string]float64 {
	return map[string]float64{"robust_accuracy": m.state.Accuracy}
}
