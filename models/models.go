// Package models holds the network architectures, one file each. Parameters are named as in a
// PyTorch state dict, so that checkpoints load there.
package models

import (
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strconv"

	"broadside/engine/graph"
)

// Family is a set of architectures whose names share a pattern, as in resnet20 and resnet32.
type Family struct {
	Pattern  string   // regular expression for the whole name; its groups are whole numbers
	Doc      string   // one line, with the paper
	Examples []string // names worth listing
	Input    graph.Dims
	// Build adds the layers; sizes are the pattern's groups.
	Build func(n *graph.Network, sizes []int) (graph.Value, error)
}

// Classes is the number of classes of the data that the family was published for: ImageNet's, or those of
// the small images.
func (f Family) Classes() int {
	if f.Input.H > 64 {
		return 1000
	}
	return 10
}

var families []Family

// register enrols a family; each architecture's file calls it from init.
func register(f Family) { families = append(families, f) }

// New builds the named model for samples of the given size.
func New(name string, input graph.Dims, classes int) (*graph.Network, error) {
	f, groups, err := lookup(name)
	if err != nil {
		return nil, err
	}
	sizes, err := atoi(groups)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	n := graph.New(name, input, classes)
	out, err := f.Build(n, sizes)
	if err != nil {
		return nil, fmt.Errorf("model %s: %w", name, err)
	}
	return n.Build(out)
}

// Lookup returns the family that a model's name belongs to.
func Lookup(name string) (Family, error) {
	f, _, err := lookup(name)
	return f, err
}

// lookup returns a name's family and the sizes in the name. A name that a family lists is that family's,
// whatever other patterns it matches: resnet9 is not of depth 6n+2.
func lookup(name string) (f Family, groups []string, err error) {
	found := false
	for _, candidate := range families {
		match := regexp.MustCompile("^" + candidate.Pattern + "$").FindStringSubmatch(name)
		if match == nil {
			continue
		}
		listed := slices.Contains(candidate.Examples, name)
		if listed || !found {
			f, groups, found = candidate, match[1:], true
		}
		if listed {
			break
		}
	}
	if !found {
		return Family{}, nil, fmt.Errorf("unknown model %q; known are %v", name, Names())
	}
	return f, groups, nil
}

// Families returns the known families, sorted by their first example.
func Families() []Family {
	out := append([]Family(nil), families...)
	sort.Slice(out, func(i, j int) bool { return out[i].Examples[0] < out[j].Examples[0] })
	return out
}

// Names returns the example names of every family, sorted.
func Names() []string {
	var out []string
	for _, f := range families {
		out = append(out, f.Examples...)
	}
	sort.Strings(out)
	return out
}

func atoi(digits []string) ([]int, error) {
	out := make([]int, len(digits))
	for i, s := range digits {
		v, err := strconv.Atoi(s)
		if err != nil || v > 10000 {
			return nil, fmt.Errorf("size %s is out of range", s)
		}
		out[i] = v
	}
	return out, nil
}

// cifar is the input size that most models here were published for.
var cifar = graph.Dims{H: 32, W: 32, C: 3}

func conv3x3(n *graph.Network, name string, x graph.Value, k, stride int) graph.Value {
	return n.Conv2D(name, x, k, graph.Square(3, stride, 1), graph.ConvOptions{})
}

func conv1x1(n *graph.Network, name string, x graph.Value, k, stride int) graph.Value {
	return n.Conv2D(name, x, k, graph.Square(1, stride, 0), graph.ConvOptions{})
}
