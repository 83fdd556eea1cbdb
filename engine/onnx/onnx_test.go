package onnx_test

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"broadside/engine/graph"
	"broadside/engine/onnx"
	"broadside/kernels"
	"broadside/kernels/philox"
	"broadside/kernels/ref"
	"broadside/models"
)

// randomised are parameters and running statistics that matter.
func randomised(net *graph.Network) (params, state []float32) {
	params, state = net.InitParams(1), net.InitState()
	s := philox.NewStream(5, 77, 0, 0, 0)
	for _, p := range net.Params {
		if p.Role != graph.Weight {
			for i := range p.Size() {
				params[p.Offset+i] += float32(0.2 * s.Norm())
			}
		}
	}
	for i := range state {
		state[i] = float32(math.Abs(float64(state[i]) + 0.2*s.Norm()))
	}
	return params, state
}

// logits computes a network by the float64 oracle.
func logits(t *testing.T, net *graph.Network, params, state, x []float32) []float64 {
	t.Helper()
	dev := ref.New()
	leaf := graph.Leaf{Capacity: 1, In: net.Input}
	p, err := graph.Compile(net, leaf, graph.Options{N: 1, Frozen: true}, dev)
	if err != nil {
		t.Fatal(err)
	}
	var bases [kernels.MaxBases]kernels.Memory
	for base, m := range map[kernels.Base][]float32{graph.ParamBase: params, graph.StateBase: state, graph.LeafBase: make([]float32, leaf.Cells()), graph.ArenaBase: make([]float32, p.ArenaCells)} {
		memory, err := dev.Alloc(max(len(m), 1))
		if err != nil {
			t.Fatal(err)
		}
		memory.WriteFloats(0, m)
		bases[base] = memory
	}
	bases[graph.LeafBase].WriteFloats(0, x)
	pass, err := dev.Prepare(p.Forward)
	if err == nil {
		err = pass.Run(&bases)
	}
	if err != nil {
		t.Fatal(err)
	}
	read := func(r kernels.Ref) []float64 {
		out := make([]float64, net.Classes)
		for i := range out {
			cell := make([]float32, 1)
			bases[r.Base].ReadFloats(int(r.Offset)+i, cell)
			out[i] = float64(cell[0])
		}
		return out
	}
	if len(p.Locals) == 0 {
		return read(p.Logits)
	}
	mean := make([]float64, net.Classes)
	for _, r := range append(p.Locals, p.Logits) {
		sum, own := 0.0, read(r)
		for _, v := range own {
			sum += math.Exp(v)
		}
		for c, v := range own {
			mean[c] += math.Exp(v) / sum / float64(len(p.Locals)+1)
		}
	}
	for c, v := range mean {
		mean[c] = math.Log(v)
	}
	return mean
}

// written returns a model as Write writes it, read back.
func written(t *testing.T, m onnx.Model) *model {
	t.Helper()
	var out bytes.Buffer
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return parse(t, out.Bytes())
}

// channelsFirst turns [H][W][C] into [1][C][H][W].
func channelsFirst(x []float32, d graph.Dims) array {
	a := array{[]int{1, d.C, d.H, d.W}, make([]float64, len(x))}
	for i, v := range x {
		a.values[i%d.C*d.H*d.W+i/d.C] = float64(v)
	}
	return a
}

// Architectures give the logits of the oracle as ONNX models: those that are small enough to compute in Go. testdata/golden/check_interchange.py runs all of them in onnxruntime.
func TestModelsAsONNX(t *testing.T) {
	tried := 0
	for _, f := range models.Families() {
		for _, name := range f.Examples[:min(2, len(f.Examples))] {
			in := f.Input
			if name == "resnet9" { // many channels
				in.H, in.W = 16, 16
			}
			net, err := models.New(name, in, 10)
			if err != nil {
				t.Fatal(err)
			}
			if in.H > 32 || net.ParamCount() > 2.5e6 && name != "resnet9" {
				continue
			}
			tried++
			t.Run(name, func(t *testing.T) { checkModel(t, net) })
		}
	}
	if tried < 15 {
		t.Errorf("%d models tried", tried)
	}
}

func checkModel(t *testing.T, net *graph.Network) {
	params, state := randomised(net)
	x, s := make([]float32, net.Input.Elems()), philox.NewStream(6, 77, 0, 0, 0)
	for i := range x {
		x[i] = float32(s.Norm())
	}
	want := logits(t, net, params, state, x)
	m := written(t, onnx.Model{Net: net, Params: params, State: state, Meta: map[string]string{"b": "2", "a": "1"}})
	if in := net.Input; !slices.Equal(m.dims, []string{"batch", fmt.Sprint(in.C), fmt.Sprint(in.H), fmt.Sprint(in.W)}) || m.meta["a"] != "1" || m.meta["b"] != "2" {
		t.Errorf("input %v, metadata %v", m.dims, m.meta)
	}
	got := m.evaluate(t, channelsFirst(x, net.Input))
	if !slices.Equal(got.shape, []int{1, net.Classes}) {
		t.Fatalf("output of shape %v", got.shape)
	}
	for c, v := range want {
		if math.Abs(got.values[c]-v) > 1e-5*(1+math.Abs(v)) {
			t.Errorf("logit %d: %v, the oracle has %v", c, got.values[c], v)
		}
	}
}

// With the normalisation inside, pixels from 0 to 255 give what normalised inputs give.
func TestPixels(t *testing.T) {
	net, err := models.New("resnet8", graph.Dims{H: 8, W: 8, C: 3}, 4)
	if err != nil {
		t.Fatal(err)
	}
	params, state := randomised(net)
	pixels, inputs := make([]float32, 192), make([]float32, 192)
	mean, std := []float32{0.1, 0.2, 0.3}, []float32{0.4, 0.5, 0.6}
	for _, c := range []onnx.Model{{}, {Mean: mean, Std: std}} {
		for i := range pixels {
			pixels[i] = float32(i * 37 % 256)
			inputs[i] = pixels[i] / 255
			if c.Mean != nil {
				inputs[i] = (inputs[i] - mean[i%3]) / std[i%3]
			}
		}
		c.Net, c.Params, c.State = net, params, state
		want := written(t, c).evaluate(t, channelsFirst(inputs, net.Input))
		c.Pixels = true
		m := written(t, c)
		got := m.evaluate(t, channelsFirst(pixels, net.Input))
		for i, v := range want.values {
			if math.Abs(got.values[i]-v) > 1e-5 {
				t.Errorf("logit %d: %v, want %v", i, got.values[i], v)
			}
		}
		if !strings.Contains(m.doc, "0 to 255") {
			t.Errorf("documentation %q", m.doc)
		}
	}
	bad := onnx.Model{Net: net, Params: params, State: state, Mean: mean[:1], Std: std[:1]}
	if err := bad.Write(&bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "1 means and 1 standard deviations for 3 channels") {
		t.Errorf("one mean: %v", err)
	}
}

// A model too large for its format is refused before anything is written.
func TestTooLarge(t *testing.T) {
	n := graph.New("large", graph.Dims{H: 1, W: 1, C: 1 << 20}, 1<<10)
	net, err := n.Build(n.LinearWithoutBias("fc", n.In(), 1<<10))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (&onnx.Model{Net: net}).Write(&out); err == nil || !strings.Contains(err.Error(), "at most 2147483647") || out.Len() > 0 {
		t.Errorf("%v, %d bytes written", err, out.Len())
	}
}
