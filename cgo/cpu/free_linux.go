package cpu

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// FreeMemory returns how many bytes can still be allocated, of the machine's memory and, where it is less, of what the
// process's control group may have. ok is false where nobody says.
func (d *Device) FreeMemory() (bytes int64, ok bool) {
	bytes, ok = number("/proc/meminfo", "MemAvailable:")
	bytes *= 1024
	const group = "/sys/fs/cgroup/"
	most, limited := number(group+"memory.max", "")
	used, known := number(group+"memory.current", "")
	if !limited || !known {
		return bytes, ok
	}
	cache, _ := number(group+"memory.stat", "inactive_file") // given up when it is wanted
	if left := most - used + cache; !ok || left < bytes {
		return max(left, 0), true
	}
	return bytes, true
}

// number returns the number that follows a word in a file, or that the file begins with where there is no word.
func number(path, word string) (int64, bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		rest, found := strings.CutPrefix(lines.Text(), word)
		if fields := strings.Fields(rest); found && len(fields) > 0 {
			n, err := strconv.ParseInt(fields[0], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
