package cpu

// #cgo LDFLAGS: -lpthread
// #include "team.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// MaxMembers is how many threads a [Team] has at most.
const MaxMembers = C.BS_CPU_MAX_MEMBERS

// Team is the threads that run a list of calls together: the one that calls a table's run, with the team as the
// stream, and others that sleep between two runs. The results have the same bits for any number of threads.
type Team struct{ c *C.bs_cpu_team }

// NewTeam returns a team of one thread, the caller's. Close it.
func NewTeam() (*Team, error) {
	c := C.bs_cpu_team_new()
	if c == nil {
		return nil, fmt.Errorf("making a team of threads: out of memory")
	}
	return &Team{c}, nil
}

// Form gives the team so many threads, between 1 and MaxMembers, and memory for calls with a workspace of up to
// so many cells. After an error it is a team of one. No list may be running.
func (t *Team) Form(threads, cells int) error {
	if C.bs_cpu_team_form(t.c, C.int32_t(threads), C.int64_t(cells)) == 0 {
		return fmt.Errorf("the system refuses a team of %d threads with %d cells each", threads, cells)
	}
	return nil
}

// Stream is what bs_kernels.run takes as its stream.
func (t *Team) Stream() unsafe.Pointer { return unsafe.Pointer(t.c) }

// Close ends the threads. A second Close does nothing; the team cannot be used any more.
func (t *Team) Close() {
	C.bs_cpu_team_free(t.c)
	t.c = nil
}
