package graph

import (
	"fmt"

	"broadside/kernels"
)

// Options say what a Program computes.
type Options struct {
	N     int // samples
	Ghost int // samples per batch normalisation group; 0 means N
	// Frozen normalises by the running statistics and switches dropout off (eval mode). Otherwise
	// statistics are each ghost's own, and are left in the stats memory for the fold.
	Frozen     bool
	Sync       bool // statistics are those of all leaves that run together; Ghost is N, and there are Cuts
	ParamGrads bool // Backward adds to the gradient memory
	InputGrad  bool // Backward computes the gradient of the input
	Tangent    bool // tangent passes for Hessian-vector products
	Smoothing  float64
	Precision  kernels.Precision // of the factors of products in convolutions and linear layers
	Weighted   bool              // every sample's loss counts by its weight in the leaf
	// ForwardGradient estimates the gradients of the values that the network marks for it.
	ForwardGradient bool
	Attack          *Attack     // emits the attack pass; needs InputGrad, and leaves no batch statistics
	Persistent      *Persistent // attacks while it trains; needs InputGrad
	Set             int         // parameter set of batch normalisation: 0, or one of Network.NormSets from 1
	KeepInputs      bool        // Program.Inputs are there after the last pass
}

// Program is a compiled network: passes over one arena. Sums, not means: Backward adds the gradient of
// the summed loss, the tangent passes add the Hessian of the summed loss times the direction.
type Program struct {
	Options
	Net  *Network
	Leaf Leaf

	Forward         []kernels.Call // leaf inputs -> per-sample loss and correctness, logits
	Backward        []kernels.Call // after Forward
	TangentForward  []kernels.Call // after Backward; may be repeated with other directions
	TangentBackward []kernels.Call // after TangentForward
	AttackPass      []kernels.Call // everything at once: inputs, and Start and Target if wanted -> perturbed inputs
	Fold            []kernels.Call // stats memory -> running statistics
	Cuts            []Cut          // of a synced Program, in order

	ArenaCells int
	StatsCells int
	Logits     kernels.Ref         // [N][Classes]
	Locals     []kernels.Ref       // like Logits, of the local losses; of a Program without a backward pass
	InputGrad  kernels.Ref         // [N][H][W][C], if asked for
	Start      kernels.Ref         // [N][H][W][C] of an attack with a random start: what is added to the clean samples
	Target     kernels.Ref         // int32[N] of a targeted attack
	Inputs     map[int]kernels.Ref // [N][H][W][C] that convolutions and linear layers read, by the number of their weight, if kept
}

// GradientDone returns after how many calls of Backward the gradient is final from a cell of it on.
func (p *Program) GradientDone(cell int) (calls int) {
	for i, c := range p.Backward {
		for _, a := range c.Args {
			if a.Base == GradBase && p.paramEnd(int(a.Offset)) > cell {
				calls = i + 1
			}
		}
	}
	return calls
}

// paramEnd is where the parameter at a cell ends.
func (p *Program) paramEnd(cell int) int {
	for _, q := range p.Net.Params {
		if cell >= q.Offset && cell < q.Offset+q.Size() {
			return q.Offset + q.Size()
		}
	}
	return cell + 1
}

// Leaf lays out the memory of one leaf: up to Capacity samples.
type Leaf struct {
	Capacity int
	In       Dims
}

// The places in a leaf's memory.
func (l Leaf) X() kernels.Ref     { return kernels.Ref{Base: LeafBase} }
func (l Leaf) Label() kernels.Ref { return l.X().At(align(l.Capacity * l.In.Elems())) }

// Index holds the samples' positions in the data set; they also key the random draws.
func (l Leaf) Index() kernels.Ref { return l.Label().At(align(l.Capacity)) }

// Key is the random key {seed low, seed high, epoch, copy}.
func (l Leaf) Key() kernels.Ref { return l.Index().At(align(l.Capacity)) }

// Loss and Correct are results, one per sample.
func (l Leaf) Loss() kernels.Ref    { return l.Key().At(align(4)) }
func (l Leaf) Correct() kernels.Ref { return l.Loss().At(align(l.Capacity)) }

// Weight holds the samples' weights, of Programs that are weighted.
func (l Leaf) Weight() kernels.Ref { return l.Correct().At(align(l.Capacity)) }

// Cells is the size of the leaf's memory.
func (l Leaf) Cells() int { return int(l.Weight().Offset) + align(l.Capacity) }

// Gather returns the call that fills a leaf's first n samples and labels from the data set.
func (l Leaf) Gather(s kernels.AugmentShape) kernels.Call {
	return kernels.Call{Kernel: kernels.Augment, Shape: s, Args: []kernels.Ref{
		{Base: ImageBase}, {Base: LabelBase}, l.Index(), l.Key(), {Base: NormalBase}, l.X(), l.Label()}}
}

// Workspacer tells how much scratch a kernel needs; every kernels.Device does.
type Workspacer interface {
	Workspace(k kernels.Kernel, s kernels.Shape) (int, error)
}

// Compile compiles a network for a device.
func Compile(net *Network, leaf Leaf, o Options, dev Workspacer) (*Program, error) {
	if o.Ghost == 0 {
		o.Ghost = o.N
	}
	if err := o.check(net, leaf); err != nil {
		return nil, fmt.Errorf("compiling %s: %w", net.Name, err)
	}
	c := newCompiler(net, leaf, o, dev)
	c.emit()
	p, err := c.finish()
	if err != nil {
		return nil, fmt.Errorf("compiling %s for %d samples: %w", net.Name, o.N, err)
	}
	return p, nil
}

// backward reports whether there is a backward pass.
func (o Options) backward() bool { return o.ParamGrads || o.InputGrad || o.Tangent }

func (o Options) check(net *Network, leaf Leaf) error {
	switch {
	case o.N < 1 || o.N > leaf.Capacity:
		return fmt.Errorf("%d samples: must be between 1 and the leaf's %d", o.N, leaf.Capacity)
	case o.Ghost < 1 || o.Ghost > o.N:
		return fmt.Errorf("a ghost of %d samples: must be between 1 and %d", o.Ghost, o.N)
	case o.ForwardGradient && o.Tangent:
		return fmt.Errorf("forward gradients have no Hessian")
	case net.HasLocal() && (o.Tangent || o.InputGrad):
		return fmt.Errorf("local losses: what is trained by them has neither the gradient nor the Hessian of one loss")
	case o.Sync && (o.Frozen || o.Tangent || o.Attack != nil || o.Ghost != o.N):
		return fmt.Errorf("statistics of all leaves go with neither frozen ones nor tangents nor attacks nor ghosts")
	case o.Set < 0 || o.Set > len(net.NormSets):
		return fmt.Errorf("parameter set %d of batch normalisation: there are %d", o.Set, 1+len(net.NormSets))
	}
	if o.Persistent != nil && (!o.InputGrad || o.Tangent || o.Attack != nil) {
		return fmt.Errorf("a persistent attack needs the input's gradient, no tangent passes and no other attack")
	}
	if o.Attack != nil {
		if err := o.Attack.check(o); err != nil {
			return err
		}
	}
	if o.Frozen || o.Sync {
		return nil
	}
	for _, n := range net.nodes {
		_, isNorm := n.op.(norm)
		d := net.dims[n.out]
		if last := o.N % o.Ghost; isNorm && d.H*d.W == 1 && (o.Ghost == 1 || last == 1) {
			return fmt.Errorf("a ghost of 1 sample has no variance where activations are 1x1: use a ghost of at least 2")
		}
	}
	return nil
}
