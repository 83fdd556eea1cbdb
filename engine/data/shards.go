package data

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// WebDataset archives are tar files NAME-000.tar, NAME-001.tar and so on. The members of a sample stand side by side and
// have its key as their name up to the first dot: KEY.jpg, KEY.cls. The image is a .jpg, .jpeg or .png, the label a
// whole number in a .cls, or the label of a .json. Archives are read where they lie: nothing is unpacked, and a name in
// them is never that of a file.

// maxClasses bounds the labels of archives, which nothing else tells apart from damage.
const maxClasses = 1 << 16

// maxLabelBytes bounds the member that holds a label.
const maxLabelBytes = 1 << 16

// shardName splits the name of an archive into that of its set and its number.
var shardName = regexp.MustCompile(`^(.*?)[-_.]?(\d*)\.tar$`)

// loadShards loads a folder of WebDataset archives.
func loadShards(f folder, base Set, spec Spec) (*Pair, error) {
	trainShards, testShards, err := f.shards()
	if err != nil {
		return nil, err
	}
	train, err := f.members(trainShards)
	if err != nil {
		return nil, err
	}
	test, err := f.members(testShards)
	if err != nil {
		return nil, err
	}
	base.Classes = int(slices.Max(append(slices.Clone(train.labels), test.labels...))) + 1
	return filesPair(f, base, spec, train, test)
}

// shards are the archives to train on and those to test on.
func (f folder) shards() (train, test []string, err error) {
	entries, err := fs.ReadDir(f.fs, ".")
	if err != nil {
		return nil, nil, fmt.Errorf("data folder %s: %w", f.name, reason(err))
	}
	sets := map[string][]string{}
	for _, e := range entries {
		if m := shardName.FindStringSubmatch(e.Name()); m != nil && !strings.HasPrefix(e.Name(), ".") && !e.IsDir() {
			sets[m[1]] = append(sets[m[1]], e.Name())
		}
	}
	names := slices.Sorted(maps.Keys(sets))
	for _, name := range names {
		if err := f.checkNumbers(sets[name]); err != nil {
			return nil, nil, err
		}
	}
	trains := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.Contains(name, "train") })
	tests := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.Contains(name, "val") && !strings.Contains(name, "test") })
	switch {
	case len(names) == 0:
		return nil, nil, fmt.Errorf("data folder %s has no archives: it needs NAME-000.tar and so on", f.name)
	case len(names) == 1:
		return sets[names[0]], nil, nil
	case len(names) == 2 && len(trains) == 1 && len(tests) == 1 && trains[0] != tests[0]:
		return sets[trains[0]], sets[tests[0]], nil
	}
	return nil, nil, fmt.Errorf("data folder %s has archives of the sets %s: it needs one set, or one with train and one with val in its name", f.name, strings.Join(names, ", "))
}

// checkNumbers refuses a set of archives of which some are missing.
func (f folder) checkNumbers(names []string) error {
	have := map[int]bool{}
	for _, name := range names {
		n, err := strconv.Atoi(shardName.FindStringSubmatch(name)[2])
		if err != nil {
			return nil // one archive, or names of another kind
		}
		have[n] = true
	}
	numbers := slices.Sorted(maps.Keys(have))
	for i, n := range numbers {
		if n != numbers[0]+i {
			return fmt.Errorf("data folder %s has the archives %s to %s, but none with the number %d", f.name, names[0], names[len(names)-1], numbers[0]+i)
		}
	}
	return nil
}

// members are the samples of archives, read side by side.
func (f folder) members(shards []string) (all labelled, err error) {
	found, errs := make([]labelled, len(shards)), make([]error, len(shards))
	var group sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, shard := range shards {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			found[i], errs[i] = f.shard(shard)
		})
	}
	group.Wait()
	for i, l := range found {
		if errs[i] != nil {
			return all, errs[i]
		}
		all.entries, all.labels = append(all.entries, l.entries...), append(all.labels, l.labels...)
	}
	return all, nil
}

