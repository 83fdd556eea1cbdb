package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"broadside/engine/checkpoint"
	"broadside/engine/graph"
)

// wrappers are what PyTorch's tools put in front of the names of all tensors of a model.
var wrappers = []string{"module.", "_orig_mod.", "model.", "net."}

// aliases are names that others give to layers of the architectures here: of ResNets for small images, and timm's of VGG.
var aliases = []struct{ theirs, ours string }{
	{".shortcut.", ".downsample."}, {"linear.", "fc."}, {"head.fc.", "fc."},
	{"pre_logits.fc1.", "classifier.0."}, {"pre_logits.fc2.", "classifier.3."}, {"head.fc.", "classifier.6."},
}

// netTensor is a tensor that a network has.
type netTensor struct {
	shape  []int
	param  int // its place in Network.Params, or -1
	offset int // of a running statistic in the state memory
}

// netTensors lists a network's tensors by their names.
func netTensors(net *graph.Network) map[string]netTensor {
	out := map[string]netTensor{}
	for i, p := range net.Params {
		out[p.Name] = netTensor{shape: p.TorchShape(), param: i}
	}
	for _, n := range net.Norms {
		for i, suffix := range runningSuffixes {
			out[n.Name+suffix] = netTensor{shape: []int{n.C}, param: -1, offset: n.Offset + i*n.C}
		}
	}
	return out
}

// fitted are the tensors of a file that fit a network, by the network's names.
type fitted struct {
	net     *graph.Network
	wanted  map[string]netTensor
	tensors map[string]*tensor.Dense
	missing []string
	// Others have other shapes than the network's: name and what is wrong.
	others  map[string]string
	unknown []string
}

// compare finds out which tensor of a file is which of a network. Names are PyTorch's, as torchvision, timm and common
// code for small images have them.
func compare(ck *checkpoint.Checkpoint, net *graph.Network) *fitted {
	f := &fitted{net: net, wanted: netTensors(net), tensors: map[string]*tensor.Dense{}, others: map[string]string{}}
	sets := normSetNames(ck, net)
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(ck.Tensors)), func(name string) bool {
		_, known := f.wanted[name]
		return strings.HasPrefix(name, optimizerPrefix) || strings.HasSuffix(name, ".num_batches_tracked") || sets[name] && !known
	})
	wrapper := wrapperOf(names)
	for _, theirs := range names {
		name, ok := f.ours(strings.TrimPrefix(theirs, wrapper))
		if !ok {
			f.unknown = append(f.unknown, theirs)
			continue
		}
		d := ck.Tensors[theirs]
		f.tensors[name] = d
		if wrong := f.wrong(name, d); wrong != "" {
			f.others[name] = wrong
		}
	}
	f.shareNorms()
	for _, name := range slices.Sorted(maps.Keys(f.wanted)) {
		if _, ok := f.tensors[name]; !ok {
			f.missing = append(f.missing, name)
		}
	}
	return f
}

// wrapperOf returns what all names begin with because of PyTorch's tools.
func wrapperOf(names []string) (wrapper string) {
	for again := len(names) > 0; again; {
		again = false
		for _, w := range wrappers {
			if !slices.ContainsFunc(names, func(name string) bool { return !strings.HasPrefix(name, wrapper+w) }) {
				wrapper, again = wrapper+w, true
			}
		}
	}
	return wrapper
}

// normSetNames are the tensors of further parameter sets of batch normalisation, which only their own run needs.
func normSetNames(ck *checkpoint.Checkpoint, net *graph.Network) map[string]bool {
	names := map[string]bool{}
	f := fleet{net: net}
	if f.knowNormSets(ck, names) != nil {
		return nil
	}
	return names
}

// shareNorms starts further parameter sets of the network's batch normalisations, where the file has none, from the first.
func (f *fitted) shareNorms() {
	for _, n := range f.net.Norms {
		for _, set := range f.net.NormSets {
			layer, ok := strings.CutSuffix(n.Name, "_"+set)
			if !ok {
				continue
			}
			for _, suffix := range append([]string{".weight", ".bias"}, runningSuffixes...) {
				d, found := f.tensors[layer+suffix]
				if _, own := f.tensors[n.Name+suffix]; found && !own {
					f.tensors[n.Name+suffix] = d
				}
			}
		}
	}
}

