package methods

// Searcher sets the learning rate of every update itself, once the mean gradient is known: it looks at the loss of the
// update's own samples further along the step. The step is then w - rate g. It claims what else would change gradient,
// rate or step, and allocates nothing in the steady state.
type Searcher interface {
	// Search returns the learning rate of the update.
	Search(t Training, l Line) (rate float64, err error)
}

// Line is the line w - rate g through the parameters w of an update, for its mean gradient g. What is measured on it is of
// the update's samples as they were trained on: with the same augmentation, attack and dropout, by the batch statistics
// of the ghosts, which are not kept.
type Line interface {
	// Rate is the learning rate that the schedule gives.
	Rate() float64
	// Loss is the mean loss at w, with label smoothing.
	Loss() float64
	// SquaredNorm is that of g.
	SquaredNorm() float64
	// LossAt returns the mean loss at w - rate g, by a forward pass.
	LossAt(rate float64) (float64, error)
	// Curvature returns the curvature of the loss along the line, by the gradient g' at w - rate g: (g' - g) d / (d d) for
	// d = -rate g.
	Curvature(rate float64) (float64, error)
}
