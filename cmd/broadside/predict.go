package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"broadside/engine"
	"broadside/engine/npy"
)

// predictFlags say what to predict and how to show it.
type predictFlags struct {
	deviceFlags
	top           int
	labels, array string
	logits, json  bool
	preparation   preparation
}

// prediction is what a network says of an image.
type prediction struct {
	Image  string    `json:"image"`
	Top    []class   `json:"top"`
	Logits []float32 `json:"logits,omitempty"`
}

// class is a guess.
type class struct {
	Class       int     `json:"class"`
	Name        string  `json:"name,omitempty"`
	Probability float64 `json:"probability"`
}

func newPredict() *cobra.Command {
	var f predictFlags
	cmd := &cobra.Command{
		Use:   "predict CHECKPOINT|RUN IMAGES...",
		Short: "Classify images with a checkpoint, or a run's newest one",
		Long: `Classify images: PNG and JPEG files, and .npy files of NumPy with bytes of shape
[N, height, width, channels] or [N, height, width], of the size that the network
takes. The shorter side of other files is resized, as torchvision does it, to
--resize pixels, and the middle taken; where the network takes grey images they
become grey. Pixels are normalised as in training. No data set is needed.`,
		Example: `  broadside predict runs/absa cat.png dog.jpg
  broadside predict runs/absa test-images.npy --npy logits.npy --top 1
  broadside predict resnet50-imagenet.safetensors photos/*.jpg --labels imagenet_classes.txt --json`,
		Args: arguments(2, 1<<20),
		RunE: func(cmd *cobra.Command, a []string) error {
			if f.top < 1 {
				return usageError{fmt.Errorf("--top %d: must be at least 1", f.top), cmd.CommandPath()}
			}
			o, err := f.options(cmd)
			if err != nil {
				return err
			}
			return f.run(cmd, a[0], a[1:], o)
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.top, "top", 5, "classes to show, by falling probability")
	flags.StringVar(&f.labels, "labels", "", "a text file with the classes' names, one a line (default: the data set's)")
	f.preparation.add(flags)
	flags.StringVar(&f.array, "npy", "", "write the logits of all images to this .npy file, float32 [images, classes]")
	flags.BoolVar(&f.logits, "logits", false, "with --json: the logits too")
	flags.BoolVar(&f.json, "json", false, "print JSON, an array")
	return cmd
}

// atATime is how many images are held at a time.
const atATime = 256

func (f *predictFlags) run(cmd *cobra.Command, checkpoint string, files []string, o engine.Options) error {
	n, err := readNetwork(cmd, checkpoint)
	if err != nil {
		return err
	}
	if f.labels != "" {
		if n.ClassNames, err = readLabels(f.labels, n.Classes()); err != nil {
			return err
		}
	}
	if f.array != "" {
		if err := apart(n.Path(), append([]string{f.array}, files...)...); err != nil {
			return usageError{err, cmd.CommandPath()}
		}
	}
	p, err := n.Predictor(o)
	if err != nil {
		return err
	}
	defer p.Close()
	var all []float32
	var shown []prediction
	err = f.preparation.images(n, files, atATime, func(names []string, pixels []byte) error {
		logits, err := p.Logits(pixels)
		if err != nil {
			return err
		}
		if f.array != "" {
			all = append(all, logits...)
		}
		for i, name := range names {
			one := f.prediction(n, name, logits[i*n.Classes():(i+1)*n.Classes()])
			if f.json {
				shown = append(shown, one)
				continue
			}
			one.print(cmd.OutOrStdout())
		}
		return nil
	})
	if err != nil {
		return err
	}
	if f.array != "" {
		if err := writeArray(f.array, []int{len(all) / n.Classes(), n.Classes()}, all); err != nil {
			return err
		}
	}
	if f.json {
		return printJSON(cmd.OutOrStdout(), shown)
	}
	return nil
}

// prediction sums up the logits of an image.
func (f *predictFlags) prediction(n *engine.Network, name string, logits []float32) prediction {
	out := prediction{Image: name}
	if f.logits {
		out.Logits = logits
	}
	for c, v := range engine.Probabilities(logits) {
		guess := class{Class: c, Probability: v}
		if n.ClassNames != nil {
			guess.Name = n.ClassNames[c]
		}
		out.Top = append(out.Top, guess)
	}
	slices.SortStableFunc(out.Top, func(a, b class) int {
		switch {
		case a.Probability > b.Probability:
			return -1
		case a.Probability < b.Probability:
			return 1
		}
		return 0
	})
	out.Top = out.Top[:min(f.top, len(out.Top))]
	return out
}

func (p prediction) print(w io.Writer) {
	fmt.Fprint(w, p.Image)
	for i, c := range p.Top {
		separator := ", "
		if i == 0 {
			separator = ": "
		}
		name := c.Name
		if name == "" {
			name = fmt.Sprintf("class %d", c.Class)
		}
		fmt.Fprintf(w, "%s%s %.2f%%", separator, name, 100*c.Probability)
	}
	fmt.Fprintln(w)
}

// readLabels reads the names of classes.
func readLabels(path string, classes int) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("class names: %w", err)
	}
	defer file.Close()
	var names []string
	lines := bufio.NewScanner(file)
	for lines.Scan() && len(names) <= classes {
		names = append(names, strings.TrimSpace(lines.Text()))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("class names in %s: %w", path, err)
	}
	if len(names) != classes {
		what := fmt.Sprintf("%d", len(names))
		if len(names) > classes {
			what = "more"
		}
		return nil, fmt.Errorf("class names in %s: the model has %d classes, the file %s lines", path, classes, what)
	}
	return names, nil
}

// writeArray writes a .npy file.
func writeArray[T npy.Number](path string, shape []int, elements []T) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("writing an array: %w", err)
	}
	if err := errors.Join(npy.Write(file, shape, elements), file.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
