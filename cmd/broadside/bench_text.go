package main

import (
	"fmt"
	"io"

	"broadside/engine/bench"
)

func printSetting(w io.Writer, e bench.Environment, s bench.Setting) {
	fmt.Fprintf(w, "%s, %d samples of %s, leaf %d, %s; %s, %d cores, %s\n", s.Model, s.Batch, s.Image, s.Leaf, s.Precision, e.CPU, e.Cores, e.Kernels)
}

func printLimits(w io.Writer, l bench.Limits) {
	if l.F32One == 0 {
		fmt.Fprintln(w, "no limits are measured for GPUs")
		return
	}
	fmt.Fprintf(w, "limits measured: %.1f GFLOP/s f32 on one core, %.1f on all; ", l.F32One, l.F32All)
	if l.BF16One > 0 {
		fmt.Fprintf(w, "%.1f bf16 on one core, %.1f on all; ", l.BF16One, l.BF16All)
	}
	fmt.Fprintf(w, "memory %.1f GB/s for one core, %.1f for all\n", l.StreamOne, l.StreamAll)
}

func printStep(w io.Writer, r *bench.StepResult) error {
	printSetting(w, r.Environment, r.Setting)
	printLimits(w, r.Limits)
	fmt.Fprintln(w)
	err := table(w, "DEVICES\tIMAGES/S\tMIN\tMAX\tGFLOP/S\tOF PEAK", r.Runs, func(d bench.StepRun) string {
		return fmt.Sprintf("%d\t%.1f\t%.1f\t%.1f\t%.1f\t%s", d.Devices, d.ImagesPerSecond.Median, d.ImagesPerSecond.Min, d.ImagesPerSecond.Max, d.GFLOPS, unless0("%.1f%%", 100*d.PeakShare))
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(w)
	if s := r.Scaling; s != nil {
		fmt.Fprintf(w, "%d devices are %.2f times as fast as %d (%.2f to %.2f)\n", r.Runs[len(r.Runs)-1].Devices, s.Median, r.Runs[0].Devices, s.Min, s.Max)
	}
	if a := r.Attack; a != nil {
		fmt.Fprintf(w, "an FGSM attack on a leaf: %.1f ms, %.3f of forward and input gradient (%.3f to %.3f)\n", a.AttackMS.Median, a.Ratio.Median, a.Ratio.Min, a.Ratio.Max)
	}
	fmt.Fprintf(w, "an update: %.2f GFLOP; %.1f MB moved by its calls, %.1f MB by convolutions, linear layers, pooling and gathering alone\n",
		r.GFLOPPerImage*float64(r.Batch), r.BytesMoved/1e6, r.BytesLeast/1e6)
	fmt.Fprintf(w, "peak memory: %.1f MB\n\ntime of an update's calls, each alone on one device (a CPU's: of its processor):\n", float64(r.PeakMemoryBytes)/1e6)
	return table(w, "KERNEL\tCALLS\tMS\tOF ALL\tGFLOP/S\tGB/S", r.Breakdown, func(k bench.KernelTime) string {
		return fmt.Sprintf("%s\t%d\t%.2f\t%.1f%%\t%s\t%.1f", k.Kernel, k.Calls, k.MS, 100*k.Share, unless0("%.1f", k.GFLOPS), k.GBS)
	})
}

func printKernels(w io.Writer, r *bench.KernelsResult) error {
	printSetting(w, r.Environment, r.Setting)
	printLimits(w, r.Limits)
	fmt.Fprintln(w)
	row := func(k bench.KernelRate) string {
		return fmt.Sprintf("%s\t%s\t%d\t%.3f\t%s\t%s\t%.1f\t%s", k.Kernel, k.Shape, k.Calls, k.MS, unless0("%.1f", k.GFLOPS), unless0("%.0f%%", 100*k.PeakShare), k.GBS, unless0("%.0f%%", 100*k.StreamShare))
	}
	if err := table(w, "KERNEL\tSHAPE\tCALLS\tMS EACH\tGFLOP/S\tOF PEAK\tGB/S\tOF STREAM", r.Kernels, row); err != nil {
		return err
	}
	for _, k := range r.Windows {
		if k.PeakShare > 1 {
			fmt.Fprintln(w, "\nmultiply-adds are counted as the layer is defined: Winograd's convolutions need fewer, and so exceed the peak")
			break
		}
	}
	fmt.Fprintln(w)
	return table(w, "CONVOLUTIONS\tWINDOW\tCALLS\tMS IN ALL\tGFLOP/S\tOF PEAK", r.Windows, func(k bench.KernelRate) string {
		return fmt.Sprintf("%s\t%s\t%d\t%.2f\t%.1f\t%s", k.Kernel, k.Window, k.Calls, k.MS, k.GFLOPS, unless0("%.1f%%", 100*k.PeakShare))
	})
}

func printLayers(w io.Writer, r *bench.LayersResult) error {
	fmt.Fprintf(w, "%s, %d samples of %s, ghosts of %d; %s\n", r.Model, r.Batch, r.Image, r.Ghost, r.Environment.Kernels)
	if len(r.PeakTFLOPS) > 0 {
		fmt.Fprintf(w, "NVIDIA's peaks: %.1f TFLOP/s f32, %.1f tf32, %.1f bf16; ", r.PeakTFLOPS["f32"], r.PeakTFLOPS["tf32"], r.PeakTFLOPS["bf16"])
	}
	fmt.Fprintf(w, "a copy: %.1f GB/s\n\n", r.CopyGBS.Median)
	err := table(w, "CONVOLUTION\tLAYERS\tPASS\tPRECISION\tMS\tTFLOP/S\tOF PEAK\tMB\tGB/S", r.Convolutions, func(c bench.ConvRate) string {
		return fmt.Sprintf("%s\t%d\t%s\t%s\t%.4f\t%.3g\t%s\t%.1f\t%.1f", c.Layer, c.Count, c.Pass, c.Precision, c.MS.Median, c.TFLOPS,
			unless0("%.1f%%", 100*c.PeakShare), c.Bytes/1e6, c.GBS)
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := table(w, "BATCH NORM\tLAYERS\tPASS\tMS\tMB\tGB/S\tOF COPY\tREAD TWICE", r.Norms, func(n bench.NormRate) string {
		return fmt.Sprintf("%s\t%d\t%s\t%.4f\t%.1f\t%.1f\t%.1f%%\t%.1f%%", n.Layer, n.Count, n.Pass, n.MS.Median, n.Bytes/1e6, n.GBS, 100*n.CopyShare, 100*n.ReadTwiceShare)
	}); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, "\nMB and GB/s count every argument once; READ TWICE counts twice what the sums of a batch norm read, as it must be\nread where a ghost is larger than the cache.")
	return err
}

func printHVP(w io.Writer, r *bench.HVPResult) error {
	printSetting(w, r.Environment, r.Setting)
	note := ""
	if !r.Reused {
		note = ", primal pass included: a device has several leaves"
	}
	_, err := fmt.Fprintf(w, "on %d devices, batch normalisation in %s mode\nproduct: %.1f ms (%.1f to %.1f)%s\ngradient: %.1f ms (%.1f to %.1f)\nratio: %.2f (%.2f to %.2f)\n",
		r.Devices, r.BatchNorm, r.ProductMS.Median, r.ProductMS.Min, r.ProductMS.Max, note,
		r.GradientMS.Median, r.GradientMS.Min, r.GradientMS.Max, r.Ratio.Median, r.Ratio.Min, r.Ratio.Max)
	return err
}

// unless0 formats a number, or a dash where there is none.
func unless0(format string, v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func printAllReduce(w io.Writer, r *bench.AllReduceResult) error {
	fmt.Fprintf(w, "%s between %d memories; %s, %d cores, %s\n\n", r.Op, r.Ranks, r.Environment.CPU, r.Environment.Cores, r.Environment.Kernels)
	return table(w, "WAY\tBYTES\tUS\tMIN\tMAX\tALGORITHM GB/S\tBUS GB/S", r.Rates, func(c bench.CollectiveRate) string {
		return fmt.Sprintf("%s\t%d\t%.1f\t%.1f\t%.1f\t%.3f\t%.3f", c.Way, c.Bytes, c.Microseconds.Median, c.Microseconds.Min, c.Microseconds.Max, c.AlgorithmGBS, c.BusGBS)
	})
}
