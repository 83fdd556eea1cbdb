package sgs

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/methods/methodtest"
)

// goldenMaps are factors that NumPy measures on feature maps; testdata/golden/README.md describes them.
type goldenMaps struct {
	Maps struct {
		Samples, Height, Width, Channels int
		Cases                            []struct {
			Kernel, Padding [2]int
			K               float64
			DropDiagonal    bool `json:"drop_diagonal"`
			Scales          []float64
		}
	}
}

// pixels are those of the golden file, [sample][row][column][channel]: the third channel is cut, the last one constant.
func (g *goldenMaps) pixels() (out []float32) {
	m := g.Maps
	for s := range m.Samples {
		for y := range m.Height {
			for x := range m.Width {
				for c := range m.Channels {
					e := len(out)
					v := float64((11*s+17*c+3*y+5*x+7*e*e%251%13)%54) * 4 / 255
					switch c {
					case 2:
						v = max(v-0.25, 0)
					case 3:
						v = 0
					}
					out = append(out, float32(v))
				}
			}
		}
	}
	return out
}

func TestFactorsAgreeWithNumPy(t *testing.T) {
	raw, err := os.ReadFile("../../../testdata/golden/sgs.json")
	if err != nil {
		t.Fatal(err)
	}
	var g goldenMaps
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	x, sample := g.pixels(), g.Maps.Height*g.Maps.Width*g.Maps.Channels
	for _, c := range g.Maps.Cases {
		d := newDependence(methods.Layer{H: g.Maps.Height, W: g.Maps.Width, C: g.Maps.Channels, R: c.Kernel[0], S: c.Kernel[1],
			PadH: c.Padding[0], PadW: c.Padding[1]}, c.DropDiagonal)
		for _, read := range []func([]float32){d.bound, d.count} { // in leaves of 7, 7 and 6 samples
			for leaf := range slices.Chunk(x, 7*sample) {
				read(leaf)
			}
		}
		got, ok := d.scales(c.K)
		if !ok || len(got) != len(c.Scales) {
			t.Fatalf("%+v: factors %v", c, got)
		}
		for i, v := range got {
			if math.Abs(float64(v)-c.Scales[i]) > 1e-6 {
				t.Errorf("kernel %v, place %d: %g; NumPy has %g", c.Kernel, i, v, c.Scales[i])
			}
		}
	}
}

// Inputs that tell nothing leave the factors as they are; what is not finite does no harm.
func TestInputsWithoutInformation(t *testing.T) {
	for _, v := range []float64{0, 1, math.NaN(), math.Inf(1)} {
		d := newDependence(methods.Layer{H: 4, W: 4, C: 1, R: 3, S: 3}, false)
		x := slices.Repeat([]float32{float32(v)}, 16)
		d.bound(x)
		d.count(x)
		if s, ok := d.scales(5); ok {
			t.Errorf("inputs of %g: factors %v", v, s)
		}
	}
}

// training has the given layers, and counts how often their inputs are read.
type training struct {
	*methodtest.Training
	layers []methods.Layer
	reads  int
}

func (f *training) Tensors() []string       { return []string{"a", "b", "c", "d", "e"} }
func (f *training) Layers() []methods.Layer { return f.layers }
func (f *training) ReadInputs(methods.Reading, func(methods.LayerInputs) error) error {
	f.reads++
	return nil
}

// Squares and oblongs of odd sizes above 1 are scaled, and measured at the authors' epochs.
func TestWhatIsMeasuredAndWhen(t *testing.T) {
	f := &training{Training: methodtest.New(10), layers: []methods.Layer{{Tensor: 0, C: 1, R: 3, S: 3}, {Tensor: 1, C: 1, R: 1, S: 3}, {Tensor: 2, C: 1, R: 2, S: 2},
		{Tensor: 3, C: 1, R: 5, S: 3}, {Tensor: 4, C: 1, R: 3, S: 3, Linear: true}}}
	m, err := New(Options{Every: 3, Samples: 100, K: 5, WarmupEpochs: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{9, 0, 0, 15, 0} {
		if s := m.Scales()[i]; len(s) != want {
			t.Errorf("tensor %d has factors %v; want %d", i, s, want)
		}
	}
	var at []int
	for epoch := range 11 {
		f.reads, f.EpochsDone = 0, epoch
		act := m.EpochEnd
		if epoch == 0 {
			act = m.Start
		}
		if err := act(f); err != nil {
			t.Fatal(err)
		}
		if f.reads == 2 {
			at = append(at, epoch)
		}
	}
	if !slices.Equal(at, []int{2, 3, 6, 9}) {
		t.Errorf("measured before epochs %v", at)
	}
}

func TestBadOptions(t *testing.T) {
	info, _ := methods.Lookup("sgs")
	for key, spoil := range map[string]func(*Options){
		"every": func(o *Options) { o.Every = 0 }, "samples": func(o *Options) { o.Samples = 0 },
		"k": func(o *Options) { o.K = 0.5 }, "warmup_epochs": func(o *Options) { o.WarmupEpochs = -1 },
	} {
		o := info.Options().(*Options)
		spoil(o)
		if _, err := New(*o); err == nil || !strings.Contains(err.Error(), "methods.sgs."+key) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	m, _ := New(*info.Options().(*Options))
	f := &training{Training: methodtest.New(1), layers: []methods.Layer{{R: 1, S: 1}}}
	if err := m.Prepare(f); err == nil || !strings.Contains(err.Error(), "no convolution") {
		t.Errorf("a model of 1x1 convolutions: %v", err)
	}
	f.SampleCount = 100
	if err := m.Prepare(f); err == nil || !strings.Contains(err.Error(), "samples is 2560") {
		t.Errorf("2560 of 100 samples: %v", err)
	}
}

// Factors of another model are refused, as of a checkpoint that was tampered with.
func TestFactorsOfAnotherModel(t *testing.T) {
	f := &training{Training: methodtest.New(1), layers: []methods.Layer{{Tensor: 1, C: 1, R: 3, S: 3}}}
	m, _ := New(Options{Every: 1, Samples: 1, K: 1})
	if err := m.Prepare(f); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(m.State())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, m.State()); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{`{}`, `{"scales":[null,[1,1],null,null,null]}`, `{"scales":[null,[1,1,1,1,1,1,1,1,1]]}`, `{"scales":3}`} {
		if err := json.Unmarshal([]byte(bad), m.State()); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
