// Package sweep trains a recipe at every point of a grid of settings, each in a run directory of its own below one
// directory. A sweep that was stopped goes on where it was.
package sweep

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Axis is a key of the recipe with the values that it takes.
type Axis struct {
	Key    string
	Values []string
}

// ParseAxis reads "key=value,value". Commas inside brackets, braces or quotes belong to a value.
func ParseAxis(text string) (Axis, error) {
	key, list, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return Axis{}, fmt.Errorf("--set %s: want key=value,value with a dotted key, like batch.size=64,128", text)
	}
	a := Axis{Key: key}
	for _, v := range split(list) {
		switch {
		case v == "" && list != "":
			return Axis{}, fmt.Errorf("--set %s: a value between commas is empty", text)
		case slices.Contains(a.Values, v):
			return Axis{}, fmt.Errorf("--set %s: %s is listed twice", text, v)
		}
		a.Values = append(a.Values, v)
	}
	return a, nil
}

// split cuts a list at its commas, but for those inside brackets, braces or quotes.
func split(list string) (out []string) {
	depth, quote, start := 0, rune(0), 0
	for i, c := range list {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 0:
			out, start = append(out, strings.TrimSpace(list[start:i])), i+1
		}
	}
	return append(out, strings.TrimSpace(list[start:]))
}

// seedKey is the key of the seeds.
const seedKey = "train.seed"

// axes are the axes of a sweep: the settings, and the seeds if there are any.
func axes(settings []Axis, seeds []uint64) ([]Axis, error) {
	all := slices.Clone(settings)
	if len(seeds) > 0 {
		a := Axis{Key: seedKey}
		for _, s := range seeds {
			v := strconv.FormatUint(s, 10)
			if slices.Contains(a.Values, v) {
				return nil, fmt.Errorf("--seeds: %s is listed twice", v)
			}
			a.Values = append(a.Values, v)
		}
		all = append(all, a)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.Key == b.Key {
				return nil, fmt.Errorf("%s is swept twice: give all its values in one --set, and seeds by --seeds", a.Key)
			}
		}
	}
	return all, nil
}

// Setting is a key with a value.
type Setting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func (s Setting) String() string { return s.Key + "=" + s.Value }

// maxRuns bounds a grid, of which a mistyped axis may make far too many runs.
const maxRuns = 10000

// grid returns every combination of the axes' values, the last axis running fastest.
func grid(all []Axis) ([][]Setting, error) {
	points := [][]Setting{nil}
	for _, a := range all {
		if len(points)*len(a.Values) > maxRuns {
			return nil, fmt.Errorf("a grid of more than %d runs: give fewer values", maxRuns)
		}
		var next [][]Setting
		for _, p := range points {
			for _, v := range a.Values {
				next = append(next, append(slices.Clone(p), Setting{a.Key, v}))
			}
		}
		points = next
	}
	return points, nil
}

// folders names a directory for each point by the settings that vary.
func folders(dir string, points [][]Setting, varies func(key string) bool) []string {
	out := make([]string, len(points))
	for i, p := range points {
		var parts []string
		for _, s := range p {
			if varies(s.Key) {
				parts = append(parts, clean(s.String()))
			}
		}
		name := strings.Join(parts, ",")
		if name == "" {
			name = "run"
		}
		if path := filepath.Join(dir, name); len(name) <= 200 && !slices.Contains(out[:i], path) {
			out[i] = path
		} else { // too long, or two values that differ in what a folder's name cannot have
			out[i] = filepath.Join(dir, fmt.Sprintf("point-%04d", i+1))
		}
	}
	return out
}

// clean keeps what every file system takes.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("=.+-_", r) {
			return r
		}
		return '-'
	}, text)
}
