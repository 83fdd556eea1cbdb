package models

import (
	"strings"
	"testing"

	"broadside/engine/graph"
)

// The counts are PyTorch's for the same architectures.
func TestParameterCounts(t *testing.T) {
	imageNet, mnist := graph.Dims{H: 224, W: 224, C: 3}, graph.Dims{H: 28, W: 28, C: 1}
	for _, c := range []struct {
		name    string
		in      graph.Dims
		classes int
		want    int
	}{
		{"2conv3dense", cifar, 10, 1756426},
		{"alexnet", imageNet, 1000, 61110184},
		{"alexnet-cifar", cifar, 10, 2473418},
		{"alexnet-cifar-nobn", cifar, 10, 2472266},
		{"alexnet-reduced", cifar, 10, 358906},
		{"alexnet-reduced-convbn", cifar, 10, 358394},
		{"alexnet-reduced-nobn", cifar, 10, 358106},
		{"c1", cifar, 10, 1756682},
		{"c2", cifar, 10, 1148746},
		{"cafo3", cifar, 10, 875328},
		{"mlp-500", graph.Dims{H: 28, W: 28, C: 1}, 10, 648010},
		{"f1", mnist, 10, 1462794},
		{"local-cnn", cifar, 10, 236638},
		{"local-mlp", mnist, 10, 942622},
		{"nf-resnet8", cifar, 10, 78042},
		{"nf-resnet20", cifar, 10, 272474},
		{"nf-resnet56", cifar, 10, 855770},
		{"nf-resnet50", imageNet, 1000, 25557032},
		{"nf-resnet101", imageNet, 1000, 44549160},
		{"resnet8", cifar, 10, 78042},
		{"resnet9", cifar, 10, 6573120},
		{"resnet20", cifar, 10, 272474},
		{"resnet32", cifar, 10, 466906},
		{"resnet44", cifar, 10, 661338},
		{"resnet56", cifar, 10, 855770},
		{"resnet18", imageNet, 1000, 11689512},
		{"resnet34", imageNet, 1000, 21797672},
		{"resnet50", imageNet, 1000, 25557032},
		{"resnet101", imageNet, 1000, 44549160},
		{"resnet18-cifar", cifar, 10, 11173962},
		{"resnet34-cifar", cifar, 10, 21282122},
		{"resnet50-cifar", cifar, 10, 23520842},
		{"resnet101-cifar", cifar, 10, 42512970},
		{"squeezenext7", cifar, 10, 271410},
		{"squeezenext23", cifar, 10, 588666},
		{"squeezenext23-2x", cifar, 10, 2313962},
		{"vgg11", imageNet, 1000, 132868840},
		{"vgg13", imageNet, 1000, 133053736},
		{"vgg16", imageNet, 1000, 138365992},
		{"vgg19", imageNet, 1000, 143678248},
		{"vgg11-cifar", cifar, 10, 9231114},
		{"vgg13-cifar", cifar, 10, 9416010},
		{"vgg16-cifar", cifar, 10, 14728266},
		{"vgg19-cifar", cifar, 10, 20040522},
		{"wrn-16-2", cifar, 10, 691674},
		{"wrn-16-4", cifar, 10, 2748890},
		{"wrn-28-10", cifar, 10, 36479194},
	} {
		n, err := New(c.name, c.in, c.classes)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := n.ParamCount(); got != c.want {
			t.Errorf("%s has %d parameters; want %d", c.name, got, c.want)
		}
	}
}

func TestParametersHaveDistinctNamesAndPlaces(t *testing.T) {
	for _, f := range Families() {
		for _, name := range f.Examples {
			n, err := New(name, f.Input, 10)
			if err != nil {
				t.Fatal(err)
			}
			seen, end := map[string]bool{}, 0
			for _, p := range n.Params {
				if seen[p.Name] {
					t.Errorf("%s: parameter %s twice", name, p.Name)
				}
				seen[p.Name] = true
				if p.Offset < end || p.Offset%16 != 0 {
					t.Errorf("%s: %s starts at %d, inside or unaligned (previous end %d)", name, p.Name, p.Offset, end)
				}
				end = p.Offset + p.Size()
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, want := range map[string]string{
		"resnet21":       "6n+2",
		"resnet2":        "6n+2",
		"nf-resnet21":    "6n+2",
		"wrn-17-4":       "6n+4",
		"wrn-16-0":       "width 0",
		"resnet99999999": "out of range",
		"vgg":            "unknown model",
		"alexnet":        "does not fit",
		"vgg12":          "unknown model",
		"squeezenext20":  "depth 20",
	} {
		_, err := New(name, cifar, 10)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v; want one with %q", name, err, want)
		}
	}
	if _, err := New("c2", graph.Dims{H: 4, W: 4, C: 3}, 10); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("c2 on 4x4 images: error %v; want one that says it does not fit", err)
	}
}
