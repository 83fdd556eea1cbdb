package device

import (
	"strings"
	"testing"

	"broadside/cgo/cuda"
)

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		kind        string
		count, most int
		err         string // "" for none
	}{
		{"cpu", 3, 4, ""},
		{"cpu", 0, 1, ""},
		{"cpu", 5, 4, "5 devices: must be between 1 and batch.lanes, 4"},
		{"cpu", -1, 4, "-1 devices"},
		{"gpu", 1, 4, `unknown device "gpu"`},
		{"cpu:0", 1, 4, ""},
		{"cpu:0,0,1,1", 4, 4, ""},
		{"cpu:0,1", 3, 4, "it names 2 devices, and 3 are wanted"},
		{"cpu:0,x", 0, 4, `"x" is no number from 0 to 3`},
		{"cpu:0,4", 0, 4, `"4" is no number from 0 to 3`},
	} {
		devices, err := Open(c.kind, c.count, c.most)
		switch {
		case c.err == "" && (err != nil || len(devices) != max(c.count, 1)):
			t.Errorf("Open(%q, %d, %d): %d devices, %v", c.kind, c.count, c.most, len(devices), err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("Open(%q, %d, %d): %v, want an error with %q", c.kind, c.count, c.most, err, c.err)
		}
		for _, d := range devices {
			d.Close()
		}
	}
}

// Where there is no GPU, auto is the CPU and cuda says why not.
func TestOpenWithoutGPU(t *testing.T) {
	if gpus, err := cuda.GPUs(); err == nil {
		t.Skipf("this machine has %d GPUs", len(gpus))
	}
	devices, err := Open("auto", 1, 1)
	if err != nil || len(devices) != 1 || devices[0].Space() != "host" {
		t.Errorf("auto: %v, %v", devices, err)
	}
	for _, kind := range []string{"cuda", "cuda:0,0"} {
		_, err := Open(kind, 0, 4)
		want := "make cuda"
		if cuda.Built {
			want = "device " + kind // and why not
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", kind, err, want)
		}
	}
}