// shard are the samples of an archive.
func (f folder) shard(name string) (out labelled, err error) {
	file, err := f.fs.Open(name)
	if err != nil {
		return out, fmt.Errorf("data file %s: %w", f.path(name), reason(err))
	}
	defer file.Close()
	info, err := file.Stat()
	seeker, ok := file.(io.ReadSeeker)
	if err == nil && !ok {
		err = errors.New("cannot be read at a place")
	}
	if err == nil {
		out, err = indexShard(seeker, info.Size(), name)
	}
	if err != nil {
		return out, fmt.Errorf("data file %s: %w", f.path(name), reason(err))
	}
	return out, nil
}

// indexing is an archive being read.
type indexing struct {
	shard string
	key   string // of the sample at hand
	image entry
	label int32 // -1: none yet
	out   labelled
}

// indexShard finds the samples of an archive of a size.
func indexShard(r io.ReadSeeker, size int64, shard string) (labelled, error) {
	x := &indexing{shard: shard, label: -1}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return labelled{}, fmt.Errorf("is damaged behind sample %.60q: %w", x.key, err)
		}
		at, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return labelled{}, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Size > size-at {
			return labelled{}, fmt.Errorf("is truncated: member %.60q ends behind it", h.Name)
		}
		if err := x.member(h, at, archive); err != nil {
			return labelled{}, fmt.Errorf("member %.60q: %w", h.Name, err)
		}
	}
	if err := x.end(); err != nil {
		return labelled{}, err
	}
	if len(x.out.labels) == 0 {
		return labelled{}, errors.New("has no samples")
	}
	return x.out, nil
}

// member takes a member of the archive in.
func (x *indexing) member(h *tar.Header, at int64, content io.Reader) error {
	dir, base := path.Split(h.Name)
	key, extension, ok := strings.Cut(base, ".")
	if !ok || key == "" {
		return nil
	}
	if key = dir + key; key != x.key {
		if err := x.end(); err != nil {
			return err
		}
		x.key = key
	}
	for record := range h.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return errors.New("is stored with holes, which is not supported")
		}
	}
	switch strings.ToLower(extension) {
	case "jpg", "jpeg", "png":
		if x.image.shard != "" {
			return errors.New("is the second image of its sample")
		}
		x.image = entry{name: x.shard + "/" + h.Name, shard: x.shard, at: at, size: h.Size}
	case "cls":
		return x.read(content, func(text []byte) (int64, error) {
			label, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 31)
			return int64(label), err
		})
	case "json":
		if x.label < 0 {
			return x.read(content, jsonLabel)
		}
	}
	return nil
}

// jsonLabel is the label of an object, -1 without one: it may say other things of a sample.
func jsonLabel(text []byte) (int64, error) {
	object := struct {
		Label int64 `json:"label"`
	}{-1}
	err := json.Unmarshal(text, &object)
	return object.Label, err
}

// read takes the label from a member.
func (x *indexing) read(content io.Reader, parse func([]byte) (int64, error)) error {
	text, err := io.ReadAll(io.LimitReader(content, maxLabelBytes+1))
	if err != nil {
		return err
	}
	if len(text) > maxLabelBytes {
		return fmt.Errorf("is longer than %d bytes, which no label needs", maxLabelBytes)
	}
	label, err := parse(text)
	if err != nil || label < -1 || label >= maxClasses {
		return fmt.Errorf("has no label, which is a whole number from 0 to %d: %.40q", maxClasses-1, text)
	}
	x.label = int32(label)
	return nil
}

// end ends the sample at hand. Members with neither image nor label, such as a description of the archive, are no sample.
func (x *indexing) end() error {
	switch {
	case x.image.shard != "" && x.label >= 0:
		x.out.add(x.image, x.label)
	case x.image.shard != "":
		return fmt.Errorf("sample %.60q has an image but no label: it needs a .cls, or a .json with \"label\"", x.key)
	case x.label >= 0:
		return fmt.Errorf("sample %.60q has a label but no image: it needs a .jpg, .jpeg or .png", x.key)
	}
	x.image, x.label = entry{}, -1
	return nil
}
