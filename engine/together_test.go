package engine

import (
	"strings"
	"testing"

	"broadside/cgo/device/devicetest"
	"broadside/engine/data"
)

// Methods whose ways to compute an update do not go together are refused with the reason.
func TestMethodsThatDoNotGoTogether(t *testing.T) {
	pair := &data.Pair{Train: synthetic(11*32, 8, 3, 4), Test: synthetic(5, 8, 3, 4)}
	for both, want := range map[string]string{
		"batchaug: {copies: 2}, disadv: {}":                   "what an update trains on",
		"smallloss: {keep: 0.5}, conadv: {}":                  "what an update trains on",
		"free: {}, batchaug: {copies: 2}":                     "what an update trains on",
		"sam: {}, disadv: {}":                                 "second gradient",
		"batchaug: {copies: 2}, swap: {batch: 32, epochs: 1}": "replicas",
		"sam: {}, batchaug: {copies: 2}":                      "",
	} {
		one, two, _ := strings.Cut(both, "}, ")
		r := parseRecipe(t, smallText+"methods: [{"+one+"}}, {"+two+"}]\n", "batch.drop_last=true")
		f, err := openOn(r, pair, devicetest.Open(t, 1), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newTrainer(f, r, &tape{}); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", both, err)
		}
		f.close()
	}
}
