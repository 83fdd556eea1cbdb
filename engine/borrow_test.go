package engine

import (
	"slices"
	"testing"

	"broadside/engine/data"
	"broadside/kernels"
)

// lender is a device that reads in place.
type lender struct {
	kernels.Device
	borrowed, copied [][]byte
}

func (l *lender) BorrowBytes(b []byte) kernels.Memory {
	l.borrowed = append(l.borrowed, b)
	return nil
}

func (l *lender) AllocBytes(b []byte) (kernels.Memory, error) {
	l.copied = append(l.copied, b)
	return nil, nil
}

// Only a mapped set is read in place: C must not keep memory of Go.
func TestOnlyMappedSetsAreBorrowed(t *testing.T) {
	l, set := &lender{}, &data.Set{Images: []byte{1, 2, 3}}
	for _, mapped := range []bool{false, true} {
		set.Mapped = mapped
		if _, err := imagesOn(l, set); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.borrowed) != 1 || len(l.copied) != 1 || !slices.Equal(l.borrowed[0], set.Images) {
		t.Errorf("borrowed %v, copied %v", l.borrowed, l.copied)
	}
	var copying kernels.Device = struct{ kernels.Device }{l} // knows nothing of borrowing
	if _, err := imagesOn(copying, set); err != nil || len(l.copied) != 2 {
		t.Errorf("copied %v, %v", l.copied, err)
	}
}
