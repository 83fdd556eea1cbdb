package cpu

import (
	"runtime"
	"testing"
)

// How fast a machine is, no test can know; but rates are positive, and time passes.
func TestPeakAndBandwidth(t *testing.T) {
	for _, isa := range append(Available(), "") {
		if rate, err := Peak(isa); err != nil || !(rate > 1e6) {
			t.Errorf("peak of %q: %g, %v", isa, rate, err)
		}
	}
	if _, err := Peak("sse9"); err == nil {
		t.Error("a peak of sse9")
	}
	if rate := PeakBF16(); rate < 0 {
		t.Errorf("bf16 peak %g", rate)
	}
	if rate, err := Bandwidth(); err != nil || !(rate > 1e6) {
		t.Errorf("bandwidth %g, %v", rate, err)
	}
}

func TestThreadSecondsRise(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	start := ThreadSeconds()
	if _, err := Peak(base()); err != nil {
		t.Fatal(err)
	}
	if took := ThreadSeconds() - start; !(took > 0.01) {
		t.Errorf("measuring the peak took %g s of processor time", took)
	}
}
