package collective_test

import (
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/collective"
	"broadside/engine/collective/local"
)

// What is under way can be seen, by those beside it too; and it costs no memory.
func TestWatched(t *testing.T) {
	devices := devicetest.OpenApart(t, 2, 1)
	comms, err := local.New(devices, local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var ends []*collective.Watched
	var buffers []collective.Buffer
	for i, c := range comms {
		ends = append(ends, collective.Watch(c))
		m, err := devices[i].Alloc(300)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Free()
		m.WriteFloats(0, []float32{float32(1 + i)})
		buffers = append(buffers, collective.Whole(m))
	}
	want := func(state string) {
		t.Helper()
		if got := ends[0].State(); got != state {
			t.Errorf("state %q, want %q", got, state)
		}
	}
	want("no collective begun")
	alone := ends[0].AllReduce(buffers[0])
	want("1 collectives begun, 0 over, the last begun is all-reduce of 1.2 kB")
	other := ends[1].AllReduce(buffers[1])
	for _, p := range []collective.Pending{alone, other} {
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	want("1 collectives begun, 1 over, the last begun is all-reduce of 1.2 kB")
	sum := make([]float32, 1)
	if buffers[0].Memory.ReadFloats(0, sum); sum[0] != 3 {
		t.Errorf("sum %v", sum)
	}
	if n := testing.AllocsPerRun(100, func() {
		a, b := ends[0].AllReduce(buffers[0]), ends[1].AllReduce(buffers[1])
		if a.Wait() != nil || b.Wait() != nil {
			t.Error("an all-reduce failed")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	ends[1].Close()
	if err := ends[0].Exchange(make([]float64, 2)); err == nil {
		t.Error("an exchange with a rank that has left succeeded")
	}
	if state := ends[0].State(); !strings.Contains(state, "the last begun is exchange of 16 bytes") {
		t.Errorf("state %q", state)
	}
	ends[0].Close()
}
