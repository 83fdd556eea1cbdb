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
	"broadside/engine/graph"
	"broadside/engine/optim"
	"broadside/engine/schedule"
)

// Training is what a method sees of the training it belongs to, and what it may change.
type Training interface {
	// Epoch counts completed epochs; Epochs is the number wanted. Updates counts updates, of the phase.
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
	// Seed is the recipe's.
	Seed() uint64
	// LargestBatch is the largest batch that SetBatch takes.
	LargestBatch() int
	// SetBatch changes the batch size from the next leaf on; an update under way takes the new size.
	// The trigger is recorded.
	SetBatch(size int, carry Carry, trigger string) error
	// ScaleLR multiplies the learning rate for the rest of the run. The trigger is recorded.
	ScaleLR(factor float64, trigger string) error
	// TopEigenvalue measures the largest eigenvalue of the Hessian of the mean loss.
	TopEigenvalue(p Probe) (curvature.Eigenvalue, error)
	// Tensors names the parameter tensors, in the order of all values by tensor.
	Tensors() []string
	// Distance measures how far the parameters are from where training began: of each tensor, unless that is nil, and of
	// all together.
	Distance(each []float64) (float64, error)
	// Curvatures measures the curvature of every tensor along a vector, by one product with the Hessian of the mean loss
	// over training samples drawn afresh, by the running statistics.
	Curvatures(samples int, along Along) ([]TensorCurvature, error)
	// BlockEigenvalues measures the eigenvalue of largest magnitude of each tensor's own diagonal block of the Hessian of
	// the mean loss, for all tensors but those of some roles. Every tensor takes products of its own.
	BlockEigenvalues(p Probe, without map[graph.Role]bool) ([]BlockEigenvalue, error)
	// RobustAccuracy is the share of the first samples of the epoch just completed, whole leaves of them and augmented as
	// they were, that the network classifies right under an attack. It normalises as the attack does.
	RobustAccuracy(samples int, a Attack) (float64, error)
	// Layers tells of the convolutions and linear layers, in their order.
	Layers() []Layer
	// ReadInputs runs training samples through the network, by the running statistics, and visits the inputs of layers, leaf
	// by leaf in order. They are good until visit returns. All processes read all of them.
	ReadInputs(r Reading, visit func(LayerInputs) error) error
	// Tensor returns a copy of a parameter tensor's values, by its number among Tensors; SetTensor replaces them.
	Tensor(tensor int) ([]float32, error)
	SetTensor(tensor int, values []float32) error
}

// BlockEigenvalue is that of a tensor's block.
type BlockEigenvalue struct {
	Tensor string
	curvature.Eigenvalue
}

// Along says what vector curvatures are measured along.
type Along int

// The vectors: random signs, and the gradient of the update just made as the step rule saw it.
const (
	Signs Along = iota
	Gradient
)

