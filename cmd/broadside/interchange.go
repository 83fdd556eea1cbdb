package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"broadside/engine"
	"broadside/engine/recipe"
)

// importFlags say what weights of others are.
type importFlags struct {
	model, input, recipe, out string
	mean, std                 []float32
	plain                     bool
	sets                      []string
	json                      bool
}

func newImport() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import WEIGHTS",
		Short: "Make a checkpoint of weights from PyTorch, torchvision or timm",
		Long: `Make a checkpoint of a safetensors file with the weights of a network as
PyTorch names them: torchvision's and timm's ResNets and VGGs, and common code
for small images. The number of classes is that of the file.

To train on from such a file, name it in the recipe instead: model.weights. The
last layer starts anew there where the number of classes differs.

A .pth file of PyTorch may run code when it is read. Turn it into safetensors in
Python: safetensors.torch.save_file(model.state_dict(), "weights.safetensors")`,
		Example: `  broadside import resnet50.safetensors --model resnet50 --out resnet50-imagenet.safetensors
  broadside import resnet20.safetensors --recipe cifar10-bl --set data.path=/data/cifar-10-batches-bin --out resnet20.safetensors`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			o, err := f.options()
			if err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			return f.run(cmd, a[0], o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.model, "model", "", "the architecture, one of 'broadside models'")
	flags.StringVar(&f.input, "input", "", "height, width and channels of its samples, as in 224x224x3 (default: the model's)")
	flags.Float32SliceVar(&f.mean, "mean", nil, "what pixels from 0 to 1 were normalised with, a number for each channel (default: ImageNet's for models for 224x224 images, none for others)")
	flags.Float32SliceVar(&f.std, "std", nil, "see --mean")
	flags.BoolVar(&f.plain, "no-normalization", false, "pixels were from 0 to 1")
	flags.StringVar(&f.recipe, "recipe", "", "the recipe whose model, data and normalisation the weights are for; the checkpoint can then be evaluated")
	flags.StringArrayVar(&f.sets, "set", nil, "override a key of --recipe (may be repeated)")
	flags.StringVar(&f.out, "out", "", "the checkpoint to write")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

// options checks the flags and returns what they say.
func (f *importFlags) options() (o engine.ImportOptions, err error) {
	switch {
	case f.out == "":
		return o, errors.New("--out is missing: name the checkpoint to write")
	case (f.model == "") == (f.recipe == ""):
		return o, errors.New("give --model or --recipe, one of them")
	case f.recipe == "" && len(f.sets) > 0:
		return o, errors.New("--set changes a recipe: give --recipe too")
	case f.recipe != "" && (f.input != "" || f.mean != nil || f.std != nil || f.plain):
		return o, errors.New("--input, --mean, --std and --no-normalization are the recipe's: leave them out")
	case (f.mean == nil) != (f.std == nil), f.plain && f.mean != nil:
		return o, errors.New("give --mean and --std together, or --no-normalization alone")
	}
	o = engine.ImportOptions{Model: f.model, Mean: f.mean, Std: f.std, Plain: f.plain}
	if f.input != "" {
		o.Height, o.Width, o.Channels, err = parseInput(f.input)
	}
	return o, err
}

// ofRecipe returns what the recipe says, and its text.
func (f *importFlags) ofRecipe() (o engine.ImportOptions, text []byte, err error) {
	r, err := recipe.Load(f.recipe, f.sets)
	if err != nil {
		return o, nil, err
	}
	if o, err = engine.ImportFor(r); err != nil {
		return o, nil, err
	}
	text, err = r.YAML()
	return o, text, err
}

// parseInput reads a size such as 224x224x3.
func parseInput(text string) (h, w, c int, err error) {
	var rest string
	n, _ := fmt.Sscanf(text+" ", "%dx%dx%d%s", &h, &w, &c, &rest)
	if n != 3 || min(h, w, c) < 1 || max(h, w, c) > 1<<16 {
		return 0, 0, 0, fmt.Errorf("--input %q: want height, width and channels, as in 224x224x3", text)
	}
	return h, w, c, nil
}

// imported is what import reports.
type imported struct {
	Checkpoint string    `json:"checkpoint"`
	Model      string    `json:"model"`
	Input      [3]int    `json:"input"`
	Classes    int       `json:"classes"`
	Mean       []float32 `json:"mean"`
	Std        []float32 `json:"std"`
}

