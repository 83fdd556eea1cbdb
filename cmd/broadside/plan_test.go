package main

import (
	"regexp"
	"strings"
	"testing"

	"broadside/engine"
	"broadside/engine/telemetry"
)

// A dry run tells what the run then takes, and leaves nothing behind.
func TestDryRun(t *testing.T) {
	tinyFolder(t)
	for _, set := range []string{"train.seed=1", "batch={size: 48, leaf: 16}", "batch={size: 32, leaf: 16, drop_last: true}", "batch={size: 64, leaf: 16}"} {
		args := []string{"train", "tiny.yaml", "--run", "r", "--json", "--set", set}
		before := contents(t)
		p := decode[engine.Plan](t, must(t, append(args, "--dry-run")...))
		if after := contents(t); after != before {
			t.Errorf("the dry run changed files: %s", after)
		}
		s := decode[telemetry.Summary](t, must(t, append(args, "--run", "r"+strings.Map(letters, set))...))
		if p.UpdatesLeft != s.Updates || p.Epochs != s.Epochs || p.Batch != s.FinalBatch || p.Device != s.Device || p.Devices != s.Devices || p.EpochsDone != 0 {
			t.Errorf("%s: the plan is %+v; the run was %+v", set, p, s)
		}
		if !(p.StepSeconds > 0) || !(p.SecondsLeft > float64(p.UpdatesLeft-1)*p.StepSeconds) || !(p.ImagesPerSecond > 0) || len(p.Uncertain) != 1 {
			t.Errorf("%s: the plan is %+v", set, p)
		}
		if m := p.Memory[0]; m.TotalBytes != int64(m.Leaves)*m.LeafBytes+m.SharedBytes+m.ModelBytes+m.DataBytes || m.LeafBytes == 0 || m.DataBytes < (tinyTrain+tinyTest)*68 {
			t.Errorf("%s: the memory is %+v", set, m)
		}
	}
}

func letters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// A dry run says in words what it cannot know.
func TestDryRunPrints(t *testing.T) {
	tinyFolder(t)
	r := broadside("train", "tiny.yaml", "--dry-run", "--set", "methods=[absa: {max_batch: 64, probe_samples: 32}, swap: {epochs: 2, workers: 3, batch: 32}]")
	want := `^recipe +tiny\ndirectory +runs/tiny\nmodel +resnet8: \d+ parameters, input 8x8x1, 10 classes\ndata +mnist: 96 training and 20 test samples\nmethods +absa, swap\n` +
		`batch +16 samples, 1 leaf of 16, ghosts of 8, dealt to 8 lanes\ndevices +\d+ of cpu .*, 1 memory\nmemory +\d+\.\d [KM]B on cpu .*\n` +
		`length +9 epochs of 6 updates: 54 updates while the batch stays\nspeed .*\ntime +about .*\n +not in it: absa: larger batches .*\n +not in it: swap: its copies.*\n +not in it: what else .*\n$`
	if r.status != 0 || !regexp.MustCompile(want).MatchString(r.out) || r.errors != "" {
		t.Errorf("status %d, %s\n%s", r.status, r.errors, r.out)
	}
	if strings.Contains(contents(t), "runs") {
		t.Error("a run directory was made")
	}
}

// Of a run that was stopped, what is left is told; its directory stays as it is.
func TestDryRunOfAResume(t *testing.T) {
	tinyFolder(t)
	interrupted(t, "half")
	flip(t, "half/checkpoints/step-000000007.safetensors") // a resume would set it aside
	before := contents(t)
	p := decode[engine.Plan](t, must(t, "train", "--run", "half", "--resume", "--dry-run", "--json"))
	if p.UpdatesLeft != 18-4 || p.EpochsDone != 4./6 {
		t.Errorf("the plan is %+v", p)
	}
	if contents(t) != before {
		t.Error("the dry run changed files")
	}
}

func TestDryRunMistakes(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r", "--set", "train.epochs=1", "--set", "schedule={name: constant, at: []}")
	refused(t, []mistake{
		{"holds a run", "train tiny.yaml --run r --dry-run", exitFailure, []string{"r already holds a run"}},
		{"nothing to resume", "train tiny.yaml --run none --resume --dry-run", exitFailure, []string{"none holds no run to resume"}},
		{"batch larger than the run", "train tiny.yaml --run new --dry-run --set batch.size=304", exitFailure, []string{"batch.size 304"}},
		{"data", "train tiny.yaml --run new --dry-run --set data.path=none", exitFailure, []string{"none"}},
		{"of seeds", "train tiny.yaml --seeds 1,2 --dry-run", exitUsage, []string{"--dry-run is of one run"}},
	})
	r := broadside("train", "tiny.yaml", "--run", "new", "--dry-run", "--set", "optimizer.lr=1.0e+30", "--set", "model.name=c1")
	if r.status != exitFailure || !strings.Contains(r.errors, "diverged") || strings.Contains(contents(t), "new") {
		t.Errorf("a rate that diverges at once: status %d, %s", r.status, r.errors)
	}
}
