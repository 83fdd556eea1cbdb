package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"broadside/engine/collective/join"
)

// runsDir is where runs go that are given no directory.
const runsDir = "runs"

// nameRun names the directory of a run that is given none, and says it: runs/NAME, or where that exists runs/NAME-2 and
// so on. A run to resume is the last of these.
func nameRun(cmd *cobra.Command, name string, resume bool) string {
	dir, last := filepath.Join(runsDir, name), lastRun(name)
	if last > 0 && !resume {
		last++
	}
	if last > 1 {
		dir = fmt.Sprintf("%s-%d", dir, last)
	}
	sayRun(cmd, dir)
	return dir
}

// sayRun tells where a run goes that was not told; of several processes the first does.
func sayRun(cmd *cobra.Command, dir string) {
	if rank, _ := join.Processes(); rank == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "run directory: %s\n", dir)
	}
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
