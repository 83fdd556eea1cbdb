package engine

import (
	"encoding/json"
	"fmt"

	"gorgonia.org/tensor"

	"broadside/engine/checkpoint"
	"broadside/engine/graph"
	"broadside/engine/internal/durable"
	"broadside/engine/onnx"
	"broadside/models"
)

// The keys of a checkpoint's metadata that tell how to use the network without its data.
const (
	metaMean       = "broadside.mean" // of pixels from 0 to 1, that they are normalised with; none: they are not
	metaStd        = "broadside.std"
	metaClassNames = "broadside.class_names"
)

// Network is the network of a checkpoint on the host, with what one needs to use it without its data set.
type Network struct {
	// Mean and Std are what pixels from 0 to 1 are normalised with in each channel; nil: they are not.
	Mean, Std []float32
	// ClassNames are nil where they are not known.
	ClassNames []string
	// Warnings name newer checkpoints of the run that could not be used, and why.
	Warnings []string

	path          string
	net           *graph.Network
	params, state cells
	batches       int64 // updates that the running statistics have seen
}

// Model is the name of the architecture.
func (n *Network) Model() string { return n.net.Name }

// Classes is the number of classes.
func (n *Network) Classes() int { return n.net.Classes }

// Input is the size of a sample.
func (n *Network) Input() (height, width, channels int) {
	return n.net.Input.H, n.net.Input.W, n.net.Input.C
}

// Path is the checkpoint's file.
func (n *Network) Path() string { return n.path }

// ReadNetwork reads the network of a checkpoint file, or of the newest checkpoint of a run directory.
func ReadNetwork(path string) (*Network, error) {
	found, err := readCheckpoint(path)
	if err != nil {
		return nil, err
	}
	n, err := networkOf(found.Checkpoint)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", found.Path, err)
	}
	n.path, n.Warnings = found.Path, found.Warnings
	return n, nil
}

// most bounds the sizes that a checkpoint may claim.
const most = 1 << 20

func networkOf(ck *checkpoint.Checkpoint) (*Network, error) {
	name, ok := ck.Meta[metaModel]
	if !ok {
		return nil, fmt.Errorf("no checkpoint of Broadside: its metadata do not name the model; 'broadside import' makes one of weights")
	}
	var in [3]int
	var classes int
	if err := decode(ck, metaInput, &in); err != nil {
		return nil, err
	}
	if err := decode(ck, metaClasses, &classes); err != nil {
		return nil, err
	}
	if max(in[0], in[1], in[2], classes) > most {
		return nil, fmt.Errorf("the checkpoint's sizes are absurd: input %v, %d classes", in, classes)
	}
	net, err := models.New(name, graph.Dims{H: in[0], W: in[1], C: in[2]}, classes)
	if err != nil {
		return nil, err
	}
	n := &Network{net: net}
	for key, to := range map[string]any{metaMean: &n.Mean, metaStd: &n.Std, metaClassNames: &n.ClassNames} {
		if _, ok := ck.Meta[key]; !ok {
			return nil, fmt.Errorf("the checkpoint's metadata lack %s: it is of an older version", key)
		}
		if err := decode(ck, key, to); err != nil {
			return nil, err
		}
	}
	if err := n.checkMeta(); err != nil {
		return nil, err
	}
	return n, n.take(ck)
}

// checkMeta refuses metadata that do not fit the network.
func (n *Network) checkMeta() error {
	if n.Mean != nil || n.Std != nil {
		for _, v := range [][]float32{n.Mean, n.Std} {
			if len(v) != n.net.Input.C {
				return fmt.Errorf("normalised with %d means and %d standard deviations, but samples have %d channels", len(n.Mean), len(n.Std), n.net.Input.C)
			}
		}
		for _, v := range n.Std {
			if !(v > 0) {
				return fmt.Errorf("a standard deviation of pixels is %g: it must be above 0", v)
			}
		}
	}
	if n.ClassNames != nil && len(n.ClassNames) != n.net.Classes {
		return fmt.Errorf("%d class names for %d classes", len(n.ClassNames), n.net.Classes)
	}
	return nil
}

// take takes the parameters and running statistics of a checkpoint.
func (n *Network) take(ck *checkpoint.Checkpoint) error {
	f := compare(ck, n.net)
	if err := f.err(); err != nil { // before memory of a size that the file claims is allocated
		return err
	}
	if len(n.net.Norms) > 0 {
		if d, ok := ck.Tensors[n.net.Norms[0].Name+".num_batches_tracked"]; ok {
			n.batches, _ = d.Data().(int64)
		}
	}
	n.params, n.state = make(cells, n.net.ParamCells()), make(cells, n.net.StateCells())
	return f.load(n.params, n.state)
}

// describeInput records how samples become inputs, and what the classes are called.
func describeInput(ck *checkpoint.Checkpoint, mean, std []float32, names []string) error {
	for key, v := range map[string]any{metaMean: mean, metaStd: std, metaClassNames: names} {
		raw, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("writing %s: %w", key, err)
		}
		ck.Meta[key] = string(raw)
	}
	return nil
}

// Save writes the network as a checkpoint. With a recipe it can be evaluated on the recipe's data.
func (n *Network) Save(path string, recipe []byte) error {
	in := n.net.Input
	ck, err := n.checkpoint()
	if err != nil {
		return err
	}
	ck.Meta[metaModel] = n.net.Name
	ck.Meta[metaInput] = fmt.Sprintf("[%d,%d,%d]", in.H, in.W, in.C)
	ck.Meta[metaClasses] = fmt.Sprint(n.net.Classes)
	if recipe != nil {
		ck.Meta[metaRecipe] = string(recipe)
	}
	if err := describeInput(ck, n.Mean, n.Std, n.ClassNames); err != nil {
		return err
	}
	return checkpoint.Write(path, ck)
}

// WriteSafetensors writes the network's tensors alone: PyTorch's state dict of the same architecture.
func (n *Network) WriteSafetensors(path string) error {
	ck, err := n.checkpoint()
	if err != nil {
		return err
	}
	return checkpoint.Write(path, ck)
}

// checkpoint returns the network's tensors.
func (n *Network) checkpoint() (*checkpoint.Checkpoint, error) {
	ck := &checkpoint.Checkpoint{Tensors: map[string]*tensor.Dense{}, Meta: map[string]string{metaFormat: "pt"}}
	saveNorms(ck, "", n.net, n.state)
	for _, norm := range n.net.Norms {
		ck.Tensors[norm.Name+".num_batches_tracked"] = tensor.New(tensor.WithShape(), tensor.WithBacking([]int64{n.batches}))
	}
	return ck, saveParams(ck, "", n.net, n.params)
}

// WriteONNX writes the network as an ONNX model. With pixels the model takes pixels from 0 to 255 and normalises them
// itself; without, it takes what the network was trained on.
func (n *Network) WriteONNX(path string, pixels bool) error {
	meta := map[string]string{"broadside.model": n.net.Name}
	if n.ClassNames != nil {
		raw, err := json.Marshal(n.ClassNames)
		if err != nil {
			return fmt.Errorf("class names: %w", err)
		}
		meta[metaClassNames] = string(raw)
	}
	m := onnx.Model{Net: n.net, Params: n.params, State: n.state, Mean: n.Mean, Std: n.Std, Pixels: pixels, Meta: meta}
	if err := durable.Replace(path, m.Write); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
