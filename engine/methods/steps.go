package methods

// StepReader measures updates. MeasuresStep says beforehand whether it wants an update, counted from 1; ReadStep is told
// what that update did. An update that is measured costs a copy of the parameters, some norms and two forward passes over
// its samples.
type StepReader interface {
	MeasuresStep(update int) bool
	ReadStep(s *Step)
}

// Step is what an update did.
type Step struct {
	Gradient float64 // norm of the mean gradient of the loss, without weight decay
	Length   float64 // norm of the change of the parameters
	Slope    float64 // inner product of the two: the change of the loss to first order
	// LossChange is that of the mean loss over the samples whose gradients were computed last for the update, all of
	// them unless the update spans two epochs. Both losses are taken without augmentation, attack and label smoothing,
	// by the batch statistics of the ghosts.
	LossChange float64
	Tensors    []TensorStep
}

// TensorStep is that of one parameter tensor.
type TensorStep struct{ Gradient, Length float64 }
