// Package suggest finds what a misspelt name was meant to be.
package suggest

import (
	"fmt"
	"strings"
)

// Nearest returns the candidate nearest to word by edit distance (insert, delete, replace, swap of
// neighbours; case is ignored), or "" if none is near enough to be a misspelling. Of equally near
// candidates the first is returned.
func Nearest(word string, candidates []string) string {
	if len(word) > 64 {
		return ""
	}
	limit := (len(word) + 2) / 3
	best, bestDistance := "", limit+1
	for _, c := range candidates {
		if len(c) > len(word)+limit {
			continue
		}
		if d := editDistance(strings.ToLower(word), strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// editDistance is the optimal string alignment distance, by bytes.
func editDistance(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}

// Unknown returns the error for a name that a registry does not have: what kind of thing it is, the
// name, the nearest name or else all of them.
func Unknown(what, name string, candidates []string) error {
	if near := Nearest(name, candidates); near != "" {
		return fmt.Errorf("unknown %s %s; did you mean %s?", what, quote(name), near)
	}
	return fmt.Errorf("unknown %s %s: want one of %s", what, quote(name), strings.Join(candidates, ", "))
}

// quote quotes a name, cut to a readable length.
func quote(name string) string {
	const most = 60
	if len(name) > most {
		name = name[:most] + "..."
	}
	return fmt.Sprintf("%q", name)
}
