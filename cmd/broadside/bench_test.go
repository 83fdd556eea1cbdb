package main

import (
	"math"
	"strings"
	"testing"

	cgocpu "broadside/cgo/cpu"
	"broadside/cgo/device/devicetest"
	"broadside/engine/bench"
)

func TestBenchMistakes(t *testing.T) {
	t.Chdir(t.TempDir())
	isa := lastISA()
	refused(t, []mistake{
		{"unknown benchmark", "bench stpe", exitUsage, []string{"unknown command", "stpe", "did you mean step?", "broadside bench --help"}},
		{"unknown flag", "bench step --batsh 3", exitUsage, []string{"--batsh", "did you mean --batch?"}},
		{"odd devices", "bench step --devices 1;2", exitUsage, []string{"--devices", "1;2", "whole numbers"}},
		{"odd time", "bench step --time 4", exitUsage, []string{"--time", "a time, as in 4s"}},
		{"no time", "bench hvp --time 0s", exitUsage, []string{"--time 0s", "above 0"}},
		{"no rounds", "bench step --rounds 0", exitUsage, []string{"--rounds 0", "at least 1"}},
		{"no batch", "bench step --batch 0", exitUsage, []string{"--batch 0", "at least 1"}},
		{"no samples", "bench hvp --samples 0", exitUsage, []string{"--samples 0", "at least 1"}},
		{"JSON twice", "bench hvp --json --stream", exitUsage, []string{"--json", "--stream", "one of them"}},
		{"negative leaf", "bench kernels --leaf -1", exitUsage, []string{"--leaf -1", "at least 0"}},
		{"batch of kernels on a CPU", "bench kernels --device cpu --batch 4", exitUsage, []string{"--batch", "--leaf for a CPU"}},
		{"negative devices", "bench step --devices 1,-2", exitUsage, []string{"--devices -2", "at least 0"}},
		{"odd batch normalisation", "bench hvp --bn x", exitUsage, []string{"--bn", "eval or ghost"}},
		{"too many devices", "bench step --devices 99", exitFailure, []string{"99 devices", "batch.lanes, 8"}},
		{"model", "bench step --model resnet2o", exitFailure, []string{"resnet2o", "did you mean resnet20?"}},
		{"model of kernels", "bench kernels --shapes c3", exitFailure, []string{"c3", "did you mean c"}},
		{"depth", "bench hvp --model resnet21", exitFailure, []string{"resnet21", "6n+2"}},
		{"instruction set", "bench kernels --isa " + isa + "x", exitFailure, []string{"instruction set", isa + "x", "did you mean " + isa + "?"}},
		{"instruction set without a neighbour", "bench kernels --isa mmx", exitFailure, []string{"mmx", isa}},
		{"precision", "bench step --precision f16", exitFailure, []string{"precision", "f16", "f32"}},
		{"batch no multiple of leaf", "bench step --batch 24 --leaf 16", exitFailure, []string{"batch.size 24", "batch.leaf 16"}},
		{"way", "bench allreduce --ways tre", exitFailure, []string{"all-reduce", "did you mean tree?"}},
		{"collective", "bench allreduce --op all-gatherr", exitFailure, []string{"did you mean all-gather?"}},
		{"sizes", "bench allreduce --min-bytes 2048 --max-bytes 1024", exitUsage, []string{"--min-bytes 2048", "in order"}},
		{"three memories", "bench allreduce --devices 3", exitFailure, []string{"3 memories", "power of two"}},
		{"one memory", "bench allreduce --device cpu:0,0", exitFailure, []string{"share the memory"}},
		{"images too small", "bench step --model c2 --image 8", exitFailure, []string{"c2", "8x8x3"}},
	})
}

const tinyBench = " --image 8 --time 1ms --rounds 2"

