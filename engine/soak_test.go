package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

// soakRecipes train with batches that grow and shrink, probes, attacks and a checkpoint after every fifth update.
var soakRecipes = []string{
	"methods=[{absa: {max_batch: 512, patience: 1, probe_samples: 64}}, {distance: {}}]",
	"methods=[{gns: {control: true, ema: 0.5, max_batch: 512}}, {structure: {every: 5}}]",
}

// load is what a process holds after an epoch.
type load struct {
	seconds            float64
	batch              int
	memory             int64
	goroutines, handle int
}

// soak watches a run and notes what the process holds after every epoch.
type soak struct {
	telemetry.Discard
	started time.Time
	loads   []load
	least   *load // of goroutines and files that the recipe at hand had so far
	batches map[int]bool
}

func (s *soak) Epoch(e telemetry.Epoch) {
	debug.FreeOSMemory() // what the collector would give back in its own time
	l := load{seconds: time.Since(s.started).Seconds(), batch: e.Batch, memory: processMemory()}
	l.settle(s.least)
	s.loads = append(s.loads, l)
}

// settle counts goroutines and files, once they are as few as ever: a checkpoint that is being written gets the time to
// come to its end.
func (l *load) settle(least *load) {
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		handles, _ := os.ReadDir("/proc/self/fd")
		l.goroutines, l.handle = runtime.NumGoroutine(), len(handles)
		if least.goroutines == 0 || l.goroutines <= least.goroutines && l.handle <= least.handle {
			*least = *l
			return
		}
		if time.Now().After(late) {
			return
		}
	}
}

func (s *soak) Step(e telemetry.Step) { s.batches[e.Batch] = true }

// BROADSIDE_SOAK is how long TestSoak trains, such as 1h; BROADSIDE_SOAK_CSV the file for its curve.
const soakVariable, soakFile = "BROADSIDE_SOAK", "BROADSIDE_SOAK_CSV"

// However long a process trains, with batches that grow and shrink, probes and checkpoints: its memory, its goroutines
// and its open files do not grow.
func TestSoak(t *testing.T) {
	if processMemory() == 0 {
		t.Skip("the system does not tell a process's memory")
	}
	limit, err := time.ParseDuration(os.Getenv(soakVariable))
	if err != nil {
		limit = 0
	}
	s := &soak{started: time.Now(), batches: map[int]bool{}}
	peaks, least := make([][]load, len(soakRecipes)), make([]load, len(soakRecipes)) // of every round; of all so far
	for round := 0; round < 3 || time.Since(s.started) < limit; round++ {
		for i, methods := range soakRecipes {
			r, err := recipe.Load("quickstart", []string{"data.train_limit=640", "data.test_limit=64", "train.epochs=4", "batch.size=64", "batch.leaf=32",
				"checkpoint.every_updates=5", methods})
			if err != nil {
				t.Fatal(err)
			}
			from := len(s.loads)
			s.least = &least[i]
			if _, err := Train(context.Background(), r, Options{Device: "cpu", Devices: 2, RunDir: filepath.Join(t.TempDir(), fmt.Sprint(round)), Progress: s}); err != nil {
				t.Fatal(err)
			}
			peaks[i] = append(peaks[i], roundOf(s.loads[from:]))
		}
	}
	s.write(t)
	if len(s.batches) < 3 {
		t.Errorf("the batch was %v only", s.batches)
	}
	const allowed = 48 << 20 // what the collector and the C library may keep
	for i, rounds := range peaks {
		early, late := rounds[1], rounds[len(rounds)-1] // the first fills caches
		if late.memory > early.memory+allowed || late.goroutines > early.goroutines || late.handle > early.handle {
			t.Errorf("%s: round 2 held %d bytes, %d goroutines, %d files; round %d %d, %d, %d", soakRecipes[i],
				early.memory, early.goroutines, early.handle, len(rounds), late.memory, late.goroutines, late.handle)
		}
		t.Logf("%d rounds: %d to %d MiB, %d goroutines, %d files", len(rounds), early.memory>>20, late.memory>>20, late.goroutines, late.handle)
	}
}

// roundOf sums up the epochs of a round: the most memory, and the least of what a checkpoint under way adds to.
func roundOf(loads []load) load {
	out := slices.MaxFunc(loads, func(a, b load) int { return int(a.memory - b.memory) })
	for _, l := range loads {
		out.goroutines, out.handle = min(out.goroutines, l.goroutines), min(out.handle, l.handle)
	}
	return out
}

// write writes the curve, if it is asked for.
func (s *soak) write(t *testing.T) {
	path := os.Getenv(soakFile)
	if path == "" {
		return
	}
	var out strings.Builder
	out.WriteString("seconds,batch,memory_bytes,goroutines,open_files\n")
	for _, l := range s.loads {
		fmt.Fprintf(&out, "%.1f,%d,%d,%d,%d\n", l.seconds, l.batch, l.memory, l.goroutines, l.handle)
	}
	if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
