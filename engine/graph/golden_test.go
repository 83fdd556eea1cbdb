package graph_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/curvature"
	"broadside/engine/graph"
	"broadside/engine/optim"
	"broadside/kernels"
	"broadside/kernels/ref"
	"broadside/models"
)

// The golden vectors are PyTorch's, in float64; testdata/golden/README.md says how they were made
// and how they are stored.
type golden struct {
	Model       string
	Classes     int
	Batch       int
	Images      string // name of the images' fill
	Input       []int  // C, H, W
	Parameters  int
	Shapes      map[string][]int
	SampleIndex map[string][]int `json:"sample_index"`
	Modes       map[string]goldenMode
	Hessian     struct{ Max, Min float64 } `json:"hessian_eval_mean"`
	SGD         struct {
		Steps, Batch int
		LR           float64
		Momentum     float64
		WeightDecay  float64 `json:"weight_decay"`
		Losses       []float64
		Parameters   map[string]compact
		Running      map[string]compact
	} `json:"sgd"`
}

type goldenMode struct {
	Ghost         int
	LossSum       float64 `json:"loss_sum"`
	Correct       int
	Logits        [][]float64
	InputGradient compact `json:"input_gradient"`
	Gradient, HVP map[string]compact
	Running       map[string]compact
}

// compact is a tensor's norm, its projections onto random sign vectors and some entries.
type compact struct {
	Norm        float64
	Projections []float64
	Samples     []float64
}

func loadGolden(t *testing.T, name string) golden {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../testdata/golden", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func splitmix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func hash(name string) func(i int) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	start := h.Sum64()
	return func(i int) uint64 { return splitmix64(start + uint64(i)) }
}

// fill is fills.py's fill.
func fill(name string, count int, lo, hi float64) []float32 {
	h, out := hash(name), make([]float32, count)
	width := hi - lo
	for i := range out {
		scaled := width * float64(h(i)>>40)
		scaled *= 0x1p-24
		out[i] = float32(lo + scaled)
	}
	return out
}

func fillRange(name string, shape []int) (lo, hi float64) {
	switch {
	case strings.HasSuffix(name, ".running_mean"):
		return -0.2, 0.2
	case strings.HasSuffix(name, ".running_var"):
		return 0.5, 1.5
	case strings.HasSuffix(name, ".bias"):
		return -0.1, 0.1
	case len(shape) == 1:
		return 0.5, 1.5
	}
	fanIn := 1
	for _, d := range shape[1:] {
		fanIn *= d
	}
	bound := math.Sqrt(3 / float64(fanIn))
	return -bound, bound
}

// bench runs Programs of one network on one device.
type bench struct {
	t     *testing.T
	dev   kernels.Device
	net   *graph.Network
	leaf  graph.Leaf
	fill  string // of the images
	bases [kernels.MaxBases]kernels.Memory
}

func newBench(t *testing.T, dev kernels.Device, g golden) *bench {
	t.Helper()
	name := strings.Replace(g.Model, "wrn", "wrn-", 1)
	net, err := models.New(name, graph.Dims{C: g.Input[0], H: g.Input[1], W: g.Input[2]}, g.Classes)
	if err != nil {
		t.Fatal(err)
	}
	if net.ParamCount() != g.Parameters {
		t.Fatalf("%s has %d parameters; PyTorch's has %d", g.Model, net.ParamCount(), g.Parameters)
	}
	b := &bench{t: t, dev: dev, net: net, fill: g.Images, leaf: graph.Leaf{Capacity: 2 * g.Batch, In: net.Input}}
	for base, cells := range map[kernels.Base]int{graph.ParamBase: net.ParamCells(), graph.GradBase: net.ParamCells(),
		graph.StateBase: max(net.StateCells(), 1), graph.LeafBase: b.leaf.Cells(), graph.TangentBase: net.ParamCells(), graph.ProductBase: net.ParamCells()} {
		b.bases[base] = b.alloc(cells)
	}
	for _, p := range net.Params {
		b.write(graph.ParamBase, p, fillParam(p, p.Name))
	}
	for _, n := range net.Norms {
		lo, hi := fillRange(n.Name+".running_mean", nil)
		b.bases[graph.StateBase].WriteFloats(n.Offset, fill(n.Name+".running_mean", n.C, lo, hi))
		lo, hi = fillRange(n.Name+".running_var", nil)
		b.bases[graph.StateBase].WriteFloats(n.Offset+n.C, fill(n.Name+".running_var", n.C, lo, hi))
	}
	return b
}

