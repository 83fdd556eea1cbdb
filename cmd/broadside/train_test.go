package main

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"broadside/engine"
	"broadside/engine/checkpoint"
	"broadside/engine/curvature"
	"broadside/engine/telemetry"
)

// contract lists the keys that every summary has, whatever else it has.
var contract = []string{"test_accuracy", "best_test_accuracy", "test_loss", "updates", "samples_seen", "epochs",
	"final_batch", "hvps", "grad_passes", "wall_seconds", "images_per_second", "peak_memory_bytes"}

// decode reads JSON that must be the whole text.
func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	return v
}

// The built-in recipe, cut short, from training to the report.
func TestQuickstart(t *testing.T) {
	t.Chdir(t.TempDir())
	printed := must(t, "train", "quickstart", "--json", "--set", "data.train_limit=640", "--set", "data.test_limit=100",
		"--set", "train.epochs=2", "--set", "schedule.at=[1]", "--set", "checkpoint.every_updates=15")
	const dir = "runs/quickstart"
	for _, name := range []string{"recipe.yaml", "events.jsonl", "summary.json", "report.html", "checkpoints/step-000000015.safetensors"} {
		if info, err := os.Stat(dir + "/" + name); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	keys := decode[map[string]any](t, printed)
	for _, key := range contract {
		if _, ok := keys[key].(float64); !ok {
			t.Errorf("the summary's %s is %v; want a number", key, keys[key])
		}
	}
	if !reflect.DeepEqual(keys, decode[map[string]any](t, read(t, dir+"/summary.json"))) {
		t.Error("the printed summary is not that of summary.json")
	}
	summary := decode[telemetry.Summary](t, printed)
	if summary.Updates < 10 || summary.SamplesSeen != 1280 || summary.Epochs != 2 || summary.HVPs == 0 || summary.GradPasses <= 1280 {
		t.Errorf("the summary does not tell what was done: %+v", summary)
	}
	events, err := telemetry.ReadEvents(dir + "/events.jsonl")
	if err != nil || len(events) == 0 {
		t.Fatalf("%d events: %v", len(events), err)
	}
	for _, e := range events[1:] {
		if e.Record == nil && e.WallSeconds <= 0 {
			t.Errorf("event %s has no wall time", e.Type)
		}
	}
	t.Run("eval", func(t *testing.T) { evalAgrees(t, dir, summary) })
	t.Run("eval under attack", func(t *testing.T) { evalUnderAttack(t, dir, summary) })
	t.Run("report", func(t *testing.T) {
		before := read(t, dir+"/report.html")
		write(t, dir+"/report.html", "old")
		if out := must(t, "report", dir); out != dir+"/report.html\n" {
			t.Errorf("report printed %q", out)
		}
		if after := read(t, dir+"/report.html"); after != before {
			t.Error("the report written anew differs")
		}
	})
	t.Run("curvature", func(t *testing.T) { curvaturePrints(t, dir) })
	t.Run("trace, density, landscape", func(t *testing.T) { curvatureMeasuresAll(t, dir) })
}

// evalAgrees evaluates the run and its newest checkpoint file; both are the state of the summary.
func evalAgrees(t *testing.T, dir string, s telemetry.Summary) {
	found, err := checkpoint.Dir(dir + "/checkpoints").Latest()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, found.Path} {
		e := decode[engine.Evaluation](t, must(t, "eval", path, "--json", "--devices", "1"))
		if e.Accuracy != s.TestAccuracy || e.Loss != s.TestLoss || e.Samples != 100 || e.Accuracy != float64(e.Correct)/100 {
			t.Errorf("eval %s: %+v; the summary has accuracy %v and loss %v", path, e, s.TestAccuracy, s.TestLoss)
		}
	}
	e := decode[engine.Evaluation](t, must(t, "eval", dir, "--json", "--recalibrate"))
	if again := decode[engine.Evaluation](t, must(t, "eval", dir, "--json", "--recalibrate", "--devices", "1")); e != again || e.Loss == s.TestLoss || !(e.Loss > 0) {
		t.Errorf("recalibrated: %+v and %+v; the loss was %v", e, again, s.TestLoss)
	}
	if out := must(t, "eval", dir); !regexp.MustCompile(`^test accuracy \d+\.\d\d% \(\d+ of 100\), loss \d+\.\d+\n$`).MatchString(out) {
		t.Errorf("eval printed %q", out)
	}
}

