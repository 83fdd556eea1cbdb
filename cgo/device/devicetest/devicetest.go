// Package devicetest gives tests the devices to run on, so that the same tests hold CPUs and GPUs to account.
package devicetest

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"broadside/cgo/cuda"
	"broadside/cgo/device"
	"broadside/kernels"
)

// Variable is the environment variable that names what tests run on: cpu, the default, or cuda.
const Variable = "BROADSIDE_TEST_DEVICE"

// Open returns n devices of one memory: CPUs, or streams of the first GPU. The caller closes them.
func Open(t testing.TB, n int) []kernels.Device {
	t.Helper()
	kind, count := "cpu", n
	if os.Getenv(Variable) == "cuda" {
		kind, count = "cuda:0"+strings.Repeat(",0", n-1), 0
	}
	devices, err := device.Open(kind, count, n)
	if err != nil {
		t.Fatal(err)
	}
	return devices
}

// OpenApart returns devices of separate memories, `each` of every one: CPUs, or streams of as many GPUs. The test is
// skipped where there are fewer GPUs. The caller closes them.
func OpenApart(t testing.TB, memories, each int) []kernels.Device {
	t.Helper()
	kind := "cpu"
	if OnGPU() {
		kind = "cuda"
		if gpus, err := cuda.GPUs(); err != nil || len(gpus) < memories {
			t.Skipf("%d GPUs wanted: there are %d (%v)", memories, len(gpus), err)
		}
	}
	var list []string
	for i := range memories * each {
		list = append(list, strconv.Itoa(i/each))
	}
	devices, err := device.Open(kind+":"+strings.Join(list, ","), 0, memories*each)
	if err != nil {
		t.Fatal(err)
	}
	return devices
}

// OnGPU reports whether tests run on a GPU.
func OnGPU() bool { return os.Getenv(Variable) == "cuda" }