// ours returns the network's name of a tensor that is not found yet.
func (f *fitted) ours(name string) (string, bool) {
	open := func(name string) bool {
		_, known := f.wanted[name]
		_, found := f.tensors[name]
		return known && !found
	}
	if open(name) {
		return name, true
	}
	for _, a := range aliases {
		var other string
		if strings.HasPrefix(a.theirs, ".") {
			other = strings.Replace(name, a.theirs, a.ours, 1)
		} else if rest, ok := strings.CutPrefix(name, a.theirs); ok {
			other = a.ours + rest
		}
		if open(other) {
			return other, true
		}
	}
	return "", false
}

// wrong says why a tensor cannot be the network's of that name; nothing if it can.
func (f *fitted) wrong(name string, d *tensor.Dense) string {
	shape, want := []int(d.Shape()), f.wanted[name].shape
	if _, err := elementsOf(d); err != nil {
		return err.Error()
	}
	if slices.Equal(shape, want) || f.convolution(name, shape) {
		return ""
	}
	return fmt.Sprintf("is %v, the model needs %v", shape, want)
}

// convolution reports whether a shape is that of a linear layer's weights as a convolution, as timm stores some.
func (f *fitted) convolution(name string, shape []int) bool {
	s := f.wanted[name]
	if s.param < 0 {
		return false
	}
	p := f.net.Params[s.param]
	return p.Linear && slices.Equal(shape, []int{p.K, p.C, p.R, p.S})
}

// elementsOf returns a tensor's elements as float32.
func elementsOf(d *tensor.Dense) ([]float32, error) {
	switch v := d.Data().(type) {
	case []float32:
		return v, nil
	case float32:
		return []float32{v}, nil
	case []float64:
		out := make([]float32, len(v))
		for i := range v {
			out[i] = float32(v[i])
		}
		return out, nil
	case float64:
		return []float32{float32(v)}, nil
	}
	return nil, fmt.Errorf("has elements of type %v, which are no weights", d.Dtype())
}

// newHeads takes out the last layers whose tensors are missing or have another number of classes, and nothing else
// different. It returns why they are to be made anew; nothing if they are not.
func (f *fitted) newHeads() (why string) {
	for _, i := range f.net.Heads() {
		name, want := f.net.Params[i].Name, f.net.Params[i].TorchShape()
		d, ok := f.tensors[name]
		if !ok {
			why = "the file has none"
			continue
		}
		shape := []int(d.Shape())
		if len(shape) == len(want) && shape[0] != want[0] && slices.Equal(shape[1:], want[1:]) {
			why = fmt.Sprintf("the file has %d classes, the data %d", shape[0], want[0])
		}
	}
	if why == "" {
		return ""
	}
	for _, i := range f.net.Heads() { // all of them: half a layer is none
		name := f.net.Params[i].Name
		f.missing = slices.DeleteFunc(f.missing, func(m string) bool { return m == name })
		if d, ok := f.tensors[name]; ok && len(d.Shape()) > 0 && len(d.Shape()) == len(f.wanted[name].shape) &&
			slices.Equal(d.Shape()[1:], f.wanted[name].shape[1:]) {
			delete(f.others, name)
			delete(f.tensors, name)
		}
		delete(f.wanted, name)
	}
	return why
}

// listed is how many tensors of a kind an error names.
const listed = 12

// err says all that is wrong; nil if nothing is.
func (f *fitted) err() error {
	var lines []string
	line := func(what string, names []string) {
		if n := len(names); n > listed {
			names = append(slices.Clone(names[:listed]), fmt.Sprintf("and %d more", n-listed))
		}
		if len(names) > 0 {
			lines = append(lines, "  "+what+": "+strings.Join(names, ", "))
		}
	}
	var missing, others []string
	for _, name := range f.missing {
		missing = append(missing, fmt.Sprintf("%s %v", name, f.wanted[name].shape))
	}
	for _, name := range slices.Sorted(maps.Keys(f.others)) {
		others = append(others, name+" "+f.others[name])
	}
	line("missing", missing)
	line("of another shape", others)
	line("not of the model", f.unknown)
	if lines == nil {
		return nil
	}
	return errors.New(fmt.Sprintf("the tensors do not fit model %s for %v inputs and %d classes:\n", f.net.Name, f.net.Input, f.net.Classes) + strings.Join(lines, "\n"))
}

// load copies the tensors.
func (f *fitted) load(params, state writable) error {
	for name, s := range f.wanted {
		data, err := elementsOf(f.tensors[name])
		if err != nil {
			return fmt.Errorf("tensor %s %w", name, err)
		}
		if s.param < 0 {
			state.WriteFloats(s.offset, data)
			continue
		}
		p := f.net.Params[s.param]
		stored, err := checkpoint.FromPyTorch(data, p.K, p.R, p.S, p.C)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		params.WriteFloats(p.Offset, stored)
	}
	return nil
}
