package table

import "testing"

func TestShapesHaveTheLayoutOfC(t *testing.T) {
	for name, size := range layouts() {
		if size[0] != size[1] {
			t.Errorf("%s: %d bytes in Go, %d in C", name, size[0], size[1])
		}
	}
}
