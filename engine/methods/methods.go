// Package methods defines what a large-batch method can do, and knows the methods by name.
//
// A method is a small struct that implements [Method] and some of the one-method interfaces below;
// the trainer asks each method for what it implements and never for its name. It lives in a folder
// of its own, registers itself from init, and owns its resumable state.
package methods

import (
	"fmt"
	"sort"

	"broadside/engine/curvature"
	"broadside/engine/optim"
	"broadside/engine/schedule"
)

// Training is what a method sees of the training it belongs to, and what it may change.
type Training interface {
	// Epoch counts completed epochs; Epochs is the number wanted. Updates counts updates.
	Epoch() int
	Epochs() int
	Updates() int
	// Samples is the size of the training set, SamplesSeen how many were trained on.
	Samples() int
	SamplesSeen() int64
	// Leaf and Batch are in samples. BaseBatch is the recipe's batch size.
	Leaf() int
	Batch() int
	BaseBatch() int
	// SetBatch changes the batch size from the next leaf on; an update under way takes the new size.
	// The trigger is recorded.
	SetBatch(size int, carry Carry, trigger string) error
	// ScaleLR multiplies the learning rate for the rest of the run. The trigger is recorded.
	ScaleLR(factor float64, trigger string) error
	// TopEigenvalue measures the largest eigenvalue of the Hessian of the mean loss.
	TopEigenvalue(p Probe) (curvature.Eigenvalue, error)
}

// Probe says what a curvature probe measures: training samples drawn afresh, without augmentation,
// by the running statistics (eval mode).
type Probe struct {
	Samples int
	curvature.Options
}

// Carry says what a change of the batch size does to gradients already summed for the update under way.
type Carry int

// The carry-over rules.
const (
	// Reweight gives every sample of the update the same weight, 1/(samples of the update).
	Reweight Carry = iota
	// KeepWeights leaves earlier samples their old weight, 1/(old batch): what HessianFlow does.
	KeepWeights
)

// Method is a published method with its options.
type Method interface {
	// Prepare checks the method against the training, which it must not change yet. It is called once
	// before training, also on a resume.
	Prepare(t Training) error
}

// Attack is a sign-gradient attack on the first Samples samples of every leaf; 0 samples is none.
type Attack struct {
	Samples    int
	Eps, Step  float64
	Iterations int
}

// Perturber attacks samples before they are trained on.
type Perturber interface{ Attack() Attack }

// Update is an update that was just made.
type Update struct {
	Loss    float64 // mean over its samples, before the update
	LR      float64
	Samples int
}

// UpdateEnder acts after each update: it may change batch size and learning rate. It allocates nothing in the steady
// state.
type UpdateEnder interface {
	UpdateEnd(t Training, u Update) error
}

// Stepper replaces the recipe's step rule, whose momentum, weight decay and exclusions it is given. It claims the
// "step rule".
type Stepper interface {
	Rule(base optim.SGD) (optim.Rule, error)
}

// Grower tells the largest batch that the method may ask for, so that what cannot hold it is refused before training.
type Grower interface{ LargestBatch() int }

// EpochEnder acts at the end of each epoch: it may probe and change batch size and learning rate.
type EpochEnder interface{ EpochEnd(t Training) error }

// Scheduler replaces or wraps the recipe's learning-rate schedule.
type Scheduler interface {
	Schedule(t Training, s schedule.Schedule) (schedule.Schedule, error)
}

// Resumable has state to keep in checkpoints: a pointer to a struct that JSON can carry.
type Resumable interface{ State() any }

// Reporter adds values to the record of an epoch, by their event key.
type Reporter interface{ Report() map[string]float64 }

// Info describes a method.
type Info struct {
	Name  string
	Doc   string // one line
	Paper string
	Cost  string // what it adds to plain SGD
	// Status is empty for a method as its authors define it. "reconstruction": rebuilt by us from an incomplete
	// description; "experimental": for research, not for production runs.
	Status string
	// Equations states the method, one plain-text equation or rule a line, in the names of the options.
	Equations string
	// Limits says when the method does not help, and what to watch.
	Limits string
	// Claims names what only one method of a run can control: "batch", "attack", "schedule", "step rule".
	Claims []string
	// Options returns a pointer to the options, filled with the defaults.
	Options func() any
	// New makes the method of its options.
	New func(options any) (Method, error)
}

var registry = map[string]Info{}

// Register enrols a method. Two methods of one name are a programming error.
func Register(i Info) {
	if _, ok := registry[i.Name]; ok {
		panic("methods: " + i.Name + " is registered twice")
	}
	registry[i.Name] = i
}

// Lookup returns the named method's description.
func Lookup(name string) (Info, bool) {
	i, ok := registry[name]
	return i, ok
}

// All returns every method, sorted by name.
func All() []Info {
	out := make([]Info, 0, len(registry))
	for _, i := range registry {
		out = append(out, i)
	}
	sort.Slice(out, func(a, b int) bool { return out[a].Name < out[b].Name })
	return out
}

// Names returns the names of all methods, sorted.
func Names() []string {
	var out []string
	for _, i := range All() {
		out = append(out, i.Name)
	}
	return out
}

// CheckConflicts refuses methods that claim the same thing.
func CheckConflicts(chosen []Info) error {
	owner := map[string]string{}
	for _, i := range chosen {
		for _, claim := range i.Claims {
			if other, taken := owner[claim]; taken {
				return fmt.Errorf("methods %s and %s both control the %s: keep one of them", other, i.Name, claim)
			}
			owner[claim] = i.Name
		}
	}
	return nil
}
