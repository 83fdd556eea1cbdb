package engine

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"testing"

	"gonum.org/v1/gonum/mat"

	"broadside/cgo/device/devicetest"
	"broadside/engine/curvature"
	"broadside/engine/data"
	"broadside/engine/graph"
)

// goldenCurvature is what testdata/golden/make_curvature.py found in plain PyTorch, in float64.
type goldenCurvature struct {
	Seed    uint64
	Samples struct{ Matrix, Checkpoint int }
	Matrix  map[string][]struct {
		Ghost        int
		Eigenvalues  []float64
		Trace        float64
		TraceSamples []float64   `json:"trace_samples"`
		Moments      [][]float64 // [start][k-1]: z'H^k z / n
		Tensors      map[string]goldenBlock
	}
	Checkpoint []struct {
		Ghost        int
		Eigenvalues  []float64
		TraceSamples []float64 `json:"trace_samples"`
		Density      []curvature.Quadrature
		Line, Plane  [][]float64
	}
}

func loadCurvature(t *testing.T) (g goldenCurvature) {
	t.Helper()
	raw, err := os.ReadFile("../testdata/golden/curvature.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// fill is the contents of a tensor by name, as testdata/golden/README.md states it.
func fill(name string, count int, low, high float64) []float32 {
	h := fnv.New64a()
	h.Write([]byte(name))
	start, out := h.Sum64(), make([]float32, count)
	width := high - low
	for i := range out {
		x := start + uint64(i) + 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		scaled := width * float64((x^x>>31)>>40)
		scaled *= 0x1p-24
		out[i] = float32(low + scaled)
	}
	return out
}

// goldenSet is the images of 4x4 pixels of the cases with a matrix.
func goldenSet(n int) *data.Set {
	set := &data.Set{Name: "golden", H: 4, W: 4, C: 1, Classes: 4}
	for i, v := range fill("curvature", 16*n, 0, 1) {
		set.Images = append(set.Images, byte(v*256))
		if i%16 == 0 {
			set.Labels = append(set.Labels, int32(7*(i/16)%4))
		}
	}
	return set
}

// fillNetwork gives parameters and running statistics their golden contents.
func fillNetwork(f *fleet) {
	for _, p := range f.net.Params {
		low, high := -0.1, 0.1
		switch p.Role {
		case graph.Gamma:
			low, high = 0.5, 1.5
		case graph.Weight:
			high = math.Sqrt(3 / float64(p.R*p.S*p.C))
			low = -high
		}
		f.params.WriteFloats(p.Offset, fill(p.Name, p.Size(), low, high))
	}
	for _, n := range f.net.Norms {
		f.state.WriteFloats(n.Offset, fill(n.Name+".running_mean", n.C, -0.2, 0.2))
		f.state.WriteFloats(n.Offset+n.C, fill(n.Name+".running_var", n.C, 0.5, 1.5))
	}
}

// The Hessian of small networks, in whole and as it is measured, is PyTorch's.
func TestCurvatureAgainstPyTorchsMatrix(t *testing.T) {
	g := loadCurvature(t)
	for model, cases := range g.Matrix {
		for _, want := range cases {
			t.Run(fmt.Sprintf("%s, ghost %d", model, want.Ghost), func(t *testing.T) {
				h := hessianOf(t, devicetest.Open(t, 2), goldenSet(g.Samples.Matrix), firstSamples(g.Samples.Matrix), want.Ghost > 0,
					"model.name="+model, "data.augment=[]", "train.label_smoothing=0")
				fillNetwork(h.fleet)
				values := want.Eigenvalues
				largest := max(-values[0], values[len(values)-1])
				var eigen mat.EigenSym
				if !eigen.Factorize(explicitHessian(t, h), false) {
					t.Fatal("no eigenvalues")
				}
				for i, v := range eigen.Values(nil) {
					near(t, fmt.Sprintf("eigenvalue %d of %d", i+1, len(values)), v, values[i], 2e-6*largest)
				}
				c, err := h.measure(CurvatureOptions{Ghost: want.Ghost > 0, Top: curvature.Options{K: 3, MaxIterations: 3000, Tolerance: 1e-9},
					Trace:   &curvature.TraceOptions{MaxProbes: len(want.TraceSamples)},
					Density: &curvature.DensityOptions{Steps: 60, Starts: len(want.Moments)}})
				if err != nil {
					t.Fatal(err)
				}
				checkTop(t, c, values)
				for i, v := range c.Trace.Samples {
					near(t, "a trace sample", v, want.TraceSamples[i], 1e-5*largest)
				}
				near(t, "the trace", c.Trace.Mean, want.Trace, 4*c.Trace.StandardError)
				for run, q := range c.Density.Runs {
					for k, moment := range want.Moments[run] {
						got := 0.0
						for i, w := range q.Weights {
							got += w * math.Pow(q.Nodes[i], float64(k+1))
						}
						near(t, fmt.Sprint("moment ", k+1), got, moment, 1e-5*math.Pow(largest, float64(k+1)))
					}
				}
			})
		}
	}
}

// What is measured of a trained ResNet-8 is what PyTorch finds for its checkpoint from the same random vectors.
func TestCurvatureAgainstPyTorch(t *testing.T) {
	g := loadCurvature(t)
	for _, want := range g.Checkpoint {
		var sets []string
		if want.Ghost > 0 {
			for _, key := range []string{"batch.ghost", "batch.leaf", "batch.size"} {
				sets = append(sets, fmt.Sprintf("%s=%d", key, want.Ghost))
			}
			sets = append(sets, "methods=[]")
		}
		m, err := OpenModel("../testdata/golden/quickstart.safetensors", sets, Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		o := CurvatureOptions{Samples: g.Samples.Checkpoint, Ghost: want.Ghost > 0, Seed: g.Seed,
			Top:       curvature.Options{K: len(want.Eigenvalues), MaxIterations: 300, Tolerance: 1e-7},
			Trace:     &curvature.TraceOptions{MaxProbes: len(want.TraceSamples)},
			Density:   &curvature.DensityOptions{Steps: len(want.Density[0].Nodes), Starts: len(want.Density)},
			Landscape: &curvature.LandscapeOptions{Dimensions: 2, Points: len(want.Plane), Span: 0.5}}
		c, err := m.Curvature(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("ghost %d: %+v, %d products", want.Ghost, c.Eigenvalues, c.HVPs)
		largest := want.Eigenvalues[0]
		for i, e := range c.Eigenvalues {
			near(t, fmt.Sprintf("ghost %d: eigenvalue %d of %+v", want.Ghost, i+1, c.Eigenvalues), e.Value, want.Eigenvalues[i], 1e-4*largest)
		}
		for i, v := range c.Trace.Samples {
			near(t, "a trace sample", v, want.TraceSamples[i], 1e-3*largest)
		}
		for i, q := range c.Density.Runs {
			for j := range q.Nodes {
				near(t, fmt.Sprintf("node %d of run %d", j, i), q.Nodes[j], want.Density[i].Nodes[j], 1e-3*largest)
				near(t, fmt.Sprintf("weight %d of run %d", j, i), q.Weights[j], want.Density[i].Weights[j], 1e-3)
			}
		}
		checkLosses(t, "plane", c.Landscape.Losses, want.Plane)
		o = CurvatureOptions{Samples: o.Samples, Ghost: o.Ghost, Seed: o.Seed, Top: o.Top, Landscape: &curvature.LandscapeOptions{Dimensions: 1, Points: len(want.Line[0]), Span: 0.5}}
		o.Top.K = 1
		if c, err = m.Curvature(o); err != nil {
			t.Fatal(err)
		}
		checkLosses(t, "line", c.Landscape.Losses, want.Line)
	}
}

func checkLosses(t *testing.T, what string, got, want [][]float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d rows; want %d", what, len(got), len(want))
	}
	for j, row := range want {
		for i, v := range row {
			near(t, fmt.Sprintf("%s: loss %d, %d", what, j, i), got[j][i], v, 1e-3*v)
		}
	}
}
