package telemetry

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// clock is a time that only moves when told to.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func (c *clock) pass(d time.Duration) { c.t = c.t.Add(d) }

func stepAt(epoch int, fraction float64) Step {
	return Step{Epoch: epoch, Epochs: 10, EpochFraction: fraction, Updates: 7, Samples: 128, Batch: 256, LR: 0.1, Loss: 0.51234, Accuracy: 0.8125}
}

func newTestLive(width int) (*live, *bytes.Buffer, *clock) {
	var out bytes.Buffer
	c := &clock{noon}
	return newLive(&out, func() int { return width }, c.now), &out, c
}

func TestLiveLine(t *testing.T) {
	l, out, c := newTestLive(200)
	l.Event(Event{Type: TypeProbe, Eigenvalue: ptr(12.345)})
	l.Step(stepAt(2, 0.25))
	const first = "\r\x1b[Kepoch 3/10 [====            ]  loss 0.5123  acc 81.25%  batch 256  lr 0.1  eig 12.35"
	if out.String() != first {
		t.Errorf("got  %q\nwant %q", out.String(), first)
	}
	out.Reset()
	c.pass(2 * time.Second)
	l.Step(stepAt(2, 0.5)) // a quarter epoch in 2 s: 7.5 epochs take 60 s
	const second = "\r\x1b[Kepoch 3/10 [========        ]  loss 0.5123  acc 81.25%  batch 256  1m00s left  lr 0.1  64 img/s  eig 12.35"
	if out.String() != second {
		t.Errorf("got  %q\nwant %q", out.String(), second)
	}
	out.Reset()
	l.Close()
	l.Close()
	if out.String() != "\r\x1b[K" {
		t.Errorf("closing writes %q", out.String())
	}
}

// Probes and evaluation between epochs do not count as slow training.
func TestLiveSpeedIsThatOfTheEpoch(t *testing.T) {
	l, out, c := newTestLive(200)
	l.Step(stepAt(2, 0.5))
	c.pass(time.Hour)
	l.Epoch(sampleEpoch(3))
	out.Reset()
	c.pass(2 * time.Second)
	l.Step(stepAt(3, 0.5))
	if !strings.Contains(out.String(), "  64 img/s") {
		t.Errorf("got %q; want 64 img/s: 128 samples in 2 s", out.String())
	}
}

func TestLivePhase(t *testing.T) {
	l, out, _ := newTestLive(200)
	l.Event(Event{Type: TypePhase, Phase: "replica 2", Accuracy: ptr(0.9125)})
	if !strings.Contains(out.String(), "      end of replica 2: test accuracy 91.25%\n") {
		t.Errorf("got %q", out.String())
	}
}

func TestLiveEventsBeforeTheFirstEpoch(t *testing.T) {
	l, out, _ := newTestLive(200)
	l.Event(Event{Type: TypeResume, Updates: 10, Path: "step", Message: "skipped a checkpoint"})
	l.Event(Event{Type: TypeGrowth, Trigger: "eig", From: 128, To: 256})
	l.Epoch(sampleEpoch(1))
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 6 || lines[0] != "      resumed after 10 updates step" || lines[1] != "      skipped a checkpoint" ||
		!strings.HasPrefix(lines[2], "epoch ") || lines[3] != "      batch 128 -> 256 (eig)" {
		t.Errorf("got %q", lines)
	}
}

func TestLiveLineIsRateLimited(t *testing.T) {
	l, out, c := newTestLive(200)
	for range 1000 {
		l.Step(stepAt(1, 0.5))
		c.pass(time.Millisecond)
	}
	if n := strings.Count(out.String(), "\r"); n != 10 {
		t.Errorf("drawn %d times in a second, want 10", n)
	}
}

func TestLiveLineFitsTheTerminal(t *testing.T) {
	for width := range 120 {
		l, out, c := newTestLive(width)
		l.Step(stepAt(2, 0.25))
		c.pass(time.Second)
		l.Step(stepAt(2, 0.5))
		for _, line := range strings.Split(out.String(), "\r\x1b[K") {
			if len(line) > max(width-1, 0) {
				t.Errorf("width %d: %q is %d wide", width, line, len(line))
			}
		}
	}
}

