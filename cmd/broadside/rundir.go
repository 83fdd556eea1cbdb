package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// runsDir is where runs go that are given no directory.
const runsDir = "runs"

// nameRun names the directory of a run that is given none: runs/NAME, or where that exists runs/NAME-2 and so on. A run
// to resume is the last of these.
func nameRun(name string, resume bool) string {
	last := lastRun(name)
	first := filepath.Join(runsDir, name)
	switch {
	case last == 0:
		return first
	case !resume:
		last++
	case last == 1:
		return first
	}
	return fmt.Sprintf("%s-%d", first, last)
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
