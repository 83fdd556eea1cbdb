//go:build unix

package telemetry

import (
	"bufio"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// PeakMemory returns the most memory the process has had resident, in bytes; 0 if the system does
// not say. Linux tells it in /proc, other systems in their resource usage.
func PeakMemory() int64 {
	if f, err := os.Open("/proc/self/status"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if peak, ok := highWater(lines.Text()); ok {
				return peak
			}
		}
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return int64(usage.Maxrss) // bytes
	}
	return int64(usage.Maxrss) * 1024
}

// highWater reads a line like "VmHWM:	    5124 kB".
func highWater(line string) (int64, bool) {
	fields := strings.Fields(line)
	if len(fields) != 3 || fields[0] != "VmHWM:" || fields[2] != "kB" {
		return 0, false
	}
	kb, err := strconv.ParseInt(fields[1], 10, 64)
	return kb * 1024, err == nil
}