// TensorCurvature is a tensor's part of a vector v and of its product Hv.
type TensorCurvature struct {
	Tensor  string
	Size    int
	Product float64 // v Hv
	Square  float64 // v v
	Sum     float64 // sum of |Hv|
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

// Attack is a sign-gradient attack on samples. What is random in it is drawn anew for every sample, in every epoch.
type Attack struct {
	graph.Attack
	Samples    int     // the first of every leaf; 0 is none
	CleanStart float64 // probability that a leaf's attack begins at the clean samples in spite of RandomStart
	TrainMode  bool    // normalise by the batch's own statistics, which are not kept, and drop out; otherwise by the running ones
	Set        int     // parameter set of batch normalisation: 0, or one of NormSets from 1
}

// Perturber attacks samples before they are trained on.
type Perturber interface{ Attack() Attack }

// Pair is training on an adversarial twin of every leaf as well as on the leaf: the same samples, attacked, through the
// parameter set of the attack. Samples of both count the same in the gradient. An update is as many leaves as without.
type Pair struct {
	Attack Attack // no samples: no twins
	// Stale attacks a leaf beside the gradients of the update before its own, so by parameters that are one update old;
	// the leaves of the first update are attacked in it. It needs TrainMode.
	Stale bool
}

// Pairer trains on pairs. It claims the "attack".
type Pairer interface{ Pair() Pair }

// Viewer is a Pairer that trains on a further view of every leaf too: the same samples, drawn anew with augmentations of
// their own, through a parameter set of batch normalisation, 0 or one of NormSets from 1. All three views count the same
// in the gradient. Without augmentations there is no such view.
type Viewer interface {
	View() (augment []string, set int)
}

// Replay is training on every batch several times in a row, each time an update that also moves a perturbation of the
// batch, which is kept from batch to batch.
type Replay struct {
	Times  int
	Attack graph.Persistent
}

// Replayer replays batches, which are whole and of one epoch. It claims the "attack" and the "batch".
type Replayer interface{ Replay() Replay }

// NormSetter gives all batch normalisations further parameter sets: scale, shift and running statistics of their own.
// Networks are evaluated with the first set, which has no name. It claims the "batch norm sets".
type NormSetter interface{ NormSets() []string }

// Update is an update that was just made.
type Update struct {
	Loss    float64 // mean over its samples, before the update
	LR      float64
	Samples int
	Epochs  float64 // its place in training, as its schedule was asked
}

// Draw names a random draw for training samples: it is a function of the seed, the epoch, the copy and the sample.
type Draw struct {
	Seed        uint64
	Epoch, Copy int
}

// Copier trains on several augmented copies of every sample of a batch. It claims the "samples".
type Copier interface{ Copies() int }

// CopyScaler is a Copier that multiplies the gradient by a factor which it finds from the gradients of single copies. An
// update that is measured computes its leaves once more.
type CopyScaler interface {
	// MeasuresCopies says whether to measure an update, counted from 1.
	MeasuresCopies(update int) bool
	// ReadCopies is told the norms of the mean gradients of the update: over each copy of its samples, and over all.
	ReadCopies(each []float64, all float64)
	// Factor multiplies the gradient of every update, of one that is measured too.
	Factor() float64
}

// Selector trains on a part of the samples of each update, which it chooses by their losses. It claims the "samples"
// and allocates nothing in the steady state.
type Selector interface {
	// Keep returns how many leaves of the next update, of so many, to train on. All means that there is nothing to select, 0
	// that the losses decide.
	Keep(t Training, leaves int) int
	// Count is asked after Keep has returned 0: by the losses of all samples, in leaves of so many, how many leaves to keep,
	// one at least.
	Count(losses []float32, leaf int) int
	// Select fills kept with places of samples, in increasing order.
	Select(d Draw, samples []int32, losses []float32, kept []int)
	// OverAll divides the sum of the gradients by the samples of the whole update, rather than by those that are kept.
	OverAll() bool
}

// Weigher weighs the loss of every training sample; the gradient's divisor stays the number of samples. It claims the
// "sample weights" and allocates nothing in the steady state.
type Weigher interface {
	Weigh(t Training, d Draw, samples []int32, weights []float32)
}

// Lengthener is implemented by the options of a method that trains longer.
type Lengthener interface {
	// Lengthen returns the factor of the recipe's epochs and milestones for a batch size, and notes it in the options, so
	// that the recipe that a run keeps is not lengthened once more: then it returns 1.
	Lengthen(batch int) (factor int)
}

// UpdateEnder acts after each update: it may change batch size and learning rate. It allocates nothing in the steady
// state.
type UpdateEnder interface {
	UpdateEnd(t Training, u Update) error
}

// Direction is where a [Displacer] moves the parameters w of an update.
type Direction int

// The directions, for the mean gradient g of the update and Euclidean norms over all parameters.
const (
	// Ascent is g/(|g| + 1e-12).
	Ascent Direction = iota
	// ScaledAscent is w^2 g/(| |w| g | + 1e-12), products elementwise.
	ScaledAscent
	// LaneDescent is -g' for the mean gradient g' of a lane's own samples: the leaves of every lane are computed at a
	// place of their own.
	LaneDescent
	// LaneAscent and LaneScaledAscent are the ascents for g' in place of g.
	LaneAscent
	LaneScaledAscent
)

// Local reports whether every lane has a place of its own.
func (d Direction) Local() bool { return d >= LaneDescent }

// Scaled reports whether a direction is relative to the size of each parameter.
func (d Direction) Scaled() bool { return d == ScaledAscent || d == LaneScaledAscent }

// Displacer has the gradient of an update computed again, on the same leaves at displaced parameters, and the step made
// with the second gradient. The parameters themselves stay, and so do the running statistics of the first pass. It
// claims the "second gradient".
type Displacer interface {
	Direction() Direction
	// Displacement says how far to go in the direction in an update that is about to be made, and whether at all.
	Displacement(t Training, u Update) (distance float64, due bool)
}

// Phase is training that follows the recipe's own.
type Phase struct {
	Epochs   int
	Batch    int
	LR       float64
	Schedule schedule.Schedule // by the epochs of the phase
	Seed     uint64            // of order and augmentation
	// KeepMomentum starts with the optimiser's state at the end of the recipe's training instead of zeros.
	KeepMomentum bool
}

// Replicator trains copies of what the recipe's epochs end with, each on its own. The run ends with the average of the
// copies' parameters; its running statistics are computed anew by a pass over the training set. While copies are
// trained the other methods' ends of epochs and updates are not called, and their attacks rest; what they do to samples
// and steps stays. It claims the "phases".
type Replicator interface {
	// Phases are those of the copies.
	Phases(t Training) ([]Phase, error)
	// Ends reports whether the recipe's training ends with the epoch just completed, before all its epochs.
	Ends(trainAccuracy float64) bool
}

// Starter acts before the first update of a run, which a resume is not.
type Starter interface{ Start(t Training) error }

// Stepper replaces the recipe's step rule, whose momentum, weight decay and exclusions it is given. It claims the
// "step rule".
type Stepper interface {
	Rule(base optim.SGD) (optim.Rule, error)
}

// Grower tells the largest batch that the method may ask for, so that what cannot hold it is refused before training.
type Grower interface{ LargestBatch() int }

// Transformer changes the mean gradient before the step rule sees it, after the transforms of earlier stages. Several
// methods may.
type Transformer interface{ Transform() optim.Transform }

// Scaler multiplies the gradients of convolutions' weights by factors for the places of the kernel, before transforms and
// step rule. It claims the "gradient scales".
type Scaler interface {
	// Scales returns the factors [R][S] of each parameter tensor. Which tensors have any, and how many, is settled by
	// Prepare; the factors may change with every update.
	Scales() [][]float32
}

// GradientEstimator has the gradients of the values that a network marks for it estimated by forward gradients.
type GradientEstimator interface{ ForwardGradient() }

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
	// Claims names what only one method of a run can control: "batch", "attack", "schedule", "step rule",
	// "samples", "sample weights", "batch norm sets", "second gradient", "phases", "damping", "gradient scales".
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
