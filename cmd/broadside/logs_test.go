package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// eventFiles are TensorBoard's files of a run.
func eventFiles(t *testing.T, run string) []string {
	t.Helper()
	files, err := filepath.Glob(run + "/events.out.tfevents.*")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTrainWritesForTensorBoard(t *testing.T) {
	tinyFolder(t)
	interrupted(t, "r")
	must(t, "train", "tiny.yaml", "--run", "r", "--resume")
	if files := eventFiles(t, "r"); len(files) != 2 {
		t.Errorf("a resumed run has event files %v", files)
	}
	must(t, "train", "tiny.yaml", "--run", "without", "--tensorboard=false")
	if files := eventFiles(t, "without"); len(files) != 0 {
		t.Errorf("event files %v", files)
	}
	sameEnd(t, "r", "without")
}

func TestEpochsTable(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r")
	table := read(t, "r/epochs.csv")
	if lines := strings.Split(strings.TrimSpace(table), "\n"); len(lines) != 4 || !strings.HasPrefix(lines[0], "epoch,updates,samples_seen,train_loss") || !strings.HasPrefix(lines[3], "3,18,288,") {
		t.Errorf("epochs.csv:\n%s", table)
	}
	if err := os.Remove("r/epochs.csv"); err != nil {
		t.Fatal(err)
	}
	must(t, "report", "r")
	if again := read(t, "r/epochs.csv"); again != table {
		t.Errorf("report wrote %q; want %q", again, table)
	}
}

// scraper is a stderr that scrapes the metrics at the end of the first epoch.
type scraper struct {
	bytes.Buffer
	address string
	page    string
}

func (s *scraper) Write(p []byte) (int, error) {
	if s.page == "" && bytes.Contains(p, []byte(" INF epoch ")) {
		s.page = "none"
		if reply, err := http.Get("http://" + s.address + "/metrics"); err == nil {
			page, _ := io.ReadAll(reply.Body)
			reply.Body.Close()
			s.page = string(page)
		}
	}
	return s.Buffer.Write(p)
}

func TestTrainServesMetrics(t *testing.T) {
	tinyFolder(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	refused(t, []mistake{{"taken", "train tiny.yaml --metrics " + address, exitFailure, []string{"metrics address", address, "in use"}}})
	free.Close()
	log := &scraper{address: address}
	if status := run(context.Background(), []string{"train", "tiny.yaml", "--run", "r", "--metrics", address}, io.Discard, log); status != 0 {
		t.Fatalf("status %d: %s", status, log.String())
	}
	for _, line := range []string{`broadside_updates_total{run="r"} 6`, `broadside_batch_size{run="r"} 16`, `broadside_learning_rate{run="r"} 0.05`} {
		if !strings.Contains(log.page, line+"\n") {
			t.Errorf("the page lacks %s:\n%s", line, log.page)
		}
	}
	if _, err := http.Get("http://" + address + "/metrics"); err == nil {
		t.Error("the page outlives the run")
	}
}
