// Package forwardgrad implements local forward gradients (Ren, Kornblith, Liao, Hinton 2023, "Scaling forward gradient
// with local losses", arXiv 2210.03310): hidden layers learn from the derivative of their own block's loss along one
// random direction of their activations, and from nothing else.
//
// It needs a network that marks the activations, with blocks that have losses of their own: local-mlp or local-cnn. The
// authors take the derivative by forward differentiation; here it is the inner product of the block's gradient and the
// direction, which is the same number. Their directions are normal, ours have elements 1 and -1: the same mean and
// covariance, and a little less variance.
package forwardgrad

import "broadside/engine/methods"

func init() {
	methods.Register(methods.Info{Name: "forwardgrad", Paper: "Ren et al. 2023, arXiv 2210.03310", Status: "experimental",
		Doc:  "local forward gradients: hidden layers learn from a derivative along one random direction",
		Cost: "a pass over the marked activations; many more updates than by back-propagation",
		Equations: `z = activations of a sample that the network marks, L = the loss of their own block, u random, of 1 and -1
d = sum of dL/dz u
dL/dz <- d u, whose mean over u is dL/dz`,
		Limits:  "the variance grows with the number of activations: far behind back-propagation beyond small networks",
		Options: func() any { return &struct{}{} },
		New:     func(any) (methods.Method, error) { return method{}, nil }})
}

type method struct{}

// Prepare has nothing to check.
func (method) Prepare(methods.Training) error { return nil }

// ForwardGradient makes it so.
func (method) ForwardGradient() {}
