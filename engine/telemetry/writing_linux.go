package telemetry

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// mark locks an event log while it is open, for others to see that the run goes on. It fails if another process, or
// another opening of this one, has the lock. The kernel removes it with the process. Where the file system knows no
// locks there is no mark.
func mark(events *os.File) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(events.Fd(), unix.F_OFD_SETLK, &lock); errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return errors.New("another process is writing to it")
	}
	return nil
}

// Writing reports whether a process has this event log open to write to it. It takes no lock itself. Where the file
// system knows no locks, it reports whether the log was written to in the last minute.
func Writing(events *os.File) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(events.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return recent(events)
	}
	return lock.Type != unix.F_UNLCK
}
