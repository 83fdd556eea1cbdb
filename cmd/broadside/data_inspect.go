package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"broadside/engine/data"
	"broadside/engine/data/sheet"
)

// mostListed is how many classes are listed one by one.
const mostListed = 100

func newDataInspect() *cobra.Command {
	var f dataFlags
	var png string
	cmd := dataCommand("inspect NAME", "Show what a data set holds",
		`Show the shape of a data set, its classes with the number of their images, and mean and standard deviation of its pixels,
scaled to [0, 1], beside the constants that data.normalize: dataset uses. --png draws a contact sheet of the training set.`,
		"  broadside data inspect fashion-mnist-small --png sheet.png\n  broadside data inspect cifar10 --path /data/cifar-10-batches-bin --json",
		func(cmd *cobra.Command, name string) error { return f.inspect(cmd, name, png) })
	f.add(cmd)
	cmd.Flags().StringVar(&png, "png", "", "file to draw a contact sheet to: the first images of every class")
	return cmd
}

// inspected describes a pair.
type inspected struct {
	Name       string         `json:"name"`
	Height     int            `json:"height"`
	Width      int            `json:"width"`
	Channels   int            `json:"channels"`
	Classes    int            `json:"classes"`
	ClassNames []string       `json:"class_names,omitempty"`
	Mean       []float32      `json:"mean"` // the constants
	Std        []float32      `json:"std"`
	Sets       []inspectedSet `json:"sets"`
}

// inspectedSet describes one of its sets, as measured.
type inspectedSet struct {
	Name   string    `json:"name"`
	Images int       `json:"images"`
	Counts []int     `json:"class_counts"`
	Mean   []float64 `json:"mean"`
	Std    []float64 `json:"std"`
}

func inspectPair(name string, p *data.Pair) inspected {
	a := p.Train
	out := inspected{Name: name, Height: a.H, Width: a.W, Channels: a.C, Classes: a.Classes, ClassNames: a.ClassNames, Mean: a.Mean, Std: a.Std}
	for _, s := range []*data.Set{p.Train, p.Test} {
		mean, std := s.Moments()
		out.Sets = append(out.Sets, inspectedSet{s.Name, s.Len(), s.ClassCounts(), mean, std})
	}
	return out
}

func (f *dataFlags) inspect(cmd *cobra.Command, name, png string) error {
	pair, err := f.open(name)
	if err != nil {
		return err
	}
	if png != "" {
		if err := sheet.Write(png, pair.Train); err != nil {
			return err
		}
	}
	in := inspectPair(name, pair)
	if f.json {
		return printJSON(cmd.OutOrStdout(), in)
	}
	return in.print(cmd.OutOrStdout())
}

func (in *inspected) print(w io.Writer) error {
	fmt.Fprintf(w, "%s: images of %dx%dx%d, %d classes\n\n", in.Name, in.Height, in.Width, in.Channels, in.Classes)
	err := table(w, "SET\tIMAGES\tMEAN\tSTANDARD DEVIATION", in.Sets, func(s inspectedSet) string {
		return fmt.Sprintf("%s\t%d\t%s\t%s", s.Name, s.Images, numbers(s.Mean), numbers(s.Std))
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "data.normalize: dataset uses mean %s and deviation %s\n\n", numbers(in.Mean), numbers(in.Std))
	if in.Classes > mostListed {
		for _, s := range in.Sets {
			fmt.Fprintf(w, "%s: %d to %d images of a class\n", s.Name, slices.Min(s.Counts), slices.Max(s.Counts))
		}
		return nil
	}
	classes := make([]int, in.Classes)
	for i := range classes {
		classes[i] = i
	}
	return table(w, "CLASS\tNAME\tTRAIN\tTEST", classes, func(y int) string {
		name := ""
		if in.ClassNames != nil {
			name = in.ClassNames[y]
		}
		return fmt.Sprintf("%d\t%s\t%d\t%d", y, name, in.Sets[0].Counts[y], in.Sets[1].Counts[y])
	})
}

// numbers writes one number for each channel.
func numbers[T float32 | float64](values []T) string {
	text := make([]string, len(values))
	for i, v := range values {
		text[i] = fmt.Sprintf("%.4f", v)
	}
	return strings.Join(text, " ")
}
