package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"broadside/engine/telemetry"
)

// runsDir is where runs go that are given no directory.
const runsDir = "runs"

// nameRun names the directory of a run that is given none: runs/NAME, or where that exists runs/NAME-2 and so on. A run
// to resume is the last of these.
func nameRun(name string, resume bool) string {
	dir, last := filepath.Join(runsDir, name), lastRun(name)
	if last > 0 && !resume {
		last++
	}
	if last > 1 {
		dir = fmt.Sprintf("%s-%d", dir, last)
	}
	return dir
}

// lastRun is the number of the last run of a name: 1 for runs/NAME alone, 0 if there is none.
func lastRun(name string) (last int) {
	entries, err := os.ReadDir(runsDir)
	if err != nil {
		return 0 // whatever is wrong with the directory is told when the run begins
	}
	for _, e := range entries {
		if e.Name() == name {
			last = max(last, 1)
		}
		number, ok := strings.CutPrefix(e.Name(), name+"-")
		if n, err := strconv.Atoi(number); ok && err == nil && n > 1 && strconv.Itoa(n) == number {
			last = max(last, n)
		}
	}
	return last
}

// named is the progress of a run in a directory that the program has named: it says which before all else.
type named struct {
	telemetry.Progress
	w   io.Writer
	dir string // to be said
}

// Event tells an event, the first of which is that the run starts.
func (n *named) Event(e telemetry.Event) {
	if n.dir != "" {
		fmt.Fprintf(n.w, "run directory: %s\n", n.dir)
		n.dir = ""
	}
	n.Progress.Event(e)
}
