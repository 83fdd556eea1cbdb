package collective

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestAwait(t *testing.T) {
	const limit = 50 * time.Millisecond
	done := make(chan struct{})
	born := time.Now()
	start := time.Now()
	if Await(done, limit, func() time.Time { return born }) {
		t.Error("nobody lives, and it waits to the end")
	}
	if took := time.Since(start); took < limit-10*time.Millisecond || took > 20*limit {
		t.Errorf("it waited for %v of silence, want %v", took, limit)
	}
	var beats atomic.Int32
	time.AfterFunc(4*limit, func() { close(done) })
	if !Await(done, limit, func() time.Time { beats.Add(1); return time.Now() }) {
		t.Error("it did not wait for one who lives")
	}
	if beats.Load() < 3 {
		t.Errorf("it looked for signs of life %d times", beats.Load())
	}
	if !Await(done, limit, func() time.Time { return time.Time{} }) {
		t.Error("it does not see that all is done")
	}
}