// evalUnderAttack evaluates under attacks of growing strength; one that may not move a pixel changes nothing.
func evalUnderAttack(t *testing.T, dir string, s telemetry.Summary) {
	args := func(more ...string) []string { return append([]string{"eval", dir, "--json", "--attack"}, more...) }
	none := decode[engine.RobustEvaluation](t, must(t, args("pgd", "--eps", "0", "--steps", "2")...))
	if none.Accuracy != s.TestAccuracy || none.RobustAccuracy != s.TestAccuracy || none.RobustLoss != s.TestLoss || none.RobustCorrect != none.Correct {
		t.Errorf("eps 0: %+v; the summary has accuracy %v and loss %v", none, s.TestAccuracy, s.TestLoss)
	}
	fgsm := decode[engine.RobustEvaluation](t, must(t, args("fgsm", "--eps", "4/255")...))
	pgd := decode[engine.RobustEvaluation](t, must(t, args("pgd", "--eps", "4/255", "--steps", "10", "--start", "clean", "--devices", "1")...))
	if !(s.TestLoss < fgsm.RobustLoss && fgsm.RobustLoss < pgd.RobustLoss) || fgsm.Loss != s.TestLoss {
		t.Errorf("losses %g, %g under FGSM and %g under PGD: each must be larger", s.TestLoss, fgsm.RobustLoss, pgd.RobustLoss)
	}
	if want := (engine.AttackOptions{Name: "pgd", Eps: 4. / 255, Steps: 10, Step: 1. / 255, Seed: 1}); pgd.Attack != want {
		t.Errorf("attack %+v; want %+v", pgd.Attack, want)
	}
	starts := must(t, args("pgd", "--devices", "1")...)
	if again := must(t, args("pgd", "--devices", "3")...); again != starts {
		t.Errorf("another number of devices: %s, and %s", again, starts)
	}
	if other := must(t, args("pgd", "--attack-seed", "2")...); other == starts {
		t.Error("another seed begins alike")
	}
	out := must(t, "eval", dir, "--attack", "pgd", "--eps", "0.03")
	if !regexp.MustCompile(`^test accuracy .*\nunder pgd of 10 steps of 0.007500, eps 0.030000: \d+\.\d\d% \(\d+ of 100\), loss \d+\.\d+\n$`).MatchString(out) {
		t.Errorf("eval printed %q", out)
	}
}

func curvaturePrints(t *testing.T, dir string) {
	args := []string{"curvature", dir, "--samples", "32", "--iterations", "3", "--top", "2"}
	c := decode[curvature.Measurement](t, must(t, append(args, "--json")...))
	if c.Samples != 32 || c.BatchNorm != "eval" || len(c.Eigenvalues) != 2 || c.HVPs < 2 || c.Eigenvalues[0].Value == 0 {
		t.Errorf("curvature: %+v", c)
	}
	out := must(t, args...)
	for _, want := range []string{"over 32 training samples", "eval mode", "eigenvalue 1: ", "eigenvalue 2: "} {
		if !strings.Contains(out, want) {
			t.Errorf("curvature printed %q; want %q in it", out, want)
		}
	}
	if ghost := decode[curvature.Measurement](t, must(t, append(args, "--json", "--bn", "ghost")...)); ghost.BatchNorm != "ghost" ||
		reflect.DeepEqual(ghost.Eigenvalues, c.Eigenvalues) {
		t.Errorf("curvature in ghost mode: %+v", ghost)
	}
}

