package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"broadside/engine/checkpoint"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/kernels"
)

// The keys of a checkpoint's metadata.
const (
	metaFormat   = "format" // "pt", as PyTorch's own exporters write
	metaModel    = "broadside.model"
	metaInput    = "broadside.input" // [height, width, channels]
	metaClasses  = "broadside.classes"
	metaRecipe   = "broadside.recipe"
	metaProgress = "broadside.progress"
	metaMethod   = "broadside.method."   // + name
	metaNormSets = "broadside.norm_sets" // names of further parameter sets of batch normalisation
	metaDecoder  = "broadside.image_decoder"
)

// optimizerPrefix starts the names of optimiser state tensors: broadside.momentum.conv1.weight.
const optimizerPrefix = "broadside."

// save writes everything that a resume needs into a checkpoint. Parameters and running statistics
// carry PyTorch's names and layouts.
func (t *trainer) save(recipe []byte) (*checkpoint.Checkpoint, error) {
	values := map[string]any{}
	for _, m := range t.methods {
		if r, ok := m.Method.(methods.Resumable); ok {
			values[metaMethod+m.info.Name] = r.State()
		}
	}
	ck, err := t.saveModel(recipe, values)
	if err != nil {
		return nil, err
	}
	for i, slot := range t.updater.rule.Slots() {
		if err := saveParams(ck, optimizerPrefix+slot+".", t.fleet.net, read(t.updater.slots[i])); err != nil {
			return nil, err
		}
	}
	t.saveDeltas(ck)
	if err := t.savePair(ck); err != nil {
		return nil, err
	}
	if err := t.savePhases(ck); err != nil {
		return nil, err
	}
	if err := t.saveEarly(ck); err != nil {
		return nil, err
	}
	return ck, kernels.Sync(t.fleet.dev) // what was read may be worth nothing
}

// saveModel writes the network, where training stands, and further values: all that eval, curvature and PyTorch need.
func (t *trainer) saveModel(recipe []byte, values map[string]any) (*checkpoint.Checkpoint, error) {
	ck := &checkpoint.Checkpoint{Tensors: map[string]*tensor.Dense{}, Meta: map[string]string{
		metaFormat: "pt", metaModel: t.fleet.net.Name, metaRecipe: string(recipe)}}
	in := t.fleet.net.Input
	values[metaInput], values[metaClasses], values[metaProgress] = [3]int{in.H, in.W, in.C}, t.fleet.net.Classes, t.at
	for key, v := range values {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", key, err)
		}
		ck.Meta[key] = string(raw)
	}
	if on := t.fleet.train; on != nil {
		if err := describeInput(ck, on.mean, on.std, on.set.ClassNames); err != nil {
			return nil, err
		}
	}
	if words := t.fleet.imageDecoder(); words != "" {
		ck.Meta[metaDecoder] = words
	}
	return ck, t.fleet.saveNetwork(ck, t.at.Updates)
}

func (f *fleet) saveNetwork(ck *checkpoint.Checkpoint, updates int) error {
	if err := saveParams(ck, "", f.net, read(f.params)); err != nil {
		return err
	}
	if len(f.net.NormSets) > 0 {
		raw, err := json.Marshal(f.net.NormSets)
		if err != nil {
			return fmt.Errorf("writing %s: %w", metaNormSets, err)
		}
		ck.Meta[metaNormSets] = string(raw)
	}
	saveNorms(ck, "", f.net, read(f.state))
	for _, n := range f.net.Norms {
		ck.Tensors[n.Name+".num_batches_tracked"] = tensor.New(tensor.WithShape(), tensor.WithBacking([]int64{int64(updates)}))
	}
	return nil
}

func saveParams(ck *checkpoint.Checkpoint, prefix string, net *graph.Network, cells []float32) error {
	for _, p := range net.Params {
		data, err := checkpoint.ToPyTorch(cells[p.Offset:p.Offset+p.Size()], p.K, p.R, p.S, p.C)
		if err != nil {
			return fmt.Errorf("writing %s: %w", p.Name, err)
		}
		ck.Tensors[prefix+p.Name] = tensor.New(tensor.WithShape(p.TorchShape()...), tensor.WithBacking(data))
	}
	return nil
}

func saveNorms(ck *checkpoint.Checkpoint, prefix string, net *graph.Network, cells []float32) {
	for _, n := range net.Norms {
		for i, suffix := range runningSuffixes {
			ck.Tensors[prefix+n.Name+suffix] = vector(cells[n.Offset+i*n.C : n.Offset+(i+1)*n.C])
		}
	}
}

// runningSuffixes end the names of a layer's running statistics, in the order of the state memory.
var runningSuffixes = []string{".running_mean", ".running_var"}

func vector(v []float32) *tensor.Dense {
	return tensor.New(tensor.WithShape(len(v)), tensor.WithBacking(slices.Clone(v)))
}

// restore puts a checkpoint's state back.
func (t *trainer) restore(ck *checkpoint.Checkpoint) error {
	if err := t.fleet.loadNetwork(ck); err != nil {
		return err
	}
	for i, slot := range t.updater.rule.Slots() {
		if err := loadParams(ck, optimizerPrefix+slot+".", t.fleet.net, t.updater.slots[i]); err != nil {
			return err
		}
	}
	if err := decode(ck, metaProgress, &t.at); err != nil {
		return err
	}
	for _, m := range t.methods {
		if r, ok := m.Method.(methods.Resumable); ok {
			if err := decode(ck, metaMethod+m.info.Name, r.State()); err != nil {
				return err
			}
		}
	}
	if err := t.restorePhases(ck); err != nil {
		return err
	}
	if err := t.checkPlace(); err != nil {
		return err
	}
	if err := t.restoreEarly(ck); err != nil {
		return err
	}
	if err := t.restoreDeltas(ck); err != nil {
		return err
	}
	return t.restorePair(ck)
}

