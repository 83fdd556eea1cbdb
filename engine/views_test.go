package engine

import (
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
)

// What an update trains on beside its samples is one method's to decide.
func TestTwoKindsOfViewsAreRefused(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for _, both := range []string{"batchaug: {copies: 2}, disadv: {}", "smallloss: {keep: 0.5}, conadv: {}", "free: {}, batchaug: {copies: 2}"} {
		one, two, _ := strings.Cut(both, "}, ")
		r := parseRecipe(t, smallText+"methods: [{"+one+"}}, {"+two+"}]\n", "batch.drop_last=true")
		f, err := openOn(r, pair, devicetest.Open(t, 1), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newTrainer(f, r, &tape{}); err == nil || !strings.Contains(err.Error(), "both decide what an update trains on") {
			t.Errorf("%s: %v", both, err)
		}
		f.close()
	}
}