// curvatureMeasuresAll asks for the trace, the density with its curve, and the landscape.
func curvatureMeasuresAll(t *testing.T, dir string) {
	args := []string{"curvature", dir, "--samples", "32", "--iterations", "3", "--trace", "--probes", "4", "--trace-tolerance", "0",
		"--density", "--lanczos-steps", "5", "--starts", "2", "--landscape", "--points", "3"}
	tables := filepath.Join(t.TempDir(), "tables")
	out := must(t, append(args, "--json", "--csv", tables)...)
	c := decode[curvature.Measurement](t, out)
	if kept := read(t, dir+"/curvature.json"); !reflect.DeepEqual(decode[curvature.Measurement](t, kept), c) {
		t.Errorf("the run keeps %s", kept)
	}
	if len(c.Trace.Samples) != 4 || c.Trace.StandardError <= 0 || len(c.Density.Runs) != 2 || len(c.Density.Runs[1].Nodes) != 5 ||
		len(c.Landscape.Offsets) != 3 || len(c.Landscape.Losses) != 1 || c.HVPs != 3+4+10 {
		t.Errorf("curvature: %+v", c)
	}
	for _, key := range []string{`"trace"`, `"standard_error"`, `"samples"`, `"density"`, `"nodes"`, `"weights"`, `"landscape"`, `"offsets"`, `"losses"`, `"parameters"`} {
		if !strings.Contains(out, key) {
			t.Errorf("no key %s", key)
		}
	}
	for name, want := range map[string]int{"eigenvalues": 2, "trace": 2, "density": 10001, "quadrature": 11, "landscape": 4} {
		if lines := strings.Count(read(t, tables+"/"+name+".csv"), "\n"); lines != want {
			t.Errorf("%s.csv has %d lines; want %d", name, lines, want)
		}
	}
	flat := must(t, append(args, "--dimensions", "1")...)
	for _, want := range []string{"eigenvalue 1: ", "trace: ", " from 4 probes\n", "density: eigenvalues from ", "loss by offset along eigenvector 1:\n    -0.5  "} {
		if !strings.Contains(flat, want) {
			t.Errorf("curvature printed %q; want %q in it", flat, want)
		}
	}
	if plane := must(t, append(args, "--dimensions", "2")...); !strings.Contains(plane, "eigenvalue 2: ") ||
		!regexp.MustCompile(`\n    -0\.5( +\d+\.\d{5}){3}\n       0( +\d+\.\d{5}){3}\n     0\.5( +\d+\.\d{5}){3}\n$`).MatchString(plane) {
		t.Errorf("curvature printed %q", plane)
	}
}

func TestTrainPrintsTheResult(t *testing.T) {
	tinyFolder(t)
	out := must(t, "train", "tiny.yaml", "--run", "r")
	if !regexp.MustCompile(`^test accuracy \d+\.\d\d% \(best \d+\.\d\d%\) after 18 updates, 288 samples, 0 Hessian-vector products; final batch 16; \d+ s\nreport: r/report.html\n$`).MatchString(out) {
		t.Errorf("train printed %q", out)
	}
}