// checkPlace refuses a place in training that the data or recipe at hand do not have.
func (t *trainer) checkPlace() error {
	switch at, leaf := t.at, t.fleet.leaf.Capacity; {
	case at.Epoch < 0 || at.Epoch > t.cfg.epochs || at.Leaf < 0 || at.Leaf > t.sampler.LeavesPerEpoch():
		return fmt.Errorf("the checkpoint stands at epoch %d, leaf %d: outside a run of %d epochs of %d leaves",
			at.Epoch, at.Leaf, t.cfg.epochs, t.sampler.LeavesPerEpoch())
	case at.PhaseFrom < 0 || at.PhaseFrom > at.Epoch || at.Updates < 0 || at.Carried < 0:
		return fmt.Errorf("the checkpoint stands after %d updates, at epoch %d of a phase from epoch %d: there is no such place", at.Updates, at.Epoch, at.PhaseFrom)
	case at.Batch < leaf || at.Batch%leaf != 0:
		return fmt.Errorf("the checkpoint's batch of %d is no multiple of the leaf, %d", at.Batch, leaf)
	}
	return nil
}

func decode(ck *checkpoint.Checkpoint, key string, into any) error {
	raw, ok := ck.Meta[key]
	if !ok {
		return fmt.Errorf("the checkpoint has no %s: it cannot be resumed", key)
	}
	if err := json.Unmarshal([]byte(raw), into); err != nil {
		return fmt.Errorf("reading %s of the checkpoint: %w", key, err)
	}
	return nil
}

// loadNetwork copies a checkpoint's parameters and running statistics to the fleet. Every tensor
// must be there and have the network's shape; tensors of neither network nor optimiser are refused.
func (f *fleet) loadNetwork(ck *checkpoint.Checkpoint) error {
	known := map[string]bool{}
	for _, p := range f.net.Params {
		known[p.Name] = true
	}
	if err := loadParams(ck, "", f.net, f.params); err != nil {
		return err
	}
	if err := loadNorms(ck, "", f.net, f.state); err != nil {
		return err
	}
	for _, n := range f.net.Norms {
		for _, suffix := range runningSuffixes {
			known[n.Name+suffix] = true
		}
		known[n.Name+".num_batches_tracked"] = true
	}
	if err := f.knowNormSets(ck, known); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(ck.Tensors)) {
		if !known[name] && !strings.HasPrefix(name, optimizerPrefix) {
			return fmt.Errorf("the checkpoint has a tensor %s that model %s does not: it is another model's", name, f.net.Name)
		}
	}
	return nil
}

// knowNormSets adds the names of the tensors of further parameter sets: whoever does not train uses the first one only.
func (f *fleet) knowNormSets(ck *checkpoint.Checkpoint, known map[string]bool) error {
	if _, ok := ck.Meta[metaNormSets]; !ok {
		return nil
	}
	var sets []string
	if err := decode(ck, metaNormSets, &sets); err != nil {
		return err
	}
	for _, n := range f.net.Norms {
		for _, set := range sets {
			for _, suffix := range []string{".weight", ".bias", ".running_mean", ".running_var", ".num_batches_tracked"} {
				known[n.Name+"_"+set+suffix] = true
			}
		}
	}
	return nil
}

// writable is memory of a device, or cells of the host.
type writable interface {
	WriteFloats(offset int, src []float32)
}

// cells are parameters or running statistics on the host.
type cells []float32

// WriteFloats copies src to the cells at offset.
func (c cells) WriteFloats(offset int, src []float32) { copy(c[offset:], src) }

func loadNorms(ck *checkpoint.Checkpoint, prefix string, net *graph.Network, m writable) error {
	for _, n := range net.Norms {
		for i, suffix := range runningSuffixes {
			data, err := floats(ck, prefix+n.Name+suffix, []int{n.C}, net.Name)
			if err != nil {
				return err
			}
			m.WriteFloats(n.Offset+i*n.C, data)
		}
	}
	return nil
}

func loadParams(ck *checkpoint.Checkpoint, prefix string, net *graph.Network, m writable) error {
	for _, p := range net.Params {
		data, err := floats(ck, prefix+p.Name, p.TorchShape(), net.Name)
		if err != nil {
			return err
		}
		stored, err := checkpoint.FromPyTorch(data, p.K, p.R, p.S, p.C)
		if err != nil {
			return fmt.Errorf("reading %s: %w", prefix+p.Name, err)
		}
		m.WriteFloats(p.Offset, stored)
	}
	return nil
}

// floats returns a float32 tensor of the given shape.
func floats(ck *checkpoint.Checkpoint, name string, shape []int, model string) ([]float32, error) {
	d, ok := ck.Tensors[name]
	if !ok {
		return nil, fmt.Errorf("the checkpoint has no tensor %s, which model %s needs: it is another model's", name, model)
	}
	data, ok := d.Data().([]float32)
	if !ok || !slices.Equal([]int(d.Shape()), shape) {
		return nil, fmt.Errorf("the checkpoint's tensor %s is %v %v; model %s needs float32 %v: it is another model's",
			name, d.Dtype(), d.Shape(), model, shape)
	}
	return data, nil
}
