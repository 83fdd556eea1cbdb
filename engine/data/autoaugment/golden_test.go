package autoaugment

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"testing"
)

// vector is what make_autoaugment.py writes.
type vector struct {
	Policies map[string][][][3]any
	Cases    []goldenCase
}

type goldenCase struct {
	Picture    string
	H, W, C    int
	Checksum   uint32
	Magnitudes map[string][]float64
	Operations map[string][]uint32
	Policies   map[string][]uint32
}

func golden(t testing.TB) (v vector) {
	t.Helper()
	text, err := os.ReadFile("../../../testdata/golden/autoaugment.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// names are torchvision's of the operations.
var names = map[string]Op{"ShearX": ShearX, "ShearY": ShearY, "TranslateX": TranslateX, "TranslateY": TranslateY, "Rotate": Rotate,
	"Brightness": Brightness, "Color": Color, "Contrast": Contrast, "Sharpness": Sharpness, "Posterize": Posterize, "Solarize": Solarize,
	"AutoContrast": AutoContrast, "Equalize": Equalize, "Invert": Invert}

// picture is an image of make_autoaugment.py.
func picture(name string, h, w, c int) []byte {
	image := make([]byte, 0, h*w*c)
	for y := range uint32(h) {
		for x := range uint32(w) {
			for k := range uint32(c) {
				noise := x*2654435761 + y*2246822519 + k*3266489917 + 374761393
				noise = (noise ^ noise>>15) * 2246822519
				noise = (noise ^ noise>>13) & 255
				v := map[string]uint32{"waves": (x*x*(k+1)+y*y*3+x*y)/16 + noise/32, "noise": noise, "dim": 40 + 20*k + noise*70/256,
					"steps": x/5*31 + y/4*7*(k+1), "flat": 90 + 30*k, "two": 3 + k}[name]
				if name == "two" && (x+y)%3 == 0 {
					v = 250 - k
				}
				image = append(image, byte(v))
			}
		}
	}
	return image
}

// each calls f with every case and its image.
func (v vector) each(t *testing.T, f func(t *testing.T, c goldenCase, image []byte)) {
	for _, c := range v.Cases {
		t.Run(fmt.Sprintf("%s %dx%dx%d", c.Picture, c.H, c.W, c.C), func(t *testing.T) {
			image := picture(c.Picture, c.H, c.W, c.C)
			if crc32.ChecksumIEEE(image) != c.Checksum {
				t.Fatal("the image is another than that of the vector")
			}
			f(t, c, image)
		})
	}
}

// Every operation at every level, in both directions, makes the bytes that torchvision makes of Pillow's images.
func TestOperationsAreTorchvisions(t *testing.T) {
	golden(t).each(t, func(t *testing.T, c goldenCase, image []byte) {
		e := NewEditor(c.H, c.W, c.C)
		if len(c.Magnitudes) != len(names) {
			t.Fatalf("%d operations, want %d", len(c.Magnitudes), len(names))
		}
		for name, magnitudes := range c.Magnitudes {
			op := names[name]
			for i, want := range c.Operations[name] {
				level := i % len(magnitudes)
				if got := op.magnitude(level, c.H, c.W); got != magnitudes[level] {
					t.Errorf("%s, level %d: magnitude %v, want %v", name, level, got, magnitudes[level])
				}
				got := slices.Clone(image)
				e.do(got, step{op, 1, level}, i >= len(magnitudes))
				if crc32.ChecksumIEEE(got) != want {
					t.Errorf("%s, level %d, direction %d: other bytes", name, level, i/len(magnitudes))
				}
			}
			if n := len(c.Operations[name]); op.signed() != (n == 2*len(magnitudes)) {
				t.Errorf("%s has %d results", name, n)
			}
		}
	})
}

// The tables of sub-policies are torchvision's.
func TestPoliciesAreTorchvisions(t *testing.T) {
	v := golden(t)
	if len(v.Policies) != len(Names()) {
		t.Errorf("%d policies, want %d", len(Names()), len(v.Policies))
	}
	for name, subs := range v.Policies {
		p := ByName(name)
		if p == nil || len(subs) != len(p.subs) {
			t.Fatalf("policy %s: %v, want %d sub-policies", name, p, len(subs))
		}
		for i, sub := range subs {
			for k, want := range sub {
				level, _ := want[2].(float64) // null where there is but one
				if got := p.subs[i][k]; len(sub) != 2 || got != (step{names[want[0].(string)], want[1].(float64), int(level)}) {
					t.Errorf("%s, sub-policy %d: %v, want %v", name, i, got, want)
				}
			}
		}
	}
}

// A whole sub-policy, chosen by the words that choose it, makes torchvision's bytes.
func TestSubPoliciesAreTorchvisions(t *testing.T) {
	golden(t).each(t, func(t *testing.T, c goldenCase, image []byte) {
		e := NewEditor(c.H, c.W, c.C)
		for _, name := range Names() {
			p := *ByName(name)
			for i := range p.subs {
				for k := range p.subs[i] {
					p.subs[i][k].probability = 1
				}
				words := [4]uint32{uint32((uint64(i)<<32 + 1<<31) / 25), 0, 0, uint32(1-i%2)<<31 | uint32(1-i/2%2)<<30}
				got := slices.Clone(image)
				e.Apply(got, &p, words)
				if crc32.ChecksumIEEE(got) != c.Policies[name][i] {
					t.Errorf("%s, sub-policy %d: other bytes", name, i)
				}
			}
		}
	})
}
