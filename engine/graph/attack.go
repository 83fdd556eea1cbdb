package graph

import (
	"fmt"

	"broadside/kernels"
)

// Attack is a projected sign-gradient attack on a leaf's first N samples, in place (Goodfellow et al. 2015; Madry et
// al. 2018), one family for all of them:
//
//	x_0 = clean, or clean + Start
//	x_{i+1} = clamp(clean + clip(x_i + Step sign(dL/dx_i) - clean, -Eps, Eps))
//
// L is the loss of the label, which ascends, or of Target, which descends. Batch normalisation and parameter set are
// the Program's.
type Attack struct {
	Eps, Step   float64
	Iterations  int
	RandomStart bool // begin at clean + Start, which whoever runs the pass writes
	Targeted    bool // descend the loss of the labels at Target, which whoever runs the pass writes
	// Pixels means that Eps, Step and Start are in units of pixels, which are in [0, 1], and that the pixels of the
	// result are too. Otherwise they are in units of the network's input.
	Pixels bool
	Clamp  Clamp
}

// Clamp is what an attack's result is held in.
type Clamp int

// The clamps.
const (
	ToSamples Clamp = iota // the smallest and largest value of the attacked samples (Yao et al. 2018); not for pixels
	ToBox                  // [0, 1]; for pixels
	Unclamped
)

// check refuses attacks that do not fit together.
func (a *Attack) check(o Options) error {
	switch {
	case !o.InputGrad:
		return fmt.Errorf("an attack needs the input's gradient")
	case a.Pixels && a.Clamp == ToSamples:
		return fmt.Errorf("an attack on pixels cannot be clamped to the samples' range in units of the input")
	case !a.Pixels && a.Clamp == ToBox:
		return fmt.Errorf("an attack in units of the input cannot be clamped to the box of pixels")
	}
	return nil
}

// NormalMemory returns the contents of the memory at NormalBase: how pixels in [0, 1] become the network's input,
// (pixel - mean)/std in each channel, and back. Without mean the input is the pixel.
func NormalMemory(mean, std []float32, channels int) []float32 {
	at := normalAt(channels)
	out := make([]float32, at.box.Offset+2)
	for c := range channels {
		m, s := float32(0), float32(1)
		if mean != nil {
			m, s = mean[c], std[c]
		}
		out[c], out[channels+c], out[int(at.std.Offset)+c], out[int(at.unit.Offset)+channels+c] = m, 1/s, s, 1
	}
	out[at.box.Offset+1] = 1
	return out
}

// normalCells are the places in the memory at NormalBase. The first two are those that the augment kernel reads.
type normalCells struct {
	mean, rstd, std kernels.Ref
	unit            kernels.Ref // statistics [2][c] of a normalisation that changes nothing: means 0, variances 1
	box             kernels.Ref // 0, 1
}

func normalAt(channels int) normalCells {
	mean := kernels.Ref{Base: NormalBase}
	std := mean.At(align(2 * channels))
	unit := std.At(align(channels))
	return normalCells{mean: mean, rstd: mean.At(channels), std: std, unit: unit, box: unit.At(align(2 * channels))}
}

// attackInputs emits what comes before the first iteration: it keeps the clean samples and moves to the start.
func (c *compiler) attackInputs() {
	c.pass = prologue
	a, cells := c.opt.Attack, c.inputCells()
	clean := c.save(0, "clean", cells)
	c.copyOf(c.leaf.X(), clean)
	if a.Targeted {
		c.save(0, "target", c.opt.N)
	}
	if a.RandomStart {
		c.save(0, "start", cells)
	}
	switch {
	case a.Clamp == ToSamples:
		c.call(kernels.MinMax, kernels.Vector{Count: int64(cells)}, c.leaf.X(), c.save(0, "bounds", 2))
	case a.Clamp == ToBox:
		c.saved[0]["bounds"] = normalAt(c.net.Input.C).box
	default:
		c.saved[0]["bounds"] = kernels.None
	}
	if a.Pixels {
		c.attackPixels()
	}
	if a.RandomStart {
		moved := c.buffer(cells)
		c.call(kernels.Add, c.inputVector(1), c.load(0, c.origin()), c.load(0, "start"), moved)
		c.project(moved, 0, moved)
	}
}

// pixels emits those of the inputs, which rounding must not leave outside the box: then an attack that moves nothing
// changes no bit.
func (c *compiler) pixels() kernels.Ref {
	at, raw := normalAt(c.net.Input.C), c.buffer(c.inputCells())
	c.channels(c.leaf.X(), at.std, at.mean, kernels.None, raw)
	pixels := c.save(0, "pixels", c.inputCells())
	c.boxed(raw, pixels)
	return pixels
}

