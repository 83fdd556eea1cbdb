package cpu

import (
	"runtime"
	"slices"
	"strings"
	"testing"
)

// base is the table that every processor of this architecture can run.
func base() string {
	if runtime.GOARCH == "arm64" {
		return "neon"
	}
	return "scalar"
}

func TestEveryAvailableTableLoads(t *testing.T) {
	names := Available()
	if len(names) == 0 || names[len(names)-1] != base() {
		t.Fatalf("tables %v, want %s as the last", names, base())
	}
	for _, name := range names {
		table, err := Table(name)
		if err != nil || table == nil {
			t.Errorf("table %q: %v", name, err)
		}
	}
	best, err := Table("")
	if err != nil {
		t.Fatal(err)
	}
	if first, _ := Table(names[0]); best != first {
		t.Errorf("the best table is not %q", names[0])
	}
}

func TestOtherTablesAreRefused(t *testing.T) {
	for _, name := range []string{"AVX2", "sse9", "avx2 ", "avx512"} {
		if slices.Contains(Available(), name) {
			continue
		}
		if _, err := Table(name); err == nil || !strings.Contains(err.Error(), base()) {
			t.Errorf("table %q: %v, want an error that lists what there is", name, err)
		}
	}
}