func TestLiveLinesThatStay(t *testing.T) {
	l, out, _ := newTestLive(200)
	l.Step(stepAt(0, 0.5))
	e := sampleEpoch(1)
	l.Epoch(e)
	e.TestLoss, e.TestAccuracy, e.Eigenvalue = ptr(0.25), ptr(0.5), ptr(3)
	l.Epoch(e)
	l.Event(Event{Type: TypeGrowth, Trigger: "eig", From: 128, To: 256})
	l.Event(Event{Type: TypeResume, Updates: 10, Path: "step"})
	l.Event(Event{Type: TypeEnd, Message: "done"})
	l.Event(Event{Type: TypeCheckpoint})
	lines := strings.Split(out.String(), "\n")
	want := []string{
		"epoch   updates train loss train acc  test loss  test acc   batch        lr       eig   img/s",
		"    1        10     2.0000    50.00%          -         -     128       0.1         -     900",
		"    1        10     2.0000    50.00%     0.2500    50.00%     128       0.1         3     900",
		"      batch 128 -> 256 (eig)",
		"      resumed after 10 updates step",
		"      done",
		"",
	}
	if !strings.HasSuffix(lines[0], "\r\x1b[K"+want[0]) {
		t.Errorf("the live line is not removed before %q", lines[0])
	}
	lines[0] = want[0]
	if got := strings.Join(lines, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestLoggedProgress(t *testing.T) {
	var out bytes.Buffer
	p := NewLogProgress(zerolog.New(&out).Level(zerolog.InfoLevel))
	for range 100 {
		p.Step(stepAt(1, 0.5))
	}
	e := sampleEpoch(2)
	e.TestAccuracy, e.TestLoss, e.Eigenvalue, e.TrainLoss = ptr(0.123456789), ptr(0.5), ptr(2), math.NaN()
	p.Epoch(e)
	p.Event(Event{Type: TypeProbe, Eigenvalue: ptr(2)})
	p.Event(Event{Type: TypeCheckpoint, Path: "c"})
	p.Event(Event{Type: TypeGrowth, Epoch: 2, Updates: 20, Trigger: "duration", From: 128, To: 256})
	p.Event(Event{Type: TypePhase, Epoch: 2, Updates: 20, Phase: "average", Accuracy: ptr(0.75)})
	p.Event(Event{Type: TypeEnd, Message: "done", Path: "p"})
	p.Close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	want := []map[string]any{
		{"message": "epoch", "test_accuracy": 0.12346, "train_loss": "NaN", "eigenvalue": 2.0, "batch": 128.0, "updates": 20.0},
		{"message": "growth", "trigger": "duration", "from": 128.0, "to": 256.0},
		{"message": "phase", "phase": "average", "accuracy": 0.75},
		{"message": "end", "detail": "done", "path": "p"},
	}
	if len(lines) != len(want) {
		t.Fatalf("got %d lines, want %d:\n%s", len(lines), len(want), out.String())
	}
	for i, line := range lines {
		var got map[string]any
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		for key, v := range want[i] {
			if got[key] != v {
				t.Errorf("line %d: %s is %v, want %v", i+1, key, got[key], v)
			}
		}
	}
}

func TestNewProgressOfAFileLogs(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := NewProgress(f)
	p.Step(stepAt(0, 0.5))
	p.Epoch(sampleEpoch(1))
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if got := string(text); strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\r\x1b") || !strings.Contains(got, "train_loss=2") {
		t.Errorf("got %q", got)
	}
}

func TestNumbersForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0s", 75 * time.Second: "1m15s", 1500 * time.Millisecond: "2s", 3*time.Hour + 5*time.Minute: "3h05m"} {
		if got := duration(d); got != want {
			t.Errorf("duration(%v) = %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -100: "-100", 1234567: "1,234,567"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %s, want %s", n, got, want)
		}
	}
	for f, want := range map[float64]float64{0: 0, 1.0 / 3: 0.33333, 123456: 123460, -2.5: -2.5, 5e-324: 5e-324} {
		if got := round(f); math.Abs(got-want) > 1e-12*math.Abs(want) {
			t.Errorf("round(%v) = %v, want %v", f, got, want)
		}
	}
	for f, want := range map[float64]string{-1: "[    ]", 0.5: "[==  ]", 2: "[====]"} {
		if got := bar(f, 4); got != want {
			t.Errorf("bar(%v) = %s, want %s", f, got, want)
		}
	}
	if got := bar(math.NaN(), 2); got != "[  ]" {
		t.Errorf("bar(NaN) = %s", got)
	}
}