// boxed emits y = clamp(x, 0, 1).
func (c *compiler) boxed(x, y kernels.Ref) {
	c.call(kernels.PGDStep, kernels.PGD{Count: int64(c.inputCells())}, x, x, x, normalAt(c.net.Input.C).box, y)
}

// attackPixels keeps the clean pixels and makes room for the others.
func (c *compiler) attackPixels() {
	cells, pixels := c.inputCells(), c.pixels()
	c.save(0, "attacked", cells)
	c.save(0, "moved", cells)
	if !c.opt.Attack.RandomStart {
		c.copyOf(pixels, c.load(0, "attacked"))
	}
}

// origin names the clean samples in the units of the attack.
func (c *compiler) origin() string {
	if c.opt.Attack.Pixels {
		return "pixels"
	}
	return "clean"
}

// attackStep emits what comes after each iteration's backward pass.
func (c *compiler) attackStep() {
	c.pass = epilogue
	step := c.opt.Attack.Step
	if c.opt.Attack.Targeted {
		step = -step
	}
	x := c.leaf.X()
	if c.opt.Attack.Pixels {
		x = c.load(0, "attacked")
	}
	c.project(x, step, c.grad[0])
}

// project moves x, in the units of the attack, by a step along the signs and back into the ball and the clamp. The
// network's input becomes the result; in a channel of pixels that is clean + (x - clean)/std.
func (c *compiler) project(x kernels.Ref, step float64, signs kernels.Ref) {
	a, to := c.opt.Attack, c.leaf.X()
	if a.Pixels {
		to = c.load(0, "attacked")
	}
	clean := c.load(0, c.origin())
	c.call(kernels.PGDStep, kernels.PGD{Count: int64(c.inputCells()), Step: step, Eps: a.Eps}, x, clean, signs, c.load(0, "bounds"), to)
	if a.Pixels {
		at := normalAt(c.net.Input.C)
		c.call(kernels.Add, c.inputVector(-1), to, clean, c.load(0, "moved"))
		c.channels(c.load(0, "moved"), at.rstd, at.unit, c.load(0, "clean"), c.leaf.X())
	}
}

// channels emits y = scale x + shift (+ residual) in each channel of an image: a batch normalisation whose statistics
// change nothing.
func (c *compiler) channels(x, scale, shift, residual, y kernels.Ref) {
	d := c.net.Input
	s := kernels.BatchNorm{N: i32(c.opt.N), HW: i32(d.H * d.W), C: i32(d.C), Ghost: i32(c.opt.N), Frozen: 1}
	c.call(kernels.BatchNormForward, s, x, scale, shift, residual, kernels.None, normalAt(d.C).unit, y, c.buffer(2*d.C), kernels.None)
}

func (c *compiler) copyOf(x, to kernels.Ref) {
	c.call(kernels.Axpby, kernels.Vector{Count: int64(c.inputCells()), A: 1}, x, to)
}

func (c *compiler) inputCells() int { return c.opt.N * c.net.Input.Elems() }

func (c *compiler) inputVector(b float64) kernels.Vector {
	return kernels.Vector{Count: int64(c.inputCells()), A: 1, B: b}
}

// labels are those whose loss is computed.
func (c *compiler) labels() kernels.Ref {
	if a := c.opt.Attack; a != nil && a.Targeted {
		return c.load(0, "target")
	}
	return c.leaf.Label()
}

// attackPass puts the iterations together.
func (c *compiler) attackPass(p *Program) {
	p.Start, p.Target = kernels.None, kernels.None
	if c.opt.Attack == nil {
		return
	}
	if c.opt.Attack.RandomStart {
		p.Start = c.place(c.load(0, "start"))
	}
	if c.opt.Attack.Targeted {
		p.Target = c.place(c.load(0, "target"))
	}
	p.AttackPass = append(p.AttackPass, c.calls[prologue]...)
	for range c.opt.Attack.Iterations {
		p.AttackPass = append(p.AttackPass, p.Forward...)
		p.AttackPass = append(p.AttackPass, p.Backward...)
		p.AttackPass = append(p.AttackPass, c.calls[epilogue]...)
	}
}

// keepAttack keeps what an attack saves for its whole length: its iterations repeat, and its start and target are
// written before it begins.
func (c *compiler) keepAttack(end int) {
	if c.opt.Attack == nil {
		return
	}
	for _, r := range c.saved[0] {
		if b := c.virtual(r); b != nil {
			b.first, b.last = 0, end
		}
	}
}
