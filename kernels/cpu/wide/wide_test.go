package wide

import (
	"slices"
	"testing"

	"broadside/kernels/cpu"
)

// A processor with AVX2 has the table once this package is linked.
func TestTableIsThere(t *testing.T) {
	if names := cpu.Available(); slices.Contains(names, "avx2") != slices.Contains(names, "wide") {
		t.Errorf("tables %v: avx2 and wide go together", names)
	}
}
