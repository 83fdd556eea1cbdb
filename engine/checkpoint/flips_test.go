package checkpoint

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// A flipped bit in any byte of the newest checkpoint: the one before it is used, and the warning names the file and what
// is damaged: the header, or the tensor and where it begins.
func TestEveryFlipFallsBack(t *testing.T) {
	d := Dir(t.TempDir())
	good := save(t, d, 1)
	bad, err := d.Save(2, sample())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	start := lengthBytes + int(binary.LittleEndian.Uint64(raw))
	entries, _, err := parseHeader(raw[lengthBytes:start])
	if err != nil {
		t.Fatal(err)
	}
	tensors := 0
	for at := range raw {
		flipped := slices.Clone(raw)
		flipped[at] ^= 1 << (at % 8)
		if err := os.WriteFile(bad, flipped, 0o644); err != nil {
			t.Fatal(err)
		}
		found, err := d.Latest()
		if err != nil {
			t.Fatalf("byte %d: %v", at, err)
		}
		want := "header"
		for _, e := range entries {
			if data := at - start; int64(data) >= e.begin && int64(data) < e.end {
				want = fmt.Sprintf("tensor %q at offset %d is damaged", e.name, start+int(e.begin))
				tensors++
			}
		}
		if found.Path != good || len(found.Warnings) != 1 || !strings.Contains(found.Warnings[0], bad) || !strings.Contains(found.Warnings[0], want) {
			t.Fatalf("byte %d of %d: found %s, warnings %q; want %s", at, len(raw), found.Path, found.Warnings, want)
		}
	}
	if tensors != len(raw)-start {
		t.Errorf("%d of %d bytes of data belong to a tensor", tensors, len(raw)-start)
	}
	t.Logf("%d bytes, %d of them in tensors", len(raw), tensors)
}

// Headers that speak of more than the file holds are refused before memory is asked for.
func TestAbsurdHeadersAllocateLittle(t *testing.T) {
	long := foreign(foreignHeader, make([]byte, 8)...)
	binary.LittleEndian.PutUint64(long, 1<<62)
	for name, raw := range map[string][]byte{
		"a header of 4 exabytes":  long,
		"a shape beyond the file": foreign(`{"w":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}`, make([]byte, 4)...),
		"a shape that overflows":  foreign(`{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`),
		"arrays within arrays":    foreign(`{"w":{"shape":` + strings.Repeat("[", 50000)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := decodeBytes(raw)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; err == nil || used > 2<<20 {
			t.Errorf("%s: error %v, %d bytes allocated", name, err, used)
		}
	}
}
