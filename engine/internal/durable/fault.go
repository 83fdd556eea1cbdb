package durable

import "sync/atomic"

// A Fault is asked before every system call that changes a file, and fails it with its error. Tests set one to see what
// is left then; without one the calls go straight to the system.
type Fault func(call, path string) error

var fault atomic.Pointer[Fault]

// SetFault sets what is asked before system calls, nil for nothing.
func SetFault(f Fault) {
	if f == nil {
		fault.Store(nil)
		return
	}
	fault.Store(&f)
}

// Before returns the error that a call is to fail with.
func Before(call, path string) error {
	if f := fault.Load(); f != nil {
		return (*f)(call, path)
	}
	return nil
}
