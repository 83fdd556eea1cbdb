package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

// storedRecipe returns the recipe of a run directory as this version writes it. A key that it lacks, because the key is
// newer than the version that began the run, has its default: what every version did before it had the key.
func storedRecipe(dir string) (string, error) {
	path := filepath.Join(dir, telemetry.RecipeFile)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("run directory: %w", err)
	}
	r, err := recipe.Load(path, nil)
	if err == nil {
		_, err = openMethods(r) // writes out their options
	}
	var text []byte
	if err == nil {
		text, err = r.YAML()
	}
	if err != nil {
		return "", fmt.Errorf("the recipe that the run in %s began with: %w", dir, err)
	}
	return string(text), nil
}

// freeKeys are what a resume may change: where the data lie, what is written and how often.
var freeKeys = []string{"path", "on_device_loss", "log_per_epoch", "every_updates", "every_minutes", "keep", "best"}

// sameRecipe refuses to resume with another recipe, but for freeKeys.
func sameRecipe(stored, given string) error {
	a, b := strings.Split(stored, "\n"), strings.Split(given, "\n")
	section := ""
	for i := range max(len(a), len(b)) {
		x, y := line(a, i), line(b, i)
		if !strings.HasPrefix(x, " ") {
			section, _, _ = strings.Cut(x, ":")
		}
		free := slices.ContainsFunc(freeKeys, func(key string) bool { return strings.HasPrefix(x, "  "+key+":") })
		if x != y && !free {
			return fmt.Errorf("%s of the recipe has %q where the run began with %q: a resume must not change it",
				section, strings.TrimSpace(y), strings.TrimSpace(x))
		}
	}
	return nil
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}