func (f *importFlags) run(cmd *cobra.Command, path string, o engine.ImportOptions) (err error) {
	var text []byte
	if f.recipe != "" {
		if o, text, err = f.ofRecipe(); err != nil {
			return err
		}
	}
	n, err := engine.Import(path, o)
	if err != nil {
		return err
	}
	if err := n.Save(f.out, text); err != nil {
		return err
	}
	h, w, c := n.Input()
	result := imported{f.out, n.Model(), [3]int{h, w, c}, n.Classes(), n.Mean, n.Std}
	if f.json {
		return printJSON(cmd.OutOrStdout(), result)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s for %dx%dx%d images and %d classes, %s\n", f.out, n.Model(), h, w, c, n.Classes(), normalization(n))
	return nil
}

// normalization says what a network's inputs are.
func normalization(n *engine.Network) string {
	if n.Mean == nil {
		return "pixels from 0 to 1"
	}
	return fmt.Sprintf("pixels from 0 to 1 normalised with mean %v and standard deviation %v", n.Mean, n.Std)
}

func newExport() *cobra.Command {
	var tensors, onnx string
	var pixels bool
	cmd := &cobra.Command{
		Use:   "export CHECKPOINT|RUN",
		Short: "Write a checkpoint's network for PyTorch (safetensors) or as an ONNX model",
		Long: `Write the network of a checkpoint, or of a run's newest one, for others.

--safetensors writes its tensors as PyTorch names and orders them, without the
state of the optimizer: torchvision's and timm's models of the same architecture
take them by load_state_dict(safetensors.torch.load_file(FILE)).

--onnx writes a model for onnxruntime and others (opset 17, IR version 8), with
batch normalisation by its running statistics. Its input "images" has shape
[batch, channels, height, width] and float32 elements, normalised as in training,
which the model's documentation string tells; with --pixels it takes pixels from
0 to 255 and normalises them itself. Its output "logits" has shape
[batch, classes].`,
		Example: `  broadside export runs/absa --safetensors resnet20.safetensors
  broadside export runs/absa --onnx resnet20.onnx --pixels`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error {
			switch {
			case tensors == "" && onnx == "":
				return usageError{errors.New("give --safetensors FILE, --onnx FILE or both"), cmd.CommandPath()}
			case pixels && onnx == "":
				return usageError{errors.New("--pixels is for --onnx"), cmd.CommandPath()}
			}
			n, err := readNetwork(cmd, a[0])
			if err != nil {
				return err
			}
			if err := apart(n.Path(), tensors, onnx); err != nil {
				return usageError{err, cmd.CommandPath()}
			}
			if tensors != "" {
				if err := n.WriteSafetensors(tensors); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d classes\n", tensors, n.Model(), n.Classes())
			}
			if onnx != "" {
				if err := n.WriteONNX(onnx, pixels); err != nil {
					return err
				}
				inputs := normalization(n)
				if pixels {
					inputs = "pixels from 0 to 255"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d classes; inputs are %s\n", onnx, n.Model(), n.Classes(), inputs)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&tensors, "safetensors", "", "write the tensors to this file")
	cmd.Flags().StringVar(&onnx, "onnx", "", "write an ONNX model to this file")
	cmd.Flags().BoolVar(&pixels, "pixels", false, "the ONNX model takes pixels from 0 to 255 and normalises them itself")
	return cmd
}

// readNetwork reads a checkpoint's network and warns of newer ones that could not be used.
func readNetwork(cmd *cobra.Command, path string) (*engine.Network, error) {
	n, err := engine.ReadNetwork(path)
	if err != nil {
		return nil, err
	}
	for _, w := range n.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "broadside: warning:", w)
	}
	return n, nil
}

// apart refuses outputs that are the checkpoint, or each other.
func apart(checkpoint string, outputs ...string) error {
	seen := map[string]bool{filepath.Clean(checkpoint): true}
	before, _ := os.Stat(checkpoint)
	for _, path := range outputs {
		if path == "" {
			continue
		}
		after, err := os.Stat(path)
		if seen[filepath.Clean(path)] || err == nil && os.SameFile(before, after) {
			return fmt.Errorf("%s would be written over: name another file", path)
		}
		seen[filepath.Clean(path)] = true
	}
	return nil
}
