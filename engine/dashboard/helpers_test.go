package dashboard

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"broadside/engine/telemetry"
)

// testRun is a run directory that a test writes.
type testRun struct {
	t   *testing.T
	dir string
	log *telemetry.EventLog
}

// begin makes a run directory and leaves its event log open, as a run that trains does.
func begin(t *testing.T, dir, recipe string) *testRun {
	t.Helper()
	write(t, filepath.Join(dir, telemetry.RecipeFile), recipe)
	log, err := telemetry.OpenEventLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	r := &testRun{t, dir, log}
	r.append(telemetry.Event{Type: telemetry.TypeStart})
	return r
}

func (r *testRun) append(e telemetry.Event) {
	r.t.Helper()
	if err := r.log.Append(e); err != nil {
		r.t.Fatal(err)
	}
}

// accuracyAt is the test accuracy that epochs adds.
func accuracyAt(epoch int) float64 { return 1 - 1/float64(epoch+1) }

// epochs adds the epochs from first to last, of ten updates of 64 samples each.
func (r *testRun) epochs(first, last int) {
	for n := first; n <= last; n++ {
		loss, accuracy := 2/float64(n), accuracyAt(n)
		r.append(telemetry.Event{Type: telemetry.TypeEpoch, Record: &telemetry.Epoch{Epoch: n, Updates: 10 * n, SamplesSeen: int64(640 * n), TrainLoss: loss, TrainAccuracy: accuracy,
			TestLoss: &loss, TestAccuracy: &accuracy, Batch: 64, LR: 0.1, ImagesPerSecond: 1000, WallSeconds: float64(n), Values: map[string]float64{"distance": float64(n)}}})
	}
}

// updates adds the updates from first to last of epochs of ten, of 64 samples and a tenth of a second each, which are recorded
// before the epoch.
func (r *testRun) updates(first, last int) {
	for n := first; n <= last; n++ {
		r.append(telemetry.Event{Type: telemetry.TypeUpdate, Epoch: (n - 1) / 10, Updates: n, WallSeconds: float64(n) / 10,
			Update: telemetry.Update{EpochFraction: float64((n-1)%10+1) / 10, SamplesSeen: int64(64 * n), Loss: 3 - float64(n)/10, Batch: 64, LR: float64(n) / 100, ImagesPerSecond: 640}})
	}
}

// end closes the log and writes the summary.
func (r *testRun) end(epochs int) {
	r.t.Helper()
	r.append(telemetry.Event{Type: telemetry.TypeEnd, Epoch: epochs, Updates: 10 * epochs})
	r.stop()
	s := telemetry.NewSummary()
	s.Epochs, s.Updates, s.TestAccuracy, s.BestTestAccuracy, s.WallSeconds = epochs, 10*epochs, accuracyAt(epochs), accuracyAt(epochs), float64(epochs)
	if err := telemetry.WriteSummary(r.dir, s); err != nil {
		r.t.Fatal(err)
	}
}

// stop closes the log, as when the process dies.
func (r *testRun) stop() {
	r.t.Helper()
	if err := r.log.Close(); err != nil {
		r.t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// watched watches folders without a clock, until they are served: look() is what a second brings.
func watched(t *testing.T, folders ...string) *Watcher {
	t.Helper()
	w, err := Watch(folders)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// state is a run's entry.
func (w *Watcher) state(t *testing.T, id string) Entry {
	t.Helper()
	var e Entry
	if !w.with(id, func(r *run) { e = r.entry() }) {
		t.Fatalf("there is no run %q", id)
	}
	return e
}

// await waits until the server's own looks have found a run at an epoch.
func (w *Watcher) await(t *testing.T, id string, epoch float64) {
	t.Helper()
	for late := time.Now().Add(time.Minute); w.state(t, id).At != epoch; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("%s is found at epoch %g; want %g", id, w.state(t, id).At, epoch)
		}
	}
}

// serving serves a watcher until the test ends, and returns the page's address.
func serving(t *testing.T, w *Watcher, o Options) string {
	t.Helper()
	s, err := Listen(w, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return strings.TrimSuffix(s.URL(), "/")
}

var local = Options{Listen: "127.0.0.1:0"}

// answer is an HTTP answer that was read.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request, without following redirects.
func ask(t *testing.T, request *http.Request) answer {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(body)}
}

func get(t *testing.T, url string) answer {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ask(t, request)
}

// getJSON reads an answer that must be JSON.
func getJSON[T any](t *testing.T, url string) (v T) {
	t.Helper()
	a := get(t, url)
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s: %d %s, %s", url, a.status, a.header.Get("Content-Type"), a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%s: %v in %s", url, err, a.body)
	}
	return v
}