// Without a terminal, progress is log lines: one for the start, each epoch and the end.
func TestTrainLogs(t *testing.T) {
	tinyFolder(t)
	r := broadside("train", "tiny.yaml", "--run", "r")
	var kinds []string
	for line := range strings.Lines(r.errors) {
		match := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INF (\w+) [a-z_]+=`).FindStringSubmatch(line)
		if match == nil {
			t.Fatalf("not a log line: %q", line)
		}
		kinds = append(kinds, match[1])
	}
	if want := []string{"start", "epoch", "epoch", "epoch", "end"}; !slices.Equal(kinds, want) {
		t.Errorf("the log has %v; want %v", kinds, want)
	}
	if strings.Contains(r.errors, "\x1b") || strings.Contains(r.errors, "\r") {
		t.Error("the log has control characters")
	}
}

// canceller is a stderr that cancels when a text is written to it.
type canceller struct {
	bytes.Buffer
	on     string
	cancel context.CancelFunc
}

func (c *canceller) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(c.on)) {
		c.cancel()
	}
	return c.Buffer.Write(p)
}

// interrupted trains the tiny recipe until the end of its first epoch and the update after that.
func interrupted(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var out bytes.Buffer
	log := &canceller{on: " INF epoch ", cancel: cancel}
	if status := run(ctx, []string{"train", "tiny.yaml", "--run", dir}, &out, log); status != exitInterrupted || out.Len() > 0 {
		t.Fatalf("status %d, stdout %q", status, out.String())
	}
	if want := "broadside: interrupted; stopped after update 7 with a checkpoint, go on with --resume"; !strings.Contains(log.String(), want) {
		t.Fatalf("stderr %q; want %q in it", log.String(), want)
	}
	if _, err := os.Stat(dir + "/summary.json"); err == nil {
		t.Fatal("an interrupted run has a summary")
	}
}

// sameEnd fails unless two runs ended with the same tensors.
func sameEnd(t *testing.T, a, b string) {
	t.Helper()
	const last = "/checkpoints/step-000000018.safetensors"
	x, err := checkpoint.Read(a + last)
	if err != nil {
		t.Fatal(err)
	}
	y, err := checkpoint.Read(b + last)
	if err != nil {
		t.Fatal(err)
	}
	names := slices.Sorted(maps.Keys(x.Tensors))
	if !slices.Equal(names, slices.Sorted(maps.Keys(y.Tensors))) || len(names) == 0 {
		t.Fatalf("%s and %s have other tensors", a, b)
	}
	for _, name := range names {
		if !reflect.DeepEqual(x.Tensors[name].Data(), y.Tensors[name].Data()) {
			t.Errorf("%s and %s differ in %s", a, b, name)
		}
	}
}

func TestResume(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "whole")
	interrupted(t, "half")
	if out := must(t, "report", "half"); out != "half/report.html\n" {
		t.Errorf("the report of an unfinished run: %q", out)
	}
	r := broadside("train", "--run", "half", "--resume", "--devices", "1")
	if r.status != 0 || !strings.Contains(r.errors, "INF resume") {
		t.Fatalf("status %d, %s", r.status, r.errors)
	}
	sameEnd(t, "whole", "half")

	// A run that has ended may be resumed: there is nothing left to do.
	before := metaOf(t, "half/checkpoints/step-000000018.safetensors")
	must(t, "train", "tiny.yaml", "--run", "half", "--resume")
	sameEnd(t, "whole", "half")
	if after := metaOf(t, "half/checkpoints/step-000000018.safetensors"); !maps.Equal(before, after) {
		t.Errorf("resuming an ended run changed its last checkpoint: %v, before %v", after, before)
	}
}

// metaOf is what a checkpoint says beside its tensors, but for the time that the run took.
func metaOf(t *testing.T, path string) map[string]string {
	t.Helper()
	c, err := checkpoint.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	seconds := regexp.MustCompile(`"wall_seconds":[^,}]*`)
	for key, value := range c.Meta {
		c.Meta[key] = seconds.ReplaceAllString(value, "")
	}
	return c.Meta
}

// A damaged checkpoint is passed over, with a warning, and does not outlive the good ones.
func TestResumeFromTheCheckpointBefore(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "whole")
	interrupted(t, "half")
	flip(t, "half/checkpoints/step-000000007.safetensors")

	r := broadside("eval", "half")
	if r.status != 0 || !strings.HasPrefix(r.errors, "broadside: warning: skipped a checkpoint that cannot be used: ") || strings.Count(r.errors, "\n") != 1 {
		t.Errorf("eval: status %d, %s", r.status, r.errors)
	}
	r = broadside("train", "tiny.yaml", "--run", "half", "--resume", "--set", "checkpoint.every_updates=0", "--set", "checkpoint.keep=1")
	if r.status != 0 || !strings.Contains(r.errors, "updates=4") || !strings.Contains(r.errors, "skipped a checkpoint that cannot be used") ||
		!strings.Contains(r.errors, "step-000000007.safetensors") {
		t.Fatalf("resume: status %d, %s", r.status, r.errors)
	}
	sameEnd(t, "whole", "half")
	if _, err := os.Stat("half/checkpoints/step-000000007.safetensors.unusable"); err != nil {
		t.Errorf("the damaged checkpoint was not set aside: %v", err)
	}
}

// A run whose loss is no longer a number stops, says why and keeps the checkpoints from before.
func TestDivergedRun(t *testing.T) {
	tinyFolder(t)
	r := broadside("train", "tiny.yaml", "--run", "r", "--set", "optimizer.lr=1.0e+30", "--set", "checkpoint.every_updates=1")
	lines := strings.Split(strings.TrimSpace(r.errors), "\n")
	last := lines[len(lines)-1]
	if r.status != exitFailure || r.out != "" || !strings.HasPrefix(last, "broadside: epoch 1, update ") ||
		!strings.Contains(last, "training has diverged; a lower optimizer.lr") {
		t.Errorf("status %d, %s", r.status, r.errors)
	}
	if _, err := checkpoint.Dir("r/checkpoints").Latest(); err != nil {
		t.Errorf("no checkpoint is left: %v", err)
	}
	r = broadside("eval", "r", "--json")
	if r.status != exitFailure || !strings.Contains(r.errors, "has diverged") || strings.Count(r.errors, "\n") != 1 {
		t.Errorf("eval of a diverged network: status %d, %s", r.status, r.errors)
	}
}
