package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"github.com/spf13/cobra"

	"broadside/engine/data"
	"broadside/engine/recipe"
	"broadside/engine/suggest"
)

func newData() *cobra.Command {
	cmd := listing("data", "List, fetch, check, look at and convert data sets", func() ([]data.Info, error) { return data.Sets(), nil },
		"NAME\tWHAT\tFILES IN data.path", func(i data.Info) string {
			files := i.Files
			if i.Bundled {
				files = "(bundled)"
			}
			return fmt.Sprintf("%s\t%s\t%s", i.Name, i.Title, files)
		})
	cmd.Long = `List the data sets and the files they need. The commands below take the name of one and, unless it is bundled,
the path of its files.`
	cmd.AddCommand(untilSignal(newDataFetch()), newDataVerify(), newDataInspect(), newDataPack(), newDataExport())
	cmd.Args = func(cmd *cobra.Command, a []string) error {
		if len(a) == 0 {
			return nil
		}
		return usageError{suggest.Unknown("command", a[0], []string{"fetch", "verify", "inspect", "pack", "export"}), cmd.CommandPath()}
	}
	return cmd
}

// dataFlags say which data set a command is about.
type dataFlags struct {
	spec     data.Spec
	memoryGB float64
	json     bool
}

// addPath adds the flags that every command about a data set has.
func (f *dataFlags) addPath(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.spec.Path, "path", "", "folder or file of the data set, as data.path in a recipe; a bundled set needs none")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	files := recipe.Default().Data
	cmd.Flags().IntVar(&f.spec.Files.Size, "size", 0, "image files: side of the square that images become, in pixels")
	cmd.Flags().Float64Var(&f.spec.Files.ValShare, "val-share", files.ValShare, "image files that are not divided: share of each class to test on")
	cmd.Flags().IntVar(&f.spec.Files.MaxBad, "max-bad", 0, "image files that may be impossible to decode")
	cmd.Flags().Float64Var(&f.memoryGB, "max-memory-gb", files.MaxMemoryGB, "image files: GB that decoded images may take")
}

// named completes what the flags say of a set of that name.
func (f *dataFlags) named(name string) data.Spec {
	f.spec.Name, f.spec.Files.MaxBytes = name, int64(min(f.memoryGB*1e9, math.MaxInt64/2))
	return f.spec
}

// add adds the flags of the commands that load a data set.
func (f *dataFlags) add(cmd *cobra.Command) {
	f.addPath(cmd)
	cmd.Flags().BoolVar(&f.spec.Coarse, "coarse", false, "cifar100: the 20 coarse labels")
	cmd.Flags().IntVar(&f.spec.TrainLimit, "train-limit", 0, "only a class-balanced subset of so many training images; 0: all")
	cmd.Flags().IntVar(&f.spec.TestLimit, "test-limit", 0, "only a class-balanced subset of so many test images; 0: all")
}

// open loads the named set.
func (f *dataFlags) open(name string) (*data.Pair, error) {
	pair, err := data.Open(f.named(name))
	if err != nil {
		return nil, err
	}
	if err := pair.InMemory(); err != nil {
		return nil, err
	}
	return pair, nil
}

// dataCommand makes a command about one data set.
func dataCommand(use, short, long, example string, run func(cmd *cobra.Command, name string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long, Example: example, Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, a []string) error { return run(cmd, a[0]) }}
}

func newDataVerify() *cobra.Command {
	var f dataFlags
	cmd := dataCommand("verify NAME", "Check every byte of a data set",
		`Compare the files of a data set with the checksums that are published of them (of a packed set, with its own), then read
the whole set as training would. A file of which no checksum is published is 'unknown'. The exit status is 1 if a file is
damaged or missing, or cannot be read.`,
		"  broadside data verify cifar10 --path /data/cifar-10-batches-bin\n  broadside data verify packed --path cifar10.bspack --json", f.verify)
	f.addPath(cmd)
	return cmd
}

// verified is what verify found.
type verified struct {
	Files []data.FileState `json:"files"`
	Train int              `json:"train_images"`
	Test  int              `json:"test_images"`
	Error string           `json:"error,omitempty"` // of reading the set
}