func TestBenchStep(t *testing.T) {
	t.Chdir(t.TempDir())
	args := strings.Fields("bench step --model resnet8 --batch 8 --leaf 4 --devices 1,2 --attack" + tinyBench)
	r := decode[bench.StepResult](t, must(t, append(args, "--json")...))
	environment(t, r.Environment)
	limits(t, r.Limits)
	setting := bench.Setting{Model: "resnet8", Batch: 8, Leaf: 4, Ghost: 4, Image: "8x8x3", Classes: 10, Precision: "f32", Rounds: 2}
	if r.Setting != setting {
		t.Errorf("setting %+v, want %+v", r.Setting, setting)
	}
	if len(r.Runs) != 2 || r.Runs[0].Devices != 1 || r.Runs[1].Devices != 2 || r.Scaling == nil || r.Attack == nil {
		t.Fatalf("runs %+v, scaling %v, attack %v", r.Runs, r.Scaling, r.Attack)
	}
	for _, run := range r.Runs {
		ordered(t, "images/s", run.ImagesPerSecond)
		positive(t, "rates", run.GFLOPS, run.PeakShare)
	}
	ordered(t, "scaling", *r.Scaling)
	ordered(t, "attack", r.Attack.AttackMS)
	ordered(t, "gradient", r.Attack.GradientMS)
	ordered(t, "attack over gradient", r.Attack.Ratio)
	// Multiply-adds of ResNet-8 on 8x8x3: 27,648 in the stem, 294,912 in the first stage, 229,376 in each of
	// the others, 640 in the last layer. The stem has no input gradient.
	const forward = 27648 + 294912 + 2*229376 + 640
	if got, want := r.GFLOPPerImage*1e9, 2.0*(3*forward-27648); got < 0.999999*want || got > 1.000001*want {
		t.Errorf("%g operations per image, want %g", got, want)
	}
	positive(t, "bytes", r.BytesLeast, r.BytesMoved-r.BytesLeast)
	share := 0.0
	for _, k := range r.Breakdown {
		positive(t, k.Kernel, float64(k.Calls), k.MS, k.Share, k.GBS)
		if (k.GFLOPS > 0) != strings.HasPrefix(k.Kernel, "conv2d") {
			t.Errorf("%s has %g GFLOP/s", k.Kernel, k.GFLOPS)
		}
		share += k.Share
	}
	if share < 0.999 || share > 1.001 {
		t.Errorf("the breakdown adds up to %g", share)
	}
	lines := streamed[bench.StepResult](t, args)
	for _, l := range lines[:2] { // after each round
		if len(l.Runs) != 2 || l.Setting != setting || l.Breakdown != nil {
			t.Errorf("printed on the way: %+v", l)
		}
		ordered(t, "images/s", l.Runs[1].ImagesPerSecond)
	}
	if last := lines[2]; len(lines) != 3 || last.Scaling == nil || last.Attack == nil || len(last.Breakdown) != len(r.Breakdown) {
		t.Errorf("%d lines, the last of them %+v", len(lines), last)
	}
	if text := must(t, args...); !strings.Contains(text, "IMAGES/S") || !strings.Contains(text, "conv2d_backward_weight") || !strings.Contains(text, "FGSM") {
		t.Errorf("printed %q", text)
	}
}

