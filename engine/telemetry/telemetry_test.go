package telemetry

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)

func ptr(f float64) *float64 { return &f }

func sampleEpoch(n int) Epoch {
	return Epoch{Epoch: n, Updates: 10 * n, SamplesSeen: int64(1280 * n), TrainLoss: 2 / float64(n), TrainAccuracy: 1 - 1/float64(n+1),
		Batch: 128, LR: 0.1, AttackFraction: 0.2, GradPasses: int64(1500 * n), HVPs: 10 * n, ImagesPerSecond: 900, WallSeconds: float64(2 * n)}
}

func appendAll(t *testing.T, l *EventLog, events ...Event) {
	t.Helper()
	for _, e := range events {
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}
}

func openLog(t *testing.T, dir string) *EventLog {
	t.Helper()
	l, err := OpenEventLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.now = func() time.Time { return noon }
	t.Cleanup(func() { l.file.Close() })
	return l
}

func readAll(t *testing.T, dir string) []Event {
	t.Helper()
	events, err := ReadEvents(filepath.Join(dir, EventsFile))
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestEventLogRoundTrip(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	l.Wall = func() float64 { return 7 }
	record := sampleEpoch(2)
	record.TestLoss, record.TestAccuracy, record.Values = ptr(0.5), ptr(0.75), map[string]float64{"x": 1}
	appendAll(t, l,
		Event{Type: TypeStart, Message: "a\nb"},
		Event{Type: TypeProbe, Epoch: 1, Updates: 10, Eigenvalue: ptr(3), Iterations: 5, WallSeconds: 3},
		Event{Type: TypeGrowth, Epoch: 1, Updates: 10, Trigger: "eig", From: 128, To: 256})
	if err := l.Epoch(record); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want := []Event{
		{Type: "start", Time: noon, WallSeconds: 7, Message: "a\nb"},
		{Type: "probe", Time: noon, WallSeconds: 3, Epoch: 1, Updates: 10, Eigenvalue: ptr(3), Iterations: 5},
		{Type: "growth", Time: noon, WallSeconds: 7, Epoch: 1, Updates: 10, Trigger: "eig", From: 128, To: 256},
		{Type: "epoch", Time: noon, WallSeconds: 4, Epoch: 2, Updates: 20, Record: &record},
	}
	if got := readAll(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	text, err := os.ReadFile(filepath.Join(dir, EventsFile))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	const growth = `{"type":"growth","time":"2025-03-01T12:00:00Z","wall_seconds":7,"epoch":1,"updates":10,"trigger":"eig","from":128,"to":256}`
	const epoch = `{"type":"epoch","time":"2025-03-01T12:00:00Z","epoch":2,"updates":20,"samples_seen":2560,"train_loss":1,"train_accuracy":0.6666666666666667,` +
		`"test_loss":0.5,"test_accuracy":0.75,"batch":128,"lr":0.1,"attack_fraction":0.2,"grad_passes":3000,"hvps":20,"images_per_second":900,"wall_seconds":4,"values":{"x":1}}`
	if lines[2] != growth || lines[3] != epoch {
		t.Errorf("got\n%s\n%s\nwant\n%s\n%s", lines[2], lines[3], growth, epoch)
	}
}

func TestDivergedRunIsRecorded(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	record := sampleEpoch(1)
	record.TrainLoss, record.LR, record.TestLoss = math.NaN(), math.Inf(1), ptr(math.NaN())
	record.Values = map[string]float64{"x": math.Inf(-1)}
	if err := l.Epoch(record); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, dir)[0].Record
	if !math.IsNaN(got.TrainLoss) || !math.IsNaN(got.LR) || got.TestLoss != nil || got.TrainAccuracy != 0.5 {
		t.Errorf("got %+v", got)
	}
	if err := WriteSummary(dir, Summary{TestLoss: math.NaN(), TestAccuracy: 0.1}); err != nil {
		t.Fatal(err)
	}
	s, err := ReadSummary(dir)
	if err != nil || !math.IsNaN(s.TestLoss) || s.TestAccuracy != 0.1 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestEpochSet(t *testing.T) {
	var e Epoch
	e.Set(map[string]float64{"eigenvalue": 2, "attack_fraction": 0.1, "other": 3})
	if e.Eigenvalue == nil || *e.Eigenvalue != 2 || e.AttackFraction != 0.1 || !reflect.DeepEqual(e.Values, map[string]float64{"other": 3}) {
		t.Errorf("got %+v", e)
	}
}

func TestTornLastLine(t *testing.T) {
	for _, torn := range []string{`{"type":"epo`, "\x00\x00\x00\x00", "{\"type\":\"epo\n", "\x00\x00\n"} {
		dir := t.TempDir()
		l := openLog(t, dir)
		appendAll(t, l, Event{Type: TypeStart}, Event{Type: TypeGrowth, Updates: 3})
		if _, err := l.file.WriteString(torn); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, dir); len(got) != 2 {
			t.Errorf("%q: reading gives %d events, want 2", torn, len(got))
		}
		l.file.Close() // as the system does with what a killed process had open
		again := openLog(t, dir)
		appendAll(t, again, Event{Type: TypeResume, Updates: 4})
		got := readAll(t, dir)
		if len(got) != 3 || got[2].Type != TypeResume {
			t.Errorf("%q: after reopening %+v", torn, got)
		}
	}
}

func TestDamagedMiddleLineIsAnError(t *testing.T) {
	for _, bad := range []string{"oops", `{"updates": 3}`, `[1]`} {
		dir := t.TempDir()
		path := filepath.Join(dir, EventsFile)
		text := `{"type":"start"}` + "\n" + bad + "\n" + `{"type":"end"}` + "\n"
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadEvents(path); err == nil || !strings.Contains(err.Error(), path+":2: not an event") {
			t.Errorf("%s: got %v", bad, err)
		}
		if _, err := OpenEventLog(dir); err == nil {
			t.Errorf("%s: a damaged log was opened", bad)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != text {
			t.Errorf("%s: the damaged log was changed to %q", bad, kept)
		}
	}
	if _, err := ReadEvents(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there was read")
	}
	if _, err := OpenEventLog(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a log was opened in a folder that is not there")
	}
}

func TestTruncateAfter(t *testing.T) {
	history := []Event{
		{Type: TypeStart},
		{Type: TypeUpdate, Updates: 10},
		{Type: TypeEpoch, Record: &Epoch{Epoch: 1, Updates: 10}},
		{Type: TypeUpdate, Updates: 15},
		{Type: TypeCheckpoint, Updates: 15},
		{Type: TypeCheckpoint, Updates: 20}, // at the last update of the epoch, whose end will be repeated
		{Type: TypeProbe, Updates: 20},
		{Type: TypeGrowth, Updates: 20},
		{Type: TypeEpoch, Record: &Epoch{Epoch: 2, Updates: 20}},
		{Type: TypeCheckpoint, Updates: 25},
		{Type: TypeEnd, Updates: 25},
	}
	for updates, keep := range map[int]int{0: 1, 9: 1, 10: 3, 14: 3, 15: 5, 19: 5, 20: 6, 24: 9, 25: 10, 99: 11} {
		dir := t.TempDir()
		l := openLog(t, dir)
		appendAll(t, l, history...)
		if err := l.TruncateAfter(updates); err != nil {
			t.Fatal(err)
		}
		appendAll(t, l, Event{Type: TypeResume, Updates: updates})
		got := readAll(t, dir)
		if len(got) != keep+1 || got[keep].Type != TypeResume {
			t.Errorf("after %d updates: %d events stay, want %d: %+v", updates, len(got)-1, keep, got)
			continue
		}
		if keep > 0 && got[keep-1].Type != history[keep-1].Type {
			t.Errorf("after %d updates: the last event is %+v", updates, got[keep-1])
		}
	}
}

func TestSummaryKeysAreTheContract(t *testing.T) {
	dir := t.TempDir()
	in := Summary{"n", "m", "d", 18446744073709551615, "cpu", 2, 0.9, 0.91, 0.3, 100, 12800, 5, 256, 50, 14000, 12.5, 1024, 1 << 30, 0, "", ptr(0.25), "go", 2, map[string]float64{"distance": 3.5}}
	if err := WriteSummary(dir, in); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, SummaryFile))
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(`test_accuracy best_test_accuracy test_loss updates samples_seen epochs final_batch hvps grad_passes
		wall_seconds images_per_second peak_memory_bytes name model data seed devices device values data_wait image_decoder bad_images`)
	if len(keys) != len(want) {
		t.Errorf("%d keys, want %d: %s", len(keys), len(want), text)
	}
	for _, key := range want {
		if _, ok := keys[key]; !ok {
			t.Errorf("key %s is missing", key)
		}
	}
	if out, err := ReadSummary(dir); err != nil || !reflect.DeepEqual(out, in) {
		t.Errorf("got %+v, %v", out, err)
	}
	in.Stopped = "because"
	if text, err := json.Marshal(in); err != nil || !strings.Contains(string(text), `"stopped":"because"`) {
		t.Errorf("a run that was stopped has a summary %s, %v", text, err)
	}
	in.Values = nil
	if text, err := json.Marshal(in); err != nil || strings.Contains(string(text), "values") {
		t.Errorf("a run whose methods report nothing has a summary %s, %v", text, err)
	}
	if _, err := ReadSummary(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing summary gives %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, SummaryFile), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSummary(dir); err == nil {
		t.Error("a damaged summary was read")
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, content := range []string{"one", "two, longer", ""} {
		if err := WriteFile(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if err := WriteFile(filepath.Join(dir, "none", "f"), nil); err == nil {
		t.Error("a file was written into a folder that is not there")
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(filepath.Join(dir, "d"), nil); err == nil {
		t.Error("a folder was replaced by a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("temporary files stay: %v, %v", entries, err)
	}
}

// keepAlive stops the compiler from dropping the memory of TestPeakMemory.
var keepAlive []byte

func TestPeakMemory(t *testing.T) {
	before := PeakMemory()
	if before < 1<<20 || before > 1<<40 {
		t.Fatalf("peak memory %d bytes", before)
	}
	keepAlive = make([]byte, before+64<<20)
	for i := 0; i < len(keepAlive); i += 4096 {
		keepAlive[i] = 1
	}
	after := PeakMemory()
	keepAlive = nil
	if after < before+32<<20 {
		t.Errorf("peak memory went from %d to %d while %d more were in use", before, after, before+64<<20)
	}
}

// A log is being written to while it is open, whoever else looks at it.
func TestWriting(t *testing.T) {
	dir := t.TempDir()
	log, err := OpenEventLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(dir, EventsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range 2 {
		if !Writing(file) {
			t.Error("nobody writes to an open log")
		}
	}
	if !recent(file) {
		t.Error("a new file is not recent")
	}
	if _, err := OpenEventLog(dir); err == nil || !strings.Contains(err.Error(), EventsFile) {
		t.Errorf("opening it again: %v, want an error that names it", err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file.Name(), time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if Writing(file) || recent(file) {
		t.Error("somebody writes to a closed log")
	}
	again, err := OpenEventLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
