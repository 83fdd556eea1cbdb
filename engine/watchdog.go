package engine

import (
	"bytes"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime/pprof"
	"time"

	"broadside/engine/telemetry"
)

// HangError says that training came to a standstill: no device began a leaf and no update was made.
type HangError struct {
	After time.Duration
	State string // what every device was doing
	File  string // with the stacks of all goroutines; empty if it could not be written
}

func (e *HangError) Error() string {
	text := fmt.Sprintf("training made no headway for %v: %s", e.After, e.State)
	if e.File != "" {
		text += "; the stacks of all goroutines are in " + e.File
	}
	return text
}

// watch runs what trains on the fleet, and gives it up if it makes no headway for the limit; 0 is none. What hangs is
// left behind, with the fleet and its memory.
func (f *fleet) watch(limit time.Duration, runDir string, train func() (*telemetry.Summary, error)) (*telemetry.Summary, error) {
	if limit <= 0 {
		return train()
	}
	type ended struct {
		summary *telemetry.Summary
		err     error
	}
	done := make(chan ended, 1)
	go func() {
		s, err := train()
		done <- ended{s, err}
	}()
	tick := time.NewTicker(max(limit/8, time.Millisecond))
	defer tick.Stop()
	seen, since := f.headway(), time.Now()
	for {
		select {
		case e := <-done:
			return e.summary, e.err
		case <-tick.C:
			if now := f.headway(); now != seen {
				seen, since = now, time.Now()
			} else if time.Since(since) >= limit {
				f.hung.Store(true)
				return nil, &HangError{After: limit, State: f.doing(), File: f.dump(runDir)}
			}
		}
	}
}

// headway grows with every leaf that a device begins, and every update.
func (f *fleet) headway() int64 {
	sum := f.beats.Load()
	for _, w := range f.workers {
		sum += w.headway.Load()
	}
	return sum
}

// doing says what every device is at.
func (f *fleet) doing() string {
	var out bytes.Buffer
	for i, w := range f.workers {
		if i > 0 {
			out.WriteString("; ")
		}
		fmt.Fprintf(&out, "device %d, %s: %s", w.id, w.dev.Name(), w.job())
	}
	for _, c := range f.comms {
		fmt.Fprintf(&out, "; rank %d of %d, %s: %s", c.Rank(), c.Size(), c.Name(), c.State())
	}
	return out.String()
}

// note notes the job that a worker begins, or nil when it has ended it.
func (w *worker) note(j job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle = j == nil; w.idle {
		return
	}
	t := reflect.TypeOf(j)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	w.last = t.Name()
}

// job says what the worker does, or did last.
func (w *worker) job() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := "in"
	switch {
	case w.last == "":
		return "nothing yet"
	case w.idle:
		state = "done with"
	}
	return fmt.Sprintf("%s %s, %d leaves begun", state, w.last, w.headway.Load())
}

// dumpPatience is how long a dump may take: the file system may be what hangs.
const dumpPatience = 5 * time.Second

// dump writes what every device does and the stacks of all goroutines to a file of the run directory, and returns it.
func (f *fleet) dump(runDir string) string {
	path := filepath.Join(runDir, "hang-"+time.Now().UTC().Format("20060102T150405.000")+".txt")
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s\n\n", f.doing())
	pprof.Lookup("goroutine").WriteTo(&out, 2)
	written := make(chan error, 1)
	go func() { written <- telemetry.WriteFile(path, out.Bytes()) }()
	select {
	case err := <-written:
		if err == nil {
			return path
		}
	case <-time.After(dumpPatience):
	}
	return ""
}
