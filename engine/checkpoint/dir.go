package checkpoint

import (
	"broadside/engine/internal/durable"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// stepName matches the names that Path gives, and those of their temporary files.
var stepName = regexp.MustCompile(`^step-([0-9]{9,18})\.safetensors(\.tmp-[0-9]+)?$`)

// Dir is a folder of checkpoints of one run, named by the number of updates done:
// step-000001234.safetensors.
type Dir string

// Found is a checkpoint that Latest has read.
type Found struct {
	*Checkpoint
	Path    string
	Updates int64
	// Warnings name newer checkpoints that could not be used, and why.
	Warnings []string
}

// Path returns the file of the checkpoint after a number of updates.
func (d Dir) Path(updates int64) string {
	return filepath.Join(string(d), fmt.Sprintf("step-%09d.safetensors", updates))
}

// Save writes the checkpoint after a number of updates (see [Write]), making the folder if need be,
// and returns its file.
func (d Dir) Save(updates int64, ck *Checkpoint) (string, error) {
	if updates < 0 {
		return "", fmt.Errorf("checkpoint after %d updates: the number is negative", updates)
	}
	if err := durable.MakeFolder(string(d)); err != nil {
		return "", fmt.Errorf("checkpoint folder: %w", err)
	}
	path := d.Path(updates)
	return path, Write(path, ck)
}

// BestPath is the file of the best checkpoint, which is none of the steps.
func (d Dir) BestPath() string { return filepath.Join(string(d), "best.safetensors") }

// SaveBest replaces the best checkpoint (see [Write]), making the folder if need be. It removes the temporary files that
// a dead process left of earlier ones.
func (d Dir) SaveBest(ck *Checkpoint) error {
	if err := durable.MakeFolder(string(d)); err != nil {
		return fmt.Errorf("checkpoint folder: %w", err)
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return fmt.Errorf("checkpoint folder: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(d.BestPath())+durable.TemporaryMark) {
			if err := durable.Remove(filepath.Join(string(d), e.Name())); err != nil {
				return fmt.Errorf("best checkpoint: %w", err)
			}
		}
	}
	return Write(d.BestPath(), ck)
}

// Latest reads the newest checkpoint that verifies. Newer ones that do not are named in its
// warnings. With none at all the error is [fs.ErrNotExist]; with none that verifies, it joins what is
// wrong with each.
func (d Dir) Latest() (*Found, error) {
	steps, _, err := d.list()
	if err != nil {
		return nil, err
	}
	var failures []error
	found := &Found{}
	for _, updates := range slices.Backward(steps) {
		path := d.Path(updates)
		ck, err := Read(path)
		if err == nil {
			found.Checkpoint, found.Path, found.Updates = ck, path, updates
			return found, nil
		}
		failures = append(failures, err)
		found.Warnings = append(found.Warnings, fmt.Sprintf("skipped a checkpoint that cannot be used: %v", err))
	}
	if len(failures) == 0 {
		return nil, fmt.Errorf("checkpoint folder %s has no step-*.safetensors: %w", d, fs.ErrNotExist)
	}
	return nil, fmt.Errorf("no checkpoint in %s can be used: %w", d, errors.Join(failures...))
}

// NewestOf reads the newest checkpoint after a multiple of every updates. With none the error is [fs.ErrNotExist].
func (d Dir) NewestOf(every int) (*Checkpoint, error) {
	steps, _, err := d.list()
	if err != nil {
		return nil, err
	}
	for _, updates := range slices.Backward(steps) {
		if every > 0 && updates%int64(every) == 0 {
			return Read(d.Path(updates))
		}
	}
	return nil, fmt.Errorf("checkpoint folder %s has none after a multiple of %d updates: %w", d, every, fs.ErrNotExist)
}

// Prune removes all but the newest keep checkpoints (at least one), and the temporary files that a
// dead process left of older steps. With two or more kept, Latest has one to fall back to. Of those after
// a multiple of every updates the newest stays too; with an every of 0, of none.
func (d Dir) Prune(keep, every int) error {
	if keep < 1 {
		return fmt.Errorf("prune checkpoints in %s: cannot keep %d; at least 1 stays", d, keep)
	}
	steps, temporaries, err := d.list()
	if err != nil || len(steps) == 0 {
		return err
	}
	var failures []error
	spared := int64(-1)
	for _, updates := range steps {
		if every > 0 && updates%int64(every) == 0 {
			spared = updates
		}
	}
	for _, updates := range steps[:max(0, len(steps)-keep)] {
		if updates != spared {
			failures = append(failures, durable.Remove(d.Path(updates)))
		}
	}
	newest := steps[len(steps)-1]
	for name, updates := range temporaries {
		if updates < newest { // a later one may be in the making
			failures = append(failures, durable.Remove(filepath.Join(string(d), name)))
		}
	}
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("prune checkpoints: %w", err)
	}
	return nil
}

// Updates is the number of updates that the name of a checkpoint's file tells, and whether it is such a name.
func Updates(name string) (int64, bool) {
	match := stepName.FindStringSubmatch(name)
	if match == nil || match[2] != "" {
		return 0, false
	}
	updates, err := strconv.ParseInt(match[1], 10, 64)
	return updates, err == nil && filepath.Base(Dir("").Path(updates)) == name // no more leading zeros than Path writes
}

// list returns the steps of the folder's checkpoints in rising order, and its temporary files with
// their steps. Other files are left alone.
func (d Dir) list() (steps []int64, temporaries map[string]int64, err error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint folder: %w", err)
	}
	temporaries = map[string]int64{}
	for _, e := range entries {
		match := stepName.FindStringSubmatch(e.Name())
		if match == nil || e.IsDir() {
			continue
		}
		updates, err := strconv.ParseInt(match[1], 10, 64)
		if err != nil || filepath.Base(d.Path(updates)) != "step-"+match[1]+".safetensors" {
			continue // more leading zeros than Path writes
		}
		if match[2] != "" {
			temporaries[e.Name()] = updates
		} else {
			steps = append(steps, updates)
		}
	}
	slices.Sort(steps)
	return steps, temporaries, nil
}
