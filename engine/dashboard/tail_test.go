package dashboard

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"broadside/engine/telemetry"
)

// follower looks at a log and keeps what a watcher would.
type follower struct {
	t        *testing.T
	root     *os.Root
	tail     tail
	events   []telemetry.Event
	restarts int
}

func follow(t *testing.T, dir string) *follower {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return &follower{t: t, root: root}
}

func (f *follower) look() error {
	for {
		l, err := f.tail.look(f.root, telemetry.EventsFile)
		if l.restart {
			f.events = nil
			f.restarts++
		}
		f.events = append(f.events, l.events...)
		if !l.more {
			return err
		}
	}
}

// agrees looks, and compares with what the reader of whole files finds.
func (f *follower) agrees(restarts int) {
	f.t.Helper()
	if err := f.look(); err != nil {
		f.t.Fatal(err)
	}
	want, err := telemetry.ReadEvents(filepath.Join(f.root.Name(), telemetry.EventsFile))
	if err != nil {
		f.t.Fatal(err)
	}
	a, _ := json.Marshal(f.events)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		f.t.Errorf("followed %d events; the file has %d", len(f.events), len(want))
	}
	if f.restarts != restarts {
		f.t.Errorf("began anew %d times; want %d", f.restarts, restarts)
	}
}

func TestTailFollows(t *testing.T) {
	r := begin(t, t.TempDir(), "")
	f := follow(t, r.dir)
	f.agrees(0)
	for n := 1; n <= 3; n++ {
		r.epochs(n, n)
		f.agrees(0)
	}
	offset := f.tail.offset
	f.agrees(0)
	if f.tail.offset != offset {
		t.Error("a look without news moved on")
	}
	r.epochs(4, 200) // more than a chunk
	f.agrees(0)
}

// A line arrives in parts; only the whole is an event.
func TestTailPartialLine(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, telemetry.EventsFile)
	write(t, path, "")
	f := follow(t, dir)
	const line = `{"type":"start","time":"2026-01-01T00:00:00Z","wall_seconds":0,"epoch":0,"updates":0}` + "\n"
	for n := 1; n < len(line); n += 9 {
		write(t, path, line[:n])
		if err := f.look(); err != nil || len(f.events) != 0 {
			t.Fatalf("%d bytes: %d events, %v", n, len(f.events), err)
		}
	}
	write(t, path, line)
	f.agrees(0)
	if len(f.events) != 1 {
		t.Errorf("%d events; want 1", len(f.events))
	}
}

// A run that resumes cuts its log to the checkpoint, and may have written more than before by the next look.
func TestTailResume(t *testing.T) {
	r := begin(t, t.TempDir(), "")
	r.epochs(1, 5)
	f := follow(t, r.dir)
	f.agrees(0)
	if err := r.log.TruncateAfter(20); err != nil {
		t.Fatal(err)
	}
	f.agrees(1)
	r.epochs(3, 6)
	f.agrees(1)
	if err := r.log.TruncateAfter(20); err != nil {
		t.Fatal(err)
	}
	r.append(telemetry.Event{Type: telemetry.TypeResume, Updates: 20, Message: "another line before the epochs repeat"})
	r.epochs(3, 9)
	f.agrees(2)
	// The whole file is replaced by another.
	other := begin(t, t.TempDir(), "")
	other.epochs(1, 30)
	if err := os.Rename(filepath.Join(other.dir, telemetry.EventsFile), filepath.Join(r.dir, telemetry.EventsFile)); err != nil {
		t.Fatal(err)
	}
	f.agrees(3)
}

func TestTailRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"no JSON", "{\"type\":\"start\"}\nnonsense\n{\"type\":\"end\"}\n", "line 2 is not an event"},
		{"no type", "{}\n{\"type\":\"end\"}\n", "line 1 is not an event"},
		{"a line without end", strings.Repeat("x", maxLineBytes+2), "line 1 is longer than"},
		{"a long line", "{\"type\":\"start\"}\n{\"type\":\"start\",\"message\":\"" + strings.Repeat("x", 2*maxLineBytes) + "\"}\n{\"type\":\"end\"}\n", "line 2 is longer than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, telemetry.EventsFile)
			write(t, path, c.text)
			f := follow(t, dir)
			for range 3 {
				if err := f.look(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v; want %q", err, c.want)
				}
			}
			write(t, path, "{\"type\":\"start\"}\n")
			if err := f.look(); err != nil || len(f.events) != 1 {
				t.Errorf("mended: %d events, %v", len(f.events), err)
			}
		})
	}
}

// What is no file is refused, and nobody waits for the other end of a pipe.
func TestTailRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, telemetry.EventsFile)
	f := follow(t, dir)
	make := map[string]func() error{"a pipe": func() error { return syscall.Mkfifo(path, 0o644) }, "a folder": func() error { return os.Mkdir(path, 0o755) }}
	for name, m := range make {
		if err := m(); err != nil {
			t.Fatal(err)
		}
		done := time.AfterFunc(20*time.Second, func() { panic("opening " + name + " waits") })
		if err := f.look(); err == nil || !strings.Contains(err.Error(), "is no file") {
			t.Errorf("%s: %v", name, err)
		}
		done.Stop()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// Any bytes, arriving in two parts, are events or an error, and what was read of a good log is what is in it.
func FuzzTail(f *testing.F) {
	f.Add([]byte("{\"type\":\"start\"}\n{\"type\":\"epoch\",\"epoch\":1,\"updates\":3,\"values\":{\"a\":1}}\n"), 20)
	f.Add([]byte("nonsense\n{}\n"), 3)
	f.Add([]byte(`{"type":"update","wall_seconds":1.5,"epoch":1,"updates":4,"epoch_fraction":0.25,"samples_seen":256,"loss":null,"batch":64,"lr":0.1,"images_per_second":99,"gradient_norm":2}`+"\n{\"type\":\"update\",\"loss\":\"x\"}\n"), 60)
	f.Add([]byte("{\"type\":\"growth\",\"from\":1,\"to\":2}\n{\"type\":\"probe\",\"eigenvalue\":null}\n{\"type\":\"pro"), 0)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte, first int) {
		path := filepath.Join(dir, telemetry.EventsFile)
		write(t, path, string(text[:min(len(text), max(first, 0))]))
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		r := newRun("x", root, ".")
		r.take(r.look())
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		file.Write(text)
		file.Close()
		n := r.look()
		r.take(n)
		if _, err := json.Marshal(r.entry()); err != nil {
			t.Fatal(err)
		}
		for _, table := range []*table{r.table, r.updates} {
			if _, err := json.Marshal(table.view(-1, 0)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := telemetry.ReadEvents(path)
		if err == nil && n.logErr == nil && r.tail.lines != len(want) {
			t.Errorf("%d events; the file has %d", r.tail.lines, len(want))
		}
		if (err == nil) != (n.logErr == nil) {
			t.Error(fmt.Errorf("followed: %v; read: %v", n.logErr, err))
		}
	})
}
