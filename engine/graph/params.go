package graph

import (
	"math"

	"broadside/kernels/philox"
)

// Role is what a parameter is to its layer; optimisers exclude parameters by role.
type Role int

// The roles of parameters.
const (
	Weight Role = iota // of a convolution or linear layer
	Bias               // of a convolution or linear layer
	Gamma              // scale of a batch normalisation, gain of standardised weights
	Beta               // shift of a batch normalisation
)

// Init says how a parameter starts.
type Init int

// The initialisations.
const (
	HeNormal     Init = iota // N(0, 2/(R S K)): He et al. 2015, fan-out
	UniformFanIn             // U(-1/sqrt(fan in), 1/sqrt(fan in)): PyTorch's default
	Ones
	Zeros
	Normal // N(0, Std^2)
)

// Param is one trainable tensor, stored [K][R][S][C] in float32 at Offset of the parameter memory.
// Vectors have R = S = C = 1.
type Param struct {
	Name       string // as in a PyTorch state dict
	Role       Role
	Linear     bool // a 2-D weight [K, C*R*S] to PyTorch
	K, R, S, C int
	Offset     int
	Init       Init
	Std        float64 // of Normal
	fanIn      int     // of the layer, for biases
}

// Size is the number of elements.
func (p Param) Size() int { return p.K * p.R * p.S * p.C }

// TorchShape is the tensor's shape in a PyTorch state dict.
func (p Param) TorchShape() []int {
	switch {
	case p.Role != Weight:
		return []int{p.K}
	case p.Linear:
		return []int{p.K, p.C * p.R * p.S}
	}
	return []int{p.K, p.C, p.R, p.S}
}

// InitParams returns the parameter memory of a freshly initialised network. Every tensor has a
// random stream of its own, drawn in PyTorch's element order.
func (n *Network) InitParams(seed uint64) []float32 {
	out := make([]float32, n.ParamCells())
	for i, p := range n.Params {
		s := philox.NewStream(seed, philox.Init, 0, uint32(i), 0)
		dst := out[p.Offset : p.Offset+p.Size()]
		draw := p.sampler(s)
		for k := range p.K {
			for c := range p.C {
				for rs := range p.R * p.S {
					dst[(k*p.R*p.S+rs)*p.C+c] = float32(draw())
				}
			}
		}
	}
	return out
}

func (p Param) sampler(s *philox.Stream) func() float64 {
	fanIn := p.fanIn
	if fanIn == 0 {
		fanIn = p.R * p.S * p.C
	}
	switch p.Init {
	case HeNormal:
		std := math.Sqrt(2 / float64(p.R*p.S*p.K))
		return func() float64 { return std * s.Norm() }
	case UniformFanIn:
		bound := 1 / math.Sqrt(float64(fanIn))
		return func() float64 { return bound * (2*s.Float64() - 1) }
	case Normal:
		return func() float64 { return p.Std * s.Norm() }
	case Ones:
		return func() float64 { return 1 }
	}
	return func() float64 { return 0 }
}

// InitState returns the state memory of a fresh network: means 0, variances 1.
func (n *Network) InitState() []float32 {
	out := make([]float32, n.StateCells())
	for _, b := range n.Norms {
		for c := range b.C {
			out[b.Offset+b.C+c] = 1
		}
	}
	return out
}