func fillParam(p graph.Param, name string) []float32 {
	lo, hi := fillRange(name, p.TorchShape())
	return fill(name, p.Size(), lo, hi)
}

func (b *bench) alloc(cells int) kernels.Memory {
	b.t.Helper()
	m, err := b.dev.Alloc(cells)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(m.Free)
	return m
}

// write stores a tensor given in PyTorch's layout.
func (b *bench) write(base kernels.Base, p graph.Param, torch []float32) {
	out := make([]float32, p.Size())
	permute(p, func(stored, torchIndex int) { out[stored] = torch[torchIndex] })
	b.bases[base].WriteFloats(p.Offset, out)
}

// tensor reads a tensor into PyTorch's layout.
func (b *bench) tensor(base kernels.Base, p graph.Param) []float64 {
	stored := readDoubles(b.bases[base], p.Offset, p.Size())
	out := make([]float64, p.Size())
	permute(p, func(s, torchIndex int) { out[torchIndex] = stored[s] })
	return out
}

func permute(p graph.Param, visit func(stored, torch int)) {
	rs := p.R * p.S
	for k := range p.K {
		for c := range p.C {
			for i := range rs {
				visit((k*rs+i)*p.C+c, (k*p.C+c)*rs+i)
			}
		}
	}
}

func readDoubles(m kernels.Memory, offset, count int) []float64 {
	out := make([]float64, count)
	if exact, ok := m.(interface{ ReadFloats64(int, []float64) }); ok {
		exact.ReadFloats64(offset, out)
		return out
	}
	single := make([]float32, count)
	m.ReadFloats(offset, single)
	for i, v := range single {
		out[i] = float64(v)
	}
	return out
}

// images fills the leaf with golden images first, first+1, ... and their labels.
func (b *bench) images(first, count int) {
	d := b.net.Input
	all := fill(b.fill, (first+count)*d.Elems(), 0, 1)
	nhwc, labels := make([]float32, count*d.Elems()), make([]int32, count)
	for i := range count {
		labels[i] = int32(7 * (first + i) % 10)
		for c := range d.C {
			for p := range d.H * d.W {
				nhwc[(i*d.H*d.W+p)*d.C+c] = all[((first+i)*d.C+c)*d.H*d.W+p]
			}
		}
	}
	b.bases[graph.LeafBase].WriteFloats(0, nhwc)
	b.bases[graph.LeafBase].WriteInts(int(b.leaf.Label().Offset), labels)
}

func (b *bench) compile(o graph.Options) *graph.Program {
	b.t.Helper()
	p, err := graph.Compile(b.net, b.leaf, o, b.dev)
	if err != nil {
		b.t.Fatal(err)
	}
	b.bases[graph.ArenaBase] = b.alloc(p.ArenaCells)
	b.bases[graph.StatsBase] = b.alloc(max(p.StatsCells, 1))
	return p
}

func (b *bench) run(calls ...kernels.Call) {
	b.t.Helper()
	p, err := b.dev.Prepare(calls)
	if err != nil {
		b.t.Fatal(err)
	}
	defer p.Free()
	if err := p.Run(&b.bases); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) zero(bases ...kernels.Base) {
	for _, base := range bases {
		b.bases[base].WriteFloats(0, make([]float32, b.net.ParamCells()))
	}
}

