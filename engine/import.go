package engine

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"broadside/engine/checkpoint"
	"broadside/engine/data"
	"broadside/engine/graph"
	"broadside/engine/recipe"
	"broadside/engine/suggest"
	"broadside/models"
)

// ImageNet's mean and standard deviation of pixels from 0 to 1, which torchvision's and most of timm's networks for
// 224x224 images are trained with.
var (
	imageNetMean = []float32{0.485, 0.456, 0.406}
	imageNetStd  = []float32{0.229, 0.224, 0.225}
)

// ImportOptions say what weights of others belong to. What is zero is the model's default.
type ImportOptions struct {
	Model                   string
	Height, Width, Channels int
	// Mean and Std are what the network's pixels, from 0 to 1, were normalised with. By default they are ImageNet's for
	// networks for 224x224 images, and there are none for others; with Plain there are none.
	Mean, Std  []float32
	Plain      bool
	Classes    int // 0: as many as the file has
	ClassNames []string
}

// ImportFor returns what a recipe says of weights: its model, and the size, normalisation and classes of its data.
func ImportFor(r *recipe.Recipe) (ImportOptions, error) {
	pair, err := data.Open(specOf(r.Data))
	if err != nil {
		return ImportOptions{}, err
	}
	s := pair.Train
	o := ImportOptions{Model: r.Model.Name, Height: s.H, Width: s.W, Channels: s.C, Plain: true, Classes: s.Classes, ClassNames: s.ClassNames}
	if r.Data.Normalize == "dataset" {
		o.Mean, o.Std = s.Mean, s.Std
	}
	return o, nil
}

// Import reads a safetensors file with the weights of a network as PyTorch names them.
func Import(path string, o ImportOptions) (*Network, error) {
	found, err := readWeights(path)
	if err != nil {
		return nil, err
	}
	n, err := importFrom(found, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", found.Path, err)
	}
	n.path = found.Path
	return n, nil
}

func importFrom(found *checkpoint.Found, o ImportOptions) (*Network, error) {
	family, err := models.Lookup(o.Model)
	if err != nil {
		return nil, suggest.Unknown("model", o.Model, models.Names())
	}
	in := family.Input
	if o.Height > 0 {
		in = graph.Dims{H: o.Height, W: o.Width, C: o.Channels}
	}
	net, err := models.New(o.Model, in, family.Classes())
	if err != nil {
		return nil, err
	}
	classes := headClasses(compare(found.Checkpoint, net))
	if o.Classes > 0 && classes != o.Classes {
		return nil, fmt.Errorf("the file has %d classes, the recipe's data %d: train from it with model.weights, which makes the last layer anew", classes, o.Classes)
	}
	if classes != net.Classes {
		if net, err = models.New(o.Model, in, classes); err != nil {
			return nil, err
		}
	}
	n := &Network{net: net, Mean: o.Mean, Std: o.Std, ClassNames: o.ClassNames}
	if n.Mean == nil && n.Std == nil && !o.Plain && family.Input.H > 64 && in.C == 3 {
		n.Mean, n.Std = imageNetMean, imageNetStd
	}
	if err := n.checkMeta(); err != nil {
		return nil, err
	}
	return n, n.take(found.Checkpoint)
}

// headClasses is the number of classes that a file's last layer has; the network's where it has no such layer.
func headClasses(f *fitted) int {
	for _, i := range f.net.Heads() {
		if d, ok := f.tensors[f.net.Params[i].Name]; ok && len(d.Shape()) > 0 && d.Shape()[0] <= most {
			return d.Shape()[0]
		}
	}
	return f.net.Classes
}

// readWeights reads weights, or says what is to be done about files of PyTorch's own format.
func readWeights(path string) (*checkpoint.Found, error) {
	if file, err := os.Open(path); err == nil {
		defer file.Close()
		if start := make([]byte, 9); isPickle(start[:readFrom(file, start)]) {
			return nil, fmt.Errorf("%s is a pickle of PyTorch, which may run code when it is read; in Python: safetensors.torch.save_file(torch.load(%q, weights_only=True), \"weights.safetensors\")", path, path)
		}
	}
	return readCheckpoint(path)
}

// readFrom reads what there is, up to the length of start.
func readFrom(r io.Reader, start []byte) int {
	n, _ := io.ReadFull(r, start)
	return n
}

// isPickle reports whether a file begins as torch.save writes it, in a zip archive or not, and not as a safetensors file:
// its JSON, behind eight bytes of a length.
func isPickle(start []byte) bool {
	if len(start) > 8 && start[8] == '{' {
		return false
	}
	return bytes.HasPrefix(start, []byte("PK\x03\x04")) || len(start) > 1 && start[0] == 0x80 && start[1] >= 2 && start[1] <= 5
}

// initialParams returns the parameters and running statistics that training starts from.
func (f *fleet) initialParams(seed uint64) (params, state cells, err error) {
	params, state = f.net.InitParams(seed), f.net.InitState()
	if f.weights == "" {
		return params, state, nil
	}
	found, err := readWeights(f.weights)
	if err != nil {
		return nil, nil, fmt.Errorf("model.weights: %w", err)
	}
	fit := compare(found.Checkpoint, f.net)
	taken := len(fit.wanted)
	why := fit.newHeads()
	if err := fit.err(); err != nil {
		return nil, nil, fmt.Errorf("model.weights: %s: %w", found.Path, err)
	}
	if err := fit.load(params, state); err != nil {
		return nil, nil, fmt.Errorf("model.weights: %s: %w", found.Path, err)
	}
	f.note = fmt.Sprintf("starting from %s, %d tensors", found.Path, len(fit.wanted))
	if why != "" {
		f.note += fmt.Sprintf("; the last layer starts anew (%d tensors): %s", taken-len(fit.wanted), why)
	}
	return params, state, nil
}

// initialise has training start from fresh parameters, or from those of a file. A run that is resumed has its own.
func (f *fleet) initialise(seed uint64) error {
	params, state := cells(f.net.InitParams(seed)), cells(f.net.InitState())
	if f.weights != "" && !f.resumed {
		var err error
		params, state, err = f.initialParams(seed)
		if err := f.agree(err); err != nil {
			return err
		}
		if f.remote() {
			if err := f.same("content of model.weights", fmt.Sprint(params, state)); err != nil {
				return err
			}
		}
	}
	f.params.WriteFloats(0, params)
	f.state.WriteFloats(0, state)
	return nil
}

// hasCheckpoint reports whether a run directory has a checkpoint to resume from.
func hasCheckpoint(runDir string) bool {
	entries, err := os.ReadDir(filepath.Join(runDir, checkpointDir))
	return err == nil && slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return strings.HasPrefix(e.Name(), "step-") && strings.HasSuffix(e.Name(), ".safetensors")
	})
}