func TestBenchKernels(t *testing.T) {
	t.Chdir(t.TempDir())
	isa := lastISA()
	args := strings.Fields("bench kernels --shapes resnet8 --leaf 4 --isa " + isa + tinyBench)
	r := decode[bench.KernelsResult](t, must(t, append(args, "--json")...))
	environment(t, r.Environment)
	limits(t, r.Limits)
	if r.Environment.Kernels != "cpu ("+isa+")" || r.Limits.ISA != isa || r.Leaf != 4 || r.Batch != 4 {
		t.Errorf("measured %+v, %+v", r.Environment, r.Setting)
	}
	calls := map[string]int{}
	for _, k := range r.Kernels {
		positive(t, k.Kernel+" "+k.Shape, float64(k.Calls), k.MS, k.GBS, k.StreamShare)
		if k.Window != "" {
			positive(t, k.Kernel+" "+k.Shape, k.GFLOPS, k.PeakShare)
		}
		calls[k.Kernel] += k.Calls
	}
	if calls["conv2d_forward"] != 10 || calls["batchnorm_backward"] != 9 || calls["avgpool_forward"] != 1 || calls["sgd"] != 0 {
		t.Errorf("calls %v", calls)
	}
	calls = map[string]int{}
	for _, k := range r.Windows {
		positive(t, k.Window, k.GFLOPS, k.PeakShare)
		calls[k.Kernel+" "+k.Window] = k.Calls
	}
	if calls["conv2d 3x3"] != 20 || calls["conv2d_forward 3x3"] != 7 || calls["conv2d_backward_input 3x3"] != 6 {
		t.Errorf("windows %v", calls)
	}
	if lines := streamed[bench.KernelsResult](t, args); len(lines) != 1 || len(lines[0].Kernels) != len(r.Kernels) {
		t.Errorf("printed %+v", lines)
	}
	if text := must(t, args...); !strings.Contains(text, "4 of 8x8x3 to 8x8x16, 3x3") {
		t.Errorf("printed %q", text)
	}
}

// On a GPU, which may be emulated, the layers are timed one by one.
func TestBenchKernelsOnGPU(t *testing.T) {
	if !devicetest.OnGPU() {
		t.Skip("no GPU to test on (make test-cuda emulates one)")
	}
	t.Chdir(t.TempDir())
	args := strings.Fields("bench kernels --device cuda --shapes resnet8 --batch 2" + tinyBench)
	r := decode[bench.LayersResult](t, must(t, append(args, "--json")...))
	if !strings.HasPrefix(r.Environment.Kernels, "cuda:0 (") || r.Batch != 2 || r.Precision != "f32,bf16,tf32" {
		t.Errorf("measured %+v, %+v", r.Environment, r.Setting)
	}
	ordered(t, "copy", r.CopyGBS)
	count := map[string]int{}
	for _, c := range r.Convolutions {
		ordered(t, c.Layer, c.MS)
		positive(t, c.Layer+" "+c.Pass, c.TFLOPS, c.GBS)
		count[c.Precision+" "+c.Pass] += c.Count
	}
	for _, n := range r.Norms {
		ordered(t, n.Layer, n.MS)
		positive(t, n.Layer+" "+n.Pass, n.CopyShare, n.ReadTwiceShare)
		count[n.Pass] += n.Count
	}
	if count["f32 forward"] != 9 || count["bf16 input gradient"] != 8 || count["bf16 weight gradient"] != 9 || count["backward"] != 9 {
		t.Errorf("layers %v", count)
	}
	lines := streamed[bench.ConvRate](t, args) // the machine and the setting, and then the layers
	if len(lines) != 1+len(r.Convolutions)+len(r.Norms) || lines[0].Layer != "" || lines[1].Layer != r.Convolutions[0].Layer {
		t.Errorf("%d lines, the first of them %+v", len(lines), lines[:2])
	}
	for _, l := range lines[1:] {
		ordered(t, l.Layer, l.MS)
	}
	if text := must(t, append(args, "--precision", "bf16")...); !strings.Contains(text, "8x8x3 to 8x8x16, 3x3") || strings.Contains(text, "weight gradient  f32") {
		t.Errorf("printed %q", text)
	}
	refused(t, []mistake{{"leaf on a GPU", "bench kernels --device cuda --leaf 4", exitUsage, []string{"--leaf", "--batch for a GPU"}}})
}