func (b *bench) loss(n int) (sum float64) {
	for _, v := range readDoubles(b.bases[graph.LeafBase], int(b.leaf.Loss().Offset), n) {
		sum += v
	}
	return sum
}

// checker compares with a relative tolerance; a tensor's error is relative to its norm.
type checker struct {
	t     *testing.T
	g     golden
	tol   float64
	worst float64
}

func (c *checker) number(what string, got, want, scale float64) {
	c.t.Helper()
	err := math.Abs(got-want) / scale
	c.worst = math.Max(c.worst, err)
	if !(err <= c.tol) {
		c.t.Errorf("%s: got %.12g, want %.12g (relative error %.1e > %.1e)", what, got, want, err, c.tol)
	}
}

// tensor projects onto the hashed sign vectors: an error anywhere in the tensor shows in all of them.
func (c *checker) tensor(what, name string, got []float64, want compact, scale float64) {
	c.t.Helper()
	norm2 := 0.0
	for _, v := range got {
		norm2 += v * v
	}
	c.number(what+" norm", math.Sqrt(norm2), want.Norm, scale)
	for k, p := range want.Projections {
		h, sum := hash(fmt.Sprintf("proj%d%s", k, name)), 0.0
		for i, v := range got {
			if h(i)>>63 == 1 {
				v = -v
			}
			sum += v
		}
		c.number(fmt.Sprintf("%s projection %d", what, k), sum, p, scale)
	}
	for i, at := range c.g.SampleIndex[name] {
		c.number(fmt.Sprintf("%s[%d]", what, at), got[at], want.Samples[i], scale)
	}
}

// scales returns what each tensor's error is relative to: its norm, but no less than a thousandth of
// the largest one's. A bias in front of a batch normalisation has a gradient of zero, up to rounding.
func scales(tensors map[string]compact) func(name string) float64 {
	largest := 0.0
	for _, c := range tensors {
		largest = math.Max(largest, c.Norm)
	}
	return func(name string) float64 { return math.Max(tensors[name].Norm, largest/1000) }
}

// oracle is a device the goldens are checked on, and the relative error it is allowed.
type oracle struct {
	name string
	dev  kernels.Device
	tol  float64
}

// oracles are float64 and the float32 kernels of the device under test. A float32 gradient is a sum over
// thousands of terms of either sign, each good to 6e-8 of the largest: 1e-4 leaves a margin of ten.
func oracles(t *testing.T) []oracle {
	dev := devicetest.Open(t, 1)[0]
	t.Cleanup(func() { dev.Close() })
	return []oracle{{"float64", ref.New(), 1e-9}, {dev.Name(), dev, 1e-4}}
}

// slow says whether a float64 case is left to the long tests: the oracle takes seconds per model.
func slow(o oracle, model string) bool {
	return o.name == "float64" && model != "resnet8" && model != "nf-resnet8" && os.Getenv("BROADSIDE_LONG") == ""
}

// large says whether a model is left to the long tests on all devices.
func large(model string) bool { return model == "nf-resnet50" && os.Getenv("BROADSIDE_LONG") == "" }

func TestGoldenDerivatives(t *testing.T) {
	for _, o := range oracles(t) {
		for _, model := range []string{"resnet8", "f1", "c1", "resnet20", "wrn16-2", "2conv3dense", "alexnet-cifar",
			"alexnet-reduced", "nf-resnet8", "nf-resnet50", "resnet9", "squeezenext7", "vgg11-cifar"} {
			g := loadGolden(t, model)
			for mode, want := range g.Modes {
				if slow(o, model) && !(model == "resnet20" && mode == "train") || large(model) {
					continue
				}
				t.Run(o.name+"/"+model+"/"+mode, func(t *testing.T) {
					tol := o.tol
					if o.name != "float64" && model == "f1" && mode == "train_2_ghosts" {
						// Five normalisations over four numbers each amplify rounding: PyTorch's own
						// float32 misses its float64 by 2.4e-4 here.
						tol = 3e-3
					}
					if o.name != "float64" && model == "squeezenext7" && mode == "train_2_ghosts" {
						// Biases in front of a batch normalisation: long sums that come to zero, of terms far larger
						// than a thousandth of the largest gradient.
						tol = 1e-3
					}
					checkDerivatives(t, o.dev, tol, g, want)
				})
			}
		}
	}
}

