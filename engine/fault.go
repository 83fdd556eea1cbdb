package engine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"broadside/cgo/table"
)

// DeviceError is a device that failed or does not answer. The others can go on without it.
type DeviceError struct {
	Device int // its place in the list of devices
	Name   string
	Err    error
}

func (e *DeviceError) Error() string {
	return fmt.Sprintf("device %d, %s: %v", e.Device, e.Name, e.Err)
}
func (e *DeviceError) Unwrap() error { return e.Err }

// errHung is the cause where a device does not answer.
var errHung = errors.New("it does not answer")

// blame names the device if it is the cause of an error.
func (w *worker) blame(err error) error {
	if err == nil { // what follows allocates
		return nil
	}
	var known *DeviceError
	if errors.As(err, &known) || !errors.Is(err, table.ErrDevice) {
		return err
	}
	return &DeviceError{Device: w.id, Name: w.dev.Name(), Err: err}
}

// wait waits for the workers that were handed a job. One that makes no headway for the timeout hangs: the fleet is
// given up then, and its memory with it, as the worker may still use it.
func (f *fleet) wait() (first error) {
	f.patience.Reset(max(f.timeout/4, time.Millisecond))
	defer f.patience.Stop()
	done := 0
	for _, w := range f.workers {
		w.seen, w.since, w.back = w.headway.Load(), time.Now(), false
	}
	for done < len(f.workers) {
		select {
		case r := <-f.results:
			r.worker.back = true
			done++
			if first == nil {
				first = r.err
			}
		case <-f.patience.C:
			if w := f.hanging(); w != nil {
				f.hung.Store(true)
				return &DeviceError{Device: w.id, Name: w.dev.Name(), Err: fmt.Errorf("%w: no headway for %v", errHung, f.timeout)}
			}
		}
	}
	return first
}

// hanging returns a worker that has made no headway for the timeout.
func (f *fleet) hanging() *worker {
	for _, w := range f.workers {
		if now := w.headway.Load(); now != w.seen {
			w.seen, w.since = now, time.Now()
		}
		if !w.back && time.Since(w.since) >= f.timeout {
			return w
		}
	}
	return nil
}

// without returns the places in the list of devices to leave out from now on: those lost before, a device, and where
// memories are separate all of its memory and as many more as leave a power of two. There is none if nothing is left.
func (f *fleet) without(device int, before []int) (lost []int) {
	drop := func(w *worker) bool { return w.id == device }
	if len(f.homes) > 1 {
		keep := 1
		for 2*keep < len(f.homes) {
			keep *= 2
		}
		failed := f.workers[device].home
		drop = func(w *worker) bool { return w.home == failed || w.home > keep || w.home == keep && failed > keep }
	}
	left, place := 0, 0
	for _, w := range f.workers {
		for slices.Contains(before, place) {
			place++
		}
		if drop(w) {
			lost = append(lost, place)
		} else {
			left++
		}
		place++
	}
	if left == 0 {
		return nil
	}
	return append(lost, before...)
}

// FaultVariable is an environment variable that makes a device fail on purpose, so that tests see what happens then:
// "KIND DEVICE UPDATE" with KIND one of kill (the process), hang, error (of the device) and memory (none is left).
// DEVICE counts over all processes.
const FaultVariable = "BROADSIDE_FAULT"

// fault is a failure on purpose.
type fault struct {
	kind           string
	device, update int
}

// plannedFault reads the variable.
func plannedFault() (*fault, error) {
	text := os.Getenv(FaultVariable)
	if text == "" {
		return nil, nil
	}
	var p fault
	if _, err := fmt.Sscanf(text, "%s %d %d", &p.kind, &p.device, &p.update); err != nil {
		return nil, fmt.Errorf("%s=%q: want KIND DEVICE UPDATE, as in \"hang 1 7\"", FaultVariable, text)
	}
	switch p.kind {
	case "kill", "hang", "error", "memory":
		return &p, nil
	}
	return nil, fmt.Errorf("%s=%q: KIND must be kill, hang, error or memory", FaultVariable, text)
}

// strike fails if it is the worker's turn in an update, counted from 1. A device that was replaced does not fail again.
func (p *fault) strike(w *worker, update int) error {
	if p == nil || update != p.update || w.fleet.first+w.home+w.place*w.fleet.ranks != p.device {
		return nil
	}
	switch p.kind {
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "hang":
		select {}
	case "error":
		return fmt.Errorf("on purpose: %w", table.ErrDevice)
	}
	return fmt.Errorf("%s: on purpose: out of memory", w.dev.Name())
}