func (f *dataFlags) verify(cmd *cobra.Command, name string) error {
	states, err := data.Verify(f.named(name))
	if err != nil {
		return err
	}
	bad := 0
	for _, s := range states {
		if s.State == data.FileDamaged || s.State == data.FileMissing {
			bad++
		}
	}
	v := verified{Files: states}
	if bad == 0 { // else the files have said it already
		var pair *data.Pair
		if pair, err = data.Open(f.spec); err == nil {
			v.Train, v.Test = pair.Train.Len(), pair.Test.Len()
		} else {
			v.Error = err.Error()
		}
	}
	if err := f.printVerified(cmd.OutOrStdout(), v, err == nil && bad == 0); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("data set %s: damaged or missing: %d of %d (listed above)", name, bad, len(states))
	}
	return err
}

func (f *dataFlags) printVerified(w io.Writer, v verified, good bool) error {
	if f.json {
		return printJSON(w, v)
	}
	if len(v.Files) > 0 {
		if err := table(w, "STATE\tFILE\tWHAT", v.Files, func(s data.FileState) string {
			return s.State + "\t" + s.File + "\t" + s.Detail
		}); err != nil {
			return err
		}
	}
	if good {
		fmt.Fprintf(w, "reads well: %d training and %d test images\n", v.Train, v.Test)
	}
	return nil
}

func newDataPack() *cobra.Command {
	var f dataFlags
	var out string
	cmd := dataCommand("pack NAME", "Write a data set to one file that is mapped into memory",
		`Write a data set to one packed file, with a checksum for every megabyte. It opens without being parsed, and processes that
train from it share its memory. Training from it gives the same bits as training from the source:

  broadside train RECIPE --set data.name=packed --set data.path=cifar10.bspack`,
		"  broadside data pack cifar10 --path /data/cifar-10-batches-bin --out cifar10.bspack\n  broadside data pack npy --path arrays --out small.bspack --train-limit 1000\n  broadside data pack folder --path my-images --size 64 --out my-images.bspack",
		func(cmd *cobra.Command, name string) error { return f.pack(cmd, name, out) })
	f.add(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write, whose name ends with "+data.PackedExtension+" (default NAME"+data.PackedExtension+")")
	return cmd
}

func (f *dataFlags) pack(cmd *cobra.Command, name, out string) error {
	if out == "" {
		out = name + data.PackedExtension
	}
	if filepath.Ext(out) != data.PackedExtension {
		return usageError{fmt.Errorf("--out %s: the name of a packed file ends with %s", out, data.PackedExtension), cmd.CommandPath()}
	}
	pair, err := f.open(name)
	if err != nil {
		return err
	}
	size, err := pair.Pack(out)
	if err != nil {
		return err
	}
	return f.written(cmd.OutOrStdout(), out, size, pair)
}

// written says what was written where.
func (f *dataFlags) written(w io.Writer, path string, bytes int64, p *data.Pair) error {
	if f.json {
		return printJSON(w, map[string]any{"path": path, "bytes": bytes, "train_images": p.Train.Len(), "test_images": p.Test.Len()})
	}
	_, err := fmt.Fprintf(w, "%s: %d training and %d test images, %.1f MB\n", path, p.Train.Len(), p.Test.Len(), float64(bytes)/1e6)
	return err
}

func newDataExport() *cobra.Command {
	var f dataFlags
	var dir string
	cmd := dataCommand("export NAME", "Write a data set as NumPy arrays",
		`Write a data set as x_train.npy, y_train.npy, x_test.npy and y_test.npy: images as bytes of [N, H, W, C], or [N, H, W] where
they are grey, and labels as int64. NumPy reads them, and Broadside does as the data set npy.`,
		"  broadside data export fashion-mnist-small --npy arrays\n  broadside data export cifar10 --path /data/cifar-10-batches-bin --npy arrays --train-limit 1000",
		func(cmd *cobra.Command, name string) error { return f.export(cmd, name, dir) })
	f.add(cmd)
	cmd.Flags().StringVar(&dir, "npy", "", "folder to write the arrays to (required)")
	return cmd
}

func (f *dataFlags) export(cmd *cobra.Command, name, dir string) error {
	if dir == "" {
		return usageError{errors.New("name the folder for the arrays with --npy DIR"), cmd.CommandPath()}
	}
	pair, err := f.open(name)
	if err != nil {
		return err
	}
	if err := pair.WriteNPY(dir); err != nil {
		return fmt.Errorf("exporting to %s: %w", dir, err)
	}
	pixels := int64(len(pair.Train.Images)) + int64(len(pair.Test.Images))
	return f.written(cmd.OutOrStdout(), dir, pixels+8*int64(pair.Train.Len()+pair.Test.Len()), pair)
}
