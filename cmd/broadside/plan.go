package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"broadside/engine"
)

// printPlan prints what a dry run has found.
func printPlan(w io.Writer, p *engine.Plan) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(what, format string, args ...any) { fmt.Fprintf(tw, what+"\t"+format+"\n", args...) }
	line("recipe", "%s", p.Name)
	line("directory", "%s", p.RunDir)
	line("model", "%s: %d parameters, input %s, %d classes", p.Model, p.Parameters, p.Input, p.Classes)
	line("data", "%s: %d training and %d test samples", p.Data, p.TrainSamples, p.TestSamples)
	if len(p.Methods) > 0 {
		line("methods", "%s", strings.Join(p.Methods, ", "))
	}
	line("batch", "%d samples, %s of %d, ghosts of %d, dealt to %d lanes", p.Batch, plural(p.LeavesPerUpdate, "leaf", "leaves"), p.Leaf, p.Ghost, p.Lanes)
	line("devices", "%d of %s, %s", p.Devices, p.Device, plural(p.Memories, "memory", "memories"))
	for _, m := range p.Memory {
		line("memory", "%s on %s: %s of %s each, %s shared for gradients, optimizer and statistics, %s of network, %s of data", size(m.TotalBytes), m.Name,
			plural(m.Leaves, "leaf", "leaves"), size(m.LeafBytes), size(m.SharedBytes), size(m.ModelBytes), size(m.DataBytes))
	}
	done := ""
	if p.EpochsDone > 0 {
		done = fmt.Sprintf(", of which %.2f are done", p.EpochsDone)
	}
	line("length", "%d epochs of %.4g updates%s: %d updates while the batch stays", p.Epochs, p.UpdatesPerEpoch, done, p.UpdatesLeft)
	line("speed", "%.3g s an update, %.0f images/s, by the second of two; %.3g s an evaluation", p.StepSeconds, p.ImagesPerSecond, p.EvalSeconds)
	line("time", "about %v", roughly(p.SecondsLeft))
	for _, u := range p.Uncertain {
		line("", "not in it: %s", u)
	}
	return tw.Flush()
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// size writes bytes for people.
func size(bytes int64) string {
	switch {
	case bytes < 1e6:
		return fmt.Sprintf("%.1f KB", float64(bytes)/1e3)
	case bytes < 1e9:
		return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(bytes)/1e9)
}

// roughly rounds a time to what an estimate is worth.
func roughly(seconds float64) time.Duration {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d > time.Hour:
		return d.Round(time.Minute)
	case d > 10*time.Second:
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}