func checkDerivatives(t *testing.T, dev kernels.Device, tol float64, g golden, want goldenMode) {
	b := newBench(t, dev, g)
	p := b.compile(graph.Options{N: g.Batch, Ghost: want.Ghost, Frozen: want.Ghost == 0, ParamGrads: true, InputGrad: true, Tangent: true})
	b.images(0, g.Batch)
	for _, q := range b.net.Params {
		b.write(graph.TangentBase, q, fill("v."+q.Name, q.Size(), -1, 1))
	}
	b.run(append(p.Forward, p.Backward...)...)
	// Twice: the second product must not be disturbed by the first one's scratch.
	b.run(append(p.TangentForward, p.TangentBackward...)...)
	b.zero(graph.ProductBase)
	b.run(append(p.TangentForward, p.TangentBackward...)...)

	c := &checker{t: t, g: g, tol: tol}
	c.number("loss", b.loss(g.Batch), want.LossSum, want.LossSum)
	correct := 0.0
	for _, v := range readDoubles(b.bases[graph.LeafBase], int(b.leaf.Correct().Offset), g.Batch) {
		correct += v
	}
	if int(correct) != want.Correct {
		t.Errorf("correct: got %v, want %d", correct, want.Correct)
	}
	for i, row := range want.Logits {
		got := readDoubles(b.bases[graph.ArenaBase], int(p.Logits.Offset)+i*g.Classes, g.Classes)
		for k, v := range row {
			c.number(fmt.Sprintf("logit %d of image %d", k, i), got[k], v, 1+math.Abs(v))
		}
	}
	gradient, hvp := scales(want.Gradient), scales(want.HVP)
	for _, q := range b.net.Params {
		c.tensor("gradient of "+q.Name, q.Name, b.tensor(graph.GradBase, q), want.Gradient[q.Name], gradient(q.Name))
		c.tensor("HVP of "+q.Name, q.Name, b.tensor(graph.ProductBase, q), want.HVP[q.Name], hvp(q.Name))
	}
	d := b.net.Input
	input := graph.Param{Role: graph.Weight, K: g.Batch, R: d.H, S: d.W, C: d.C, Offset: int(p.InputGrad.Offset)}
	c.tensor("input gradient", "images", b.tensor(graph.ArenaBase, input), want.InputGradient, want.InputGradient.Norm)
	if want.Ghost > 0 {
		b.run(p.Fold...)
		for _, n := range b.net.Norms {
			state := readDoubles(b.bases[graph.StateBase], n.Offset, 2*n.C)
			c.tensor(n.Name+".running_mean", n.Name+".running_mean", state[:n.C], want.Running[n.Name+".running_mean"], want.Running[n.Name+".running_mean"].Norm)
			c.tensor(n.Name+".running_var", n.Name+".running_var", state[n.C:], want.Running[n.Name+".running_var"], want.Running[n.Name+".running_var"].Norm)
		}
	}
	t.Logf("worst relative error %.1e", c.worst)
}

func TestGoldenSGD(t *testing.T) {
	for _, o := range oracles(t) {
		for _, model := range []string{"resnet8", "c1", "resnet20", "wrn16-2"} {
			if slow(o, model) {
				continue
			}
			t.Run(o.name+"/"+model, func(t *testing.T) { checkSGD(t, o.dev, o.tol, loadGolden(t, model)) })
		}
	}
}

