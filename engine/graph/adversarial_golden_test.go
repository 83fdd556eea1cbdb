package graph_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/optim"
	"broadside/kernels"
	"broadside/kernels/ref"
)

// goldenAttack is an attack as adversarial.json describes it.
type goldenAttack struct {
	Eps, Step               float64
	Iterations              int
	Clamp                   string
	Train, Pixels, Targeted bool
	RandomStart             bool `json:"random_start"`
	Inputs                  compact
}

func (a goldenAttack) options() graph.Options {
	clamp := map[string]graph.Clamp{"samples": graph.ToSamples, "box": graph.ToBox, "none": graph.Unclamped}[a.Clamp]
	return graph.Options{N: goldenTwins, InputGrad: true, Frozen: !a.Train, Attack: &graph.Attack{Eps: a.Eps, Step: a.Step,
		Iterations: a.Iterations, RandomStart: a.RandomStart, Targeted: a.Targeted, Pixels: a.Pixels, Clamp: clamp}}
}

const goldenTwins = 4 // images

type goldenAdversarial struct {
	SampleIndex map[string][]int `json:"sample_index"`
	Mean, Std   []float32
	Targets     []int32
	Attacks     map[string]goldenAttack
	SGD         struct {
		LR, Momentum float64
		WeightDecay  float64 `json:"weight_decay"`
	}
	DisAdv struct {
		goldenAttack
		Clean, Adversarial  []float64
		Parameters, Running map[string]compact
	}
	Free struct {
		Eps, Step  float64
		Losses     []float64
		Delta      compact
		Parameters map[string]compact
	}
}