func TestBenchHVP(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		flags  string
		leaf   int
		bn     string
		reused bool
	}{
		{"--devices 2", 4, "eval", true},
		{"--devices 1 --bn ghost", 8, "ghost", true},
		{"--devices 2 --leaf 2", 2, "eval", false},
		{"--devices 3", 8, "eval", true},
	} {
		args := strings.Fields("bench hvp --model resnet8 --samples 8 " + c.flags + tinyBench)
		r := decode[bench.HVPResult](t, must(t, append(args, "--json")...))
		environment(t, r.Environment)
		if r.Batch != 8 || r.Leaf != c.leaf || r.BatchNorm != c.bn || r.Reused != c.reused {
			t.Errorf("%s: %+v", c.flags, r)
		}
		ordered(t, "product", r.ProductMS)
		ordered(t, "gradient", r.GradientMS)
		ordered(t, "ratio", r.Ratio)
		lines := streamed[bench.HVPResult](t, args)
		if len(lines) != 2 || lines[0].Setting != r.Setting {
			t.Errorf("%s printed %+v", c.flags, lines)
		}
		ordered(t, "ratio after a round", lines[0].Ratio)
		if text := must(t, args...); !strings.Contains(text, "product: ") || strings.Contains(text, "primal pass included") == c.reused {
			t.Errorf("%s printed %q", c.flags, text)
		}
	}
}

// streamed are the lines that a benchmark prints with --stream.
func streamed[T any](t *testing.T, args []string) (lines []T) {
	t.Helper()
	for line := range strings.Lines(must(t, append(args, "--stream")...)) {
		lines = append(lines, decode[T](t, line))
	}
	return lines
}

// lastISA is an instruction set of this processor, and not the one used by default if there are several.
func lastISA() string {
	all := cgocpu.Available()
	return all[len(all)-1]
}

func environment(t *testing.T, e bench.Environment) {
	t.Helper()
	if e.CPU == "" || e.Cores < 1 || !strings.HasPrefix(e.Kernels, "cpu (") || !strings.HasPrefix(e.Go, "go") || e.Broadside == "" || len(e.Date) < 20 || e.Platform == "" {
		t.Errorf("environment %+v", e)
	}
}

func limits(t *testing.T, l bench.Limits) {
	t.Helper()
	positive(t, "limits", l.F32One, l.F32All, l.StreamOne, l.StreamAll)
	if l.BF16One < 0 || l.ISA == "" {
		t.Errorf("limits %+v", l)
	}
}

func ordered(t *testing.T, what string, s bench.Spread) {
	t.Helper()
	if !(s.Min > 0 && s.Min <= s.Median && s.Median <= s.Max) {
		t.Errorf("%s: %+v", what, s)
	}
}

func positive(t *testing.T, what string, values ...float64) {
	t.Helper()
	for _, v := range values {
		if !(v > 0) {
			t.Errorf("%s: %v", what, values)
		}
	}
}

func TestBenchAllReduce(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, op := range bench.CollectiveOps() {
		args := strings.Fields("bench allreduce --devices 4 --min-bytes 1024 --max-bytes 4096 --time 1ms --rounds 2 --op " + op)
		r := decode[bench.AllReduceResult](t, must(t, append(args, "--json")...))
		environment(t, r.Environment)
		if r.Op != op || r.Ranks != 4 || len(r.Rates) != 4 {
			t.Fatalf("%+v", r)
		}
		factor := map[string]float64{"all-reduce": 1.5, "reduce-scatter": 0.75, "all-gather": 0.75, "broadcast": 1}[op]
		for i, c := range r.Rates {
			if want := []string{"tree", "tree", "ring", "ring"}[i]; c.Way != want || c.Bytes != []int64{1024, 4096}[i%2] || c.Exact != (want == "tree") {
				t.Errorf("%s: %+v", op, c)
			}
			ordered(t, "time", c.Microseconds)
			rate := float64(c.Bytes) / c.Microseconds.Median / 1e3
			if math.Abs(c.AlgorithmGBS/rate-1) > 1e-9 || math.Abs(c.BusGBS/rate/factor-1) > 1e-9 {
				t.Errorf("%s: bandwidths of %+v, want %g and %g times that", op, c, rate, factor)
			}
		}
		if text := must(t, args...); !strings.Contains(text, op+" between 4 memories") || !strings.Contains(text, "BUS GB/S") {
			t.Errorf("printed %q", text)
		}
	}
}