func checkSGD(t *testing.T, dev kernels.Device, tol float64, g golden) {
	b := newBench(t, dev, g)
	p := b.compile(graph.Options{N: g.SGD.Batch, ParamGrads: true})
	b.bases[optim.HyperBase], b.bases[optim.SlotBase] = b.alloc(optim.HyperCells), b.alloc(b.net.ParamCells())
	b.bases[optim.HyperBase].WriteFloats(0, []float32{float32(g.SGD.LR), 1 / float32(g.SGD.Batch), 1})
	step := append(append(p.Forward, p.Backward...), p.Fold...)
	step = append(step, optim.SGD{Momentum: g.SGD.Momentum, WeightDecay: g.SGD.WeightDecay}.Update(b.net.Params, nil)...)
	c := &checker{t: t, g: g, tol: max(tol, 1e-7)} // lr is rounded to float32 on every device
	for i, want := range g.SGD.Losses {
		b.images(i%2*g.SGD.Batch, g.SGD.Batch)
		b.zero(graph.GradBase)
		b.run(step...)
		c.number(fmt.Sprintf("loss of step %d", i), b.loss(g.SGD.Batch)/float64(g.SGD.Batch), want, math.Max(want, 0.1))
	}
	t.Logf("worst relative error %.1e", c.worst)
}

// hessian is the operator of a compiled Program, for the power iteration.
type hessian struct {
	*bench
	p *graph.Program
	n int
}

func (h hessian) NewVector() (kernels.Memory, error) { return h.dev.Alloc(h.net.ParamCells()) }

func (h hessian) Randomize(v kernels.Memory, _ kernels.Distribution, _ curvature.Stream) error {
	for _, p := range h.net.Params {
		v.WriteFloats(p.Offset, fill("start."+p.Name, p.Size(), -1, 1))
	}
	return nil
}

func (h hessian) Product(v, hv kernels.Memory) error {
	h.zero(graph.ProductBase)
	h.bases[graph.TangentBase] = v
	h.run(append(h.p.TangentForward, h.p.TangentBackward...)...)
	return h.Axpby(1/float64(h.n), h.bases[graph.ProductBase], 0, hv)
}

func (h hessian) Dot(a, b kernels.Memory) (float64, error) {
	x, y := readDoubles(a, 0, a.Len()), readDoubles(b, 0, b.Len())
	sum := 0.0
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum, nil
}

func (h hessian) Axpby(a float64, x kernels.Memory, b float64, y kernels.Memory) error {
	bases := h.bases
	bases[graph.TangentBase], bases[graph.StatsBase] = x, y
	p, err := h.dev.Prepare([]kernels.Call{{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(x.Len()), A: a, B: b},
		Args: []kernels.Ref{{Base: graph.TangentBase}, {Base: graph.StatsBase}}}})
	if err != nil {
		return err
	}
	defer p.Free()
	return p.Run(&bases)
}

func TestGoldenEigenvalue(t *testing.T) {
	for _, o := range oracles(t) {
		for _, model := range []string{"resnet8", "c1", "resnet20"} {
			if slow(o, model) {
				continue
			}
			t.Run(o.name+"/"+model, func(t *testing.T) {
				g := loadGolden(t, model)
				b := newBench(t, o.dev, g)
				p := b.compile(graph.Options{N: g.Batch, Frozen: true, ParamGrads: true, Tangent: true})
				b.images(0, g.Batch)
				b.run(append(p.Forward, p.Backward...)...)
				found, err := curvature.TopEigenvalues(hessian{b, p, g.Batch}, curvature.Options{K: 1, MaxIterations: 300, Tolerance: 1e-6})
				if err != nil {
					t.Fatal(err)
				}
				want := g.Hessian.Max
				if -g.Hessian.Min > want {
					want = g.Hessian.Min
				}
				c := &checker{t: t, tol: 1e-3}
				c.number("top eigenvalue", found[0].Value, want, math.Abs(want))
				t.Logf("%+v, want %g, relative error %.1e", found[0], want, c.worst)
			})
		}
	}
}
