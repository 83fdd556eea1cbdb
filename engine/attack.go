package engine

import (
	"slices"

	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/kernels/philox"
)

// The random draws of an attack, as layers of its purpose. All are keyed by a sample: of a leaf, that is its first.
const (
	drawStart  = iota // where in the ball a sample begins
	drawTarget        // the wrong class
	drawClean         // whether a leaf begins at the clean samples
)

// perturb attacks the first samples of the worker's leaf, in place. What is random is drawn by the key that the leaf was
// gathered with, so it does not depend on where or when.
func (w *worker) perturb(r *resident, a methods.Attack, indices []int32) error {
	n := min(a.Samples, len(indices))
	p, err := w.program(programKey{kind: attackProgram, n: n, attack: a.Attack, set: a.Set, train: a.TrainMode})
	if err != nil {
		return err
	}
	w.bind(r)
	if a.RandomStart {
		w.arena.WriteFloats(int(p.Start.Offset), w.starts(a, indices[:n]))
	}
	if a.Targeted {
		w.arena.WriteInts(int(p.Target.Offset), w.targets(r, indices[:n]))
	}
	return p.main.Run(&w.bases)
}

// starts draws where in the ball the samples begin; their elements are independent and uniform.
func (w *worker) starts(a methods.Attack, indices []int32) []float32 {
	per := w.fleet.net.Input.Elems()
	w.start = slices.Grow(w.start[:0], len(indices)*per)[:len(indices)*per]
	if philox.Uniform(w.draw(0, indices[0], drawClean)[0]) < a.CleanStart {
		clear(w.start)
		return w.start
	}
	for i, sample := range indices {
		x := w.start[i*per : (i+1)*per]
		for at := 0; at < per; at += 4 {
			words := w.draw(uint32(at/4), sample, drawStart)
			for k, word := range words[:min(4, per-at)] {
				x[at+k] = float32(a.Eps * (2*philox.Uniform(word) - 1))
			}
		}
	}
	return w.start
}

// targets draws a wrong class for every sample, each alike.
func (w *worker) targets(r *resident, indices []int32) []int32 {
	w.target = slices.Grow(w.target[:0], len(indices))[:len(indices)]
	classes := w.fleet.net.Classes
	for i, sample := range indices {
		other := 1 + philox.Below(w.draw(0, sample, drawTarget)[0], classes-1)
		w.target[i] = int32((int(r.set.Labels[sample]) + other) % classes)
	}
	return w.target
}

// draw returns a block of random words of a sample of the leaf.
func (w *worker) draw(block uint32, sample int32, layer uint32) [4]uint32 {
	return philox.Philox4x32([2]uint32{uint32(w.key[0]), uint32(w.key[1])},
		philox.Counter(block, uint32(sample), uint32(w.key[2]), philox.Attack, layer, uint32(w.key[3])))
}

// attackOptions are what an attack's Program is compiled with.
func (k programKey) attackOptions(o graph.Options) graph.Options {
	attack := k.attack
	o.Frozen, o.InputGrad, o.Attack, o.Smoothing = !k.train, true, &attack, 0
	return o
}

// attackPasses counts the samples that went through a gradient pass of an attack in the job.
func (j *leaves) attackPasses(f *fleet) (samples int) {
	size := f.leaf.Capacity
	if f.pair == nil {
		return len(j.loss) * min(j.attack.Samples, size) * j.attack.Iterations
	}
	attacked := len(j.ahead.slots)
	for i := range j.loss {
		if leaf, _, kind := f.view(j.first + i); kind == twinView && (j.ready == nil || !j.ready.holds(leaf, j.start+leaf)) {
			attacked++
		}
	}
	return attacked * min(f.pair.Attack.Samples, size) * f.pair.Attack.Iterations
}
