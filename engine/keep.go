package engine

import (
	"time"

	"broadside/engine/checkpoint"
)

// keeper writes checkpoints while training goes on, one at a time. What it is given must not change any more.
type keeper struct {
	dir     checkpoint.Dir
	keep    int        // newest checkpoints that stay
	every   int        // of the checkpoints after a multiple of so many updates the newest stays too; 0: of none
	writing chan error // the write under way; nil if there is none
	failed  error      // of a write that has ended
}

// start writes the checkpoint after a number of updates, once the one before it is written.
func (k *keeper) start(updates int, ck *checkpoint.Checkpoint) error {
	if err := k.wait(); err != nil {
		return err
	}
	done := make(chan error, 1)
	k.writing = done
	go func() { done <- k.write(updates, ck) }()
	return nil
}

func (k *keeper) write(updates int, ck *checkpoint.Checkpoint) error {
	if _, err := k.dir.Save(int64(updates), ck); err != nil {
		return err
	}
	return k.dir.Prune(k.keep, k.every)
}

// wait returns when all is written, or could not be.
func (k *keeper) wait() error {
	if k.writing != nil {
		k.failed = <-k.writing
		k.writing = nil
	}
	return k.failed
}

// poll returns what went wrong so far, without waiting.
func (k *keeper) poll() error {
	select {
	case k.failed = <-k.writing: // never, if nothing is being written
		k.writing = nil
	default:
	}
	return k.failed
}

// What a process asks for after an update; the most that any of them asks for is done.
const (
	goOn = iota
	keepNow
	stopNow
)

// asked returns what this process asks for: to stop, or to keep a checkpoint because of a request or of the time.
func (t *trainer) asked(stopped bool) int {
	switch {
	case stopped:
		return stopNow
	case t.cfg.saveEvery > 0 && time.Since(t.saved) >= t.cfg.saveEvery:
		return keepNow
	}
	select {
	case <-t.cfg.save:
		return keepNow
	default:
		return goOn
	}
}

// minutes is a recipe's number of minutes.
func minutes(n float64) time.Duration { return time.Duration(n * float64(time.Minute)) }
