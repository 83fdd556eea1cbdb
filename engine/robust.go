package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"broadside/engine/graph"
	"broadside/engine/methods"
)

// AttackNames are the attacks that a model can be evaluated under.
var AttackNames = []string{"fgsm", "pgd"}

// AttackOptions say what a model is evaluated under: an attack on the pixels, which are from 0 to 1, away from the right
// class, by the running statistics of batch normalisation.
type AttackOptions struct {
	Name        string  `json:"name"` // one of AttackNames
	Eps         float64 `json:"eps"`
	Steps       int     `json:"steps"`     // of pgd
	Step        float64 `json:"step_size"` // of pgd; 0: 2.5 eps/steps
	RandomStart bool    `json:"random_start"`
	Seed        uint64  `json:"seed"` // of the random start
}

// fill checks the options and completes them.
func (o *AttackOptions) fill() error {
	switch {
	case !slices.Contains(AttackNames, o.Name):
		return fmt.Errorf("attack %q: must be one of %s", o.Name, strings.Join(AttackNames, ", "))
	case !(o.Eps >= 0 && o.Eps <= 1):
		return fmt.Errorf("an attack's eps is %g: must be from 0 to 1, in which pixels are", o.Eps)
	case o.Name == "fgsm":
		o.Steps, o.Step, o.RandomStart = 1, o.Eps, false
		return nil
	case o.Steps < 1:
		return fmt.Errorf("an attack of %d steps: must be at least 1", o.Steps)
	case !(o.Step >= 0) || math.IsInf(o.Step, 0):
		return fmt.Errorf("an attack's step size is %g: must be a number of at least 0", o.Step)
	case o.Step == 0:
		o.Step = 2.5 * o.Eps / float64(o.Steps)
	}
	return nil
}

// RobustEvaluation is an evaluation without and under an attack.
type RobustEvaluation struct {
	Evaluation
	Attack         AttackOptions `json:"attack"`
	RobustCorrect  int           `json:"robust_correct"`
	RobustAccuracy float64       `json:"robust_accuracy"` // RobustCorrect / Samples
	RobustLoss     float64       `json:"robust_loss"`     // mean cross-entropy of the attacked samples
}

// EvaluateUnder evaluates the model on the test set without and under an attack.
func (m *Model) EvaluateUnder(o AttackOptions) (*RobustEvaluation, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	clean, err := m.Evaluate()
	if err != nil {
		return nil, err
	}
	f := m.fleet
	under, err := f.runEvaluation(&evaluation{on: f.test, indices: firstSamples(f.test.set.Len()), kind: evalProgram, size: f.leaf.Capacity, draw: methods.Draw{Seed: o.Seed},
		attack: methods.Attack{Samples: f.leaf.Capacity, Attack: graph.Attack{Eps: o.Eps, Step: o.Step, Iterations: o.Steps,
			RandomStart: o.RandomStart, Pixels: true, Clamp: graph.ToBox}}})
	if err != nil {
		return nil, err
	}
	return &RobustEvaluation{Evaluation: clean, Attack: o, RobustCorrect: under.Correct, RobustAccuracy: under.Accuracy, RobustLoss: under.Loss},
		checkLoss(under.Loss, "attacked samples of "+f.test.set.Name)
}