func loadAdversarial(t *testing.T) (g goldenAdversarial) {
	t.Helper()
	raw, err := os.ReadFile("../../testdata/golden/adversarial.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// twins is a network with two sets of batch normalisation, filled as PyTorch's, on the float64 oracle: a sign is a sign
// there, where float32 may round the other way.
func (g goldenAdversarial) twins(t *testing.T) (*bench, *checker) {
	b := newBench(t, ref.New(), loadGolden(t, "resnet8"))
	b.net.AddNormSets([]string{"adv"})
	for base, cells := range map[kernels.Base]int{graph.ParamBase: b.net.ParamCells(), graph.StateBase: b.net.StateCells(),
		graph.GradBase: b.net.ParamCells(), optim.SlotBase: b.net.ParamCells(), optim.HyperBase: optim.HyperCells} {
		b.bases[base] = b.alloc(cells)
	}
	for _, p := range b.net.Params {
		b.write(graph.ParamBase, p, fillParam(p, p.Name))
	}
	for _, n := range b.net.Norms {
		for i, key := range []string{".running_mean", ".running_var"} {
			lo, hi := fillRange(n.Name+key, nil)
			b.bases[graph.StateBase].WriteFloats(n.Offset+i*n.C, fill(n.Name+key, n.C, lo, hi))
		}
	}
	normal := graph.NormalMemory(g.Mean, g.Std, 3)
	b.bases[graph.NormalBase] = b.alloc(len(normal))
	b.bases[graph.NormalBase].WriteFloats(0, normal)
	return b, &checker{t: t, g: golden{SampleIndex: g.SampleIndex}, tol: 1e-9}
}

// inputs are the images at a place, as a tensor.
func (b *bench) inputs(at kernels.Ref) graph.Param {
	d := b.net.Input
	return graph.Param{Role: graph.Weight, K: goldenTwins, R: d.H, S: d.W, C: d.C, Offset: int(at.Offset)}
}

// arena gives a program memory of its own.
func (b *bench) arena(p *graph.Program) {
	b.bases[graph.ArenaBase], b.bases[graph.StatsBase] = b.alloc(p.ArenaCells), b.alloc(max(p.StatsCells, 1))
}

// attack runs an attack pass.
func (b *bench) attack(p *graph.Program, targets []int32) {
	b.arena(p)
	if a := p.Options.Attack; a.RandomStart {
		b.write(graph.ArenaBase, b.inputs(p.Start), fill("start", goldenTwins*b.net.Input.Elems(), -a.Eps, a.Eps))
	}
	if p.Options.Attack.Targeted {
		b.bases[graph.ArenaBase].WriteInts(int(p.Target.Offset), targets)
	}
	b.run(p.AttackPass...)
}

func TestGoldenAttacks(t *testing.T) {
	g := loadAdversarial(t)
	for name, a := range g.Attacks {
		t.Run(name, func(t *testing.T) {
			b, c := g.twins(t)
			b.images(0, 8)
			b.attack(b.compile(a.options()), g.Targets)
			c.tensor("attacked images", "images", b.tensor(graph.LeafBase, b.inputs(b.leaf.X())), a.Inputs, a.Inputs.Norm)
		})
	}
}

// Steps on images and their twins, through two sets of batch normalisation.
func TestGoldenDisAdv(t *testing.T) {
	g := loadAdversarial(t)
	want := g.DisAdv
	b, c := g.twins(t)
	clean := b.compile(graph.Options{N: goldenTwins, ParamGrads: true})
	o := want.options()
	o.Set = 1
	attack := b.compile(o)
	twin := b.compile(graph.Options{N: goldenTwins, ParamGrads: true, Set: 1})
	b.bases[optim.HyperBase].WriteFloats(0, []float32{float32(g.SGD.LR), 1. / (2 * goldenTwins), 1})
	update := optim.SGD{Momentum: g.SGD.Momentum, WeightDecay: g.SGD.WeightDecay}.Update(b.net.Params, nil)
	for i := range want.Clean {
		b.zero(graph.GradBase)
		b.images(0, 8)
		b.arena(clean)
		b.run(append(append(clean.Forward, clean.Backward...), clean.Fold...)...)
		c.number(fmt.Sprintf("clean loss %d", i), b.loss(goldenTwins)/goldenTwins, want.Clean[i], math.Max(want.Clean[i], 0.1))
		b.attack(attack, g.Targets)
		b.arena(twin)
		b.run(append(append(twin.Forward, twin.Backward...), twin.Fold...)...)
		c.number(fmt.Sprintf("adversarial loss %d", i), b.loss(goldenTwins)/goldenTwins, want.Adversarial[i], math.Max(want.Adversarial[i], 0.1))
		b.run(update...)
	}
	scale := scales(want.Parameters)
	for _, p := range b.net.Params {
		c.tensor(p.Name, p.Name, b.tensor(graph.ParamBase, p), want.Parameters[p.Name], scale(p.Name))
	}
	for _, n := range b.net.Norms {
		state := readDoubles(b.bases[graph.StateBase], n.Offset, 2*n.C)
		for i, name := range []string{n.Name + ".running_mean", n.Name + ".running_var"} {
			c.tensor(name, name, state[i*n.C:(i+1)*n.C], want.Running[name], want.Running[name].Norm)
		}
	}
	t.Logf("worst relative error %.1e", c.worst)
}

// Replays of one batch, whose perturbation goes on.
func TestGoldenFree(t *testing.T) {
	g := loadAdversarial(t)
	want := g.Free
	b, c := g.twins(t)
	p := b.compile(graph.Options{N: goldenTwins, ParamGrads: true, InputGrad: true, Persistent: &graph.Persistent{Eps: want.Eps, Step: want.Step}})
	b.bases[graph.DeltaBase] = b.alloc(goldenTwins * b.net.Input.Elems())
	b.bases[optim.HyperBase].WriteFloats(0, []float32{float32(g.SGD.LR), 1. / goldenTwins, 1})
	step := append(append(p.Forward, p.Backward...), optim.SGD{}.Update(b.net.Params, nil)...)
	for i, loss := range want.Losses {
		b.zero(graph.GradBase)
		b.images(0, 8)
		b.run(step...)
		c.number(fmt.Sprintf("loss %d", i), b.loss(goldenTwins)/goldenTwins, loss, math.Max(loss, 0.1))
	}
	c.tensor("delta", "images", b.tensor(graph.DeltaBase, b.inputs(kernels.Ref{})), want.Delta, want.Delta.Norm)
	scale := scales(want.Parameters)
	for _, q := range b.net.Params {
		if w, ok := want.Parameters[q.Name]; ok {
			c.tensor(q.Name, q.Name, b.tensor(graph.ParamBase, q), w, scale(q.Name))
		}
	}
	t.Logf("worst relative error %.1e", c.worst)
}
