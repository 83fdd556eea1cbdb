package engine

import (
	"fmt"
	"os"
	"path/filepath"
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

// sameRecipe refuses to resume with another recipe. Where the data lie and how often checkpoints are
// written may change.
func sameRecipe(stored, given string) error {
	a, b := strings.Split(stored, "\n"), strings.Split(given, "\n")
	section := ""
	for i := range max(len(a), len(b)) {
		x, y := line(a, i), line(b, i)
		if !strings.HasPrefix(x, " ") {
			section, _, _ = strings.Cut(x, ":")
		}
		free := strings.HasPrefix(x, "  path:") || strings.HasPrefix(x, "  on_device_loss:") || strings.HasPrefix(x, "  every_updates:") || strings.HasPrefix(x, "  every_minutes:") || strings.HasPrefix(x, "  keep:")
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
