package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"broadside/engine/telemetry"
)

// Bounds on what is looked for below the folders that are served.
const (
	maxRuns    = 1000
	maxDepth   = 6
	maxFolders = 20000
	maxLooks   = 16 // at one run in a row
)

// Times between two looks.
const (
	lookEvery = time.Second
	findEvery = 3 * time.Second
)

// Watcher finds the runs below some folders and follows them.
type Watcher struct {
	roots []root

	mu      sync.RWMutex
	runs    map[string]*run
	version int64         // of the newest change
	listed  int64         // version of the list: runs have come or gone
	changed chan struct{} // closed at the next change
	notice  string        // what is left out of the list
}

// root is a folder that is served. Nothing outside of it is read.
type root struct {
	dir    *os.Root
	prefix string // of its runs' names, where there are several folders
}

// Watch opens folders that hold runs, or are runs. Call Run to follow them.
func Watch(folders []string) (*Watcher, error) {
	w := &Watcher{runs: map[string]*run{}, changed: make(chan struct{})}
	for _, folder := range folders {
		dir, err := os.OpenRoot(folder)
		if err != nil {
			w.Close()
			return nil, fmt.Errorf("%s is no folder that can be read: name one that holds runs, such as runs: %w", folder, err)
		}
		w.roots = append(w.roots, root{dir, w.prefix(folder, len(folders))})
	}
	w.find()
	w.look()
	return w, nil
}

// prefix names a folder among several.
func (w *Watcher) prefix(folder string, folders int) string {
	if folders == 1 {
		return ""
	}
	name := filepath.ToSlash(filepath.Clean(folder))
	for slices.ContainsFunc(w.roots, func(r root) bool { return r.prefix == name }) {
		name += "'"
	}
	return name
}

// Run follows the runs until the context is done.
func (w *Watcher) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	found := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if time.Since(found) >= findEvery {
			w.find()
			found = time.Now()
		}
		w.look()
	}
}

// Close closes the folders.
func (w *Watcher) Close() {
	for _, r := range w.roots {
		r.dir.Close()
	}
}

// foundRun is where a run is.
type foundRun struct {
	root      *os.Root
	dir       string
	curvature int64
}

// find looks for runs that have come or gone.
func (w *Watcher) find() {
	f := finder{runs: map[string]foundRun{}}
	for _, r := range w.roots {
		f.folder(r, ".", 0)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := w.notice != f.notice
	w.notice = f.notice
	for id := range w.runs {
		if _, ok := f.runs[id]; !ok {
			delete(w.runs, id)
			changed = true
		}
	}
	for id, at := range f.runs {
		r := w.runs[id]
		if r == nil {
			r = newRun(id, at.root, at.dir)
			w.runs[id] = r
			changed = true
		}
		if r.curvature != at.curvature {
			r.curvature, changed = at.curvature, true
		}
	}
	if changed {
		w.version++
		w.listed = w.version
		w.tell()
	}
}

// finder walks through folders. Links are not followed.
type finder struct {
	runs    map[string]foundRun
	folders int
	notice  string
}

func (f *finder) folder(r root, dir string, depth int) {
	if f.folders++; f.folders > maxFolders || len(f.runs) >= maxRuns {
		f.notice = fmt.Sprintf("Not all runs are shown: there are more than %d, or too many folders.", maxRuns)
		return
	}
	entries, err := readFolder(r.dir, dir)
	if err != nil {
		return // it has gone, or is not ours to read
	}
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == telemetry.EventsFile }) {
		f.runs[r.name(dir)] = foundRun{r.dir, dir, curvatureStamp(entries)}
		return
	}
	for _, e := range entries {
		if e.IsDir() && depth < maxDepth && !strings.HasPrefix(e.Name(), ".") {
			f.folder(r, path.Join(dir, e.Name()), depth+1)
		}
	}
}

// readFolder lists a folder in order, as much of it as may be.
func readFolder(root *os.Root, dir string) ([]fs.DirEntry, error) {
	f, err := root.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(maxFolders)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// name is the id of the run in a folder.
func (r root) name(dir string) string {
	if r.prefix != "" {
		return path.Join(r.prefix, dir)
	}
	if dir == "." {
		if full, err := filepath.Abs(r.dir.Name()); err == nil {
			return filepath.Base(full)
		}
	}
	return strings.ToValidUTF8(dir, "?")
}

// look looks at every run.
func (w *Watcher) look() {
	w.mu.RLock()
	runs := make([]*run, 0, len(w.runs))
	for _, r := range w.runs {
		runs = append(runs, r)
	}
	w.mu.RUnlock()
	for _, r := range runs {
		for range maxLooks {
			n := r.look()
			w.take(r, n)
			if !n.log.more {
				break
			}
		}
	}
}

// take takes in what a look at a run has found.
func (w *Watcher) take(r *run, n news) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.take(n) {
		w.version++
		r.version = w.version
		w.tell()
	}
}

// tell wakes those who wait for a change.
func (w *Watcher) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// List is every run, newest first.
type List struct {
	Runs    []Entry `json:"runs"`
	Notice  string  `json:"notice,omitempty"`
	Version int64   `json:"version"`
}

// List lists the runs.
func (w *Watcher) List() List {
	w.mu.RLock()
	defer w.mu.RUnlock()
	l := List{Runs: []Entry{}, Notice: w.notice, Version: w.version}
	for _, r := range w.runs {
		l.Runs = append(l.Runs, r.entry())
	}
	slices.SortFunc(l.Runs, func(a, b Entry) int {
		if c := b.Started.Compare(a.Started); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return l
}

// since returns what has changed since a version, the version now, and a channel that is closed at the next change. A
// list that has changed as a whole is returned as such.
func (w *Watcher) since(version int64) (entries []Entry, whole bool, now int64, changed <-chan struct{}) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.listed > version {
		return nil, true, w.version, w.changed
	}
	for _, r := range w.runs {
		if r.version > version {
			entries = append(entries, r.entry())
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.ID, b.ID) })
	return entries, false, w.version, w.changed
}

// with calls a function with a run, and reports whether there is such a run. The run must not be kept or changed.
func (w *Watcher) with(id string, f func(*run)) bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	r, ok := w.runs[id]
	if ok {
		f(r)
	}
	return ok
}

// Metrics is where the runs stand, for Prometheus.
func (w *Watcher) Metrics() []telemetry.RunMetrics {
	w.mu.RLock()
	defer w.mu.RUnlock()
	var out []telemetry.RunMetrics
	for _, id := range slices.Sorted(maps.Keys(w.runs)) {
		out = append(out, *w.runs[id].metrics)
	}
	return out
}
