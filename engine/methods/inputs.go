package methods

// Layer is a convolution or a linear layer. The inputs of a sample are [H][W][C]; the weight is [K][R][S][C], where a linear
// layer's R and S are H and W.
type Layer struct {
	Tensor       int // the weight, of Training.Tensors
	BiasTensor   int // the bias, if it has one
	Linear, Bias bool
	Frozen       bool // its weight is
	H, W, C      int
	K, R, S      int
	PadH, PadW   int
}

// Reading says what samples ReadInputs runs through the network.
type Reading struct {
	Layers []Layer // whose inputs are wanted
	// Samples are the first of the epoch to come, augmented as they will be; a last leaf is whole. 0: all of the training
	// set in its order, not augmented.
	Samples int
	// Update wants the samples of the update just made instead, as it had them; with batch.drop_last true they are all
	// of one epoch.
	Update bool
}

// LayerInputs are what a layer is given of a leaf.
type LayerInputs struct {
	Layer  int       // of Reading.Layers
	X      []float32 // [samples][H][W][C]
	Labels []int32
}
