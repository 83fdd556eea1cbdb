package data

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
)

// Name is the file's name.
func (d *Download) Name() string { return path.Base(d.URL) }

// Check compares what r holds with the published size and checksum.
func (d *Download) Check(r io.Reader) error {
	_, err := checkSum(r, d.Bytes, d.MD5, d.SHA256)
	return err
}

// The states of a file.
const (
	FileOK      = "ok"      // as published
	FileDamaged = "damaged" // not as published, or it contradicts itself
	FileMissing = "missing"
	FileUnknown = "unknown" // no checksum of it is published
)

// FileState says how a file of a data set compares with what is published of it.
type FileState struct {
	File  string `json:"file"`
	State string `json:"state"`
	// What was compared, or what is wrong.
	Detail string `json:"detail"`
}

// Verify compares every file of a data set with its published checksum, or a packed file with its own. It reads all of each.
// Whether the files hold what the set needs is for [Open] to say.
func Verify(spec Spec) ([]FileState, error) {
	d, err := lookup(spec.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case d.Bundled:
		return nil, nil
	case spec.Path == "":
		return nil, d.needsPath()
	case d.Name == "packed":
		return verifyPacked(spec.Path)
	case d.loadPath != nil:
		return nil, nil
	}
	f, err := openFolder(spec.Path, d.folder)
	if err != nil {
		return nil, err
	}
	var states []FileState
	for _, c := range officials[d.Name].contents {
		states = append(states, c.verify(f))
	}
	return states, nil
}

// verify compares a file of the folder.
func (c *Content) verify(f folder) FileState {
	name, err := f.find(c.names...)
	if errors.Is(err, fs.ErrNotExist) {
		return FileState{f.path(c.names[0]), FileMissing, "no such file"}
	}
	state := FileState{File: f.path(name), State: FileDamaged}
	if err != nil {
		state.Detail = reason(err).Error()
		return state
	}
	src, err := f.open(name)
	if err != nil {
		state.Detail = err.Error()
		return state
	}
	defer src.Close()
	kind, err := checkSum(src, c.Bytes, c.MD5, c.SHA256)
	switch {
	case err != nil:
		state.Detail = err.Error()
	case kind == "":
		state.State, state.Detail = FileUnknown, "no checksum is published; it has the right size"
	default:
		state.State, state.Detail = FileOK, kind
	}
	if !src.exact {
		state.Detail = "unpacked: " + state.Detail
	}
	return state
}

// checkSum reads r, which must hold size bytes with the better of the given checksums, and says which one that is. Nothing
// behind the bytes is read but one more byte.
func checkSum(r io.Reader, size int64, md5Sum, sha256Sum string) (string, error) {
	kind, sum, want := "", hash.Hash(nil), ""
	switch {
	case sha256Sum != "":
		kind, sum, want = "SHA-256", sha256.New(), sha256Sum
	case md5Sum != "":
		kind, sum, want = "MD5", md5.New(), md5Sum
	}
	var to io.Writer = io.Discard
	if sum != nil {
		to = sum
	}
	n, err := io.Copy(to, io.LimitReader(r, size+1))
	switch {
	case err != nil:
		return kind, err
	case n > size:
		return kind, fmt.Errorf("it has more than the published %d bytes", size)
	case n < size:
		return kind, fmt.Errorf("it has %d bytes; %d are published", n, size)
	case sum == nil:
		return "", nil
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return kind, fmt.Errorf("its %s is %s; %s is published", kind, got, want)
	}
	return kind, nil
}

// verifyPacked checks a packed file, and lists every damaged chunk.
func verifyPacked(path string) ([]FileState, error) {
	file, unmap, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("packed file %s: %w", path, reason(err))
	}
	defer unmap()
	h, err := readPackHeader(file)
	if err != nil {
		return []FileState{{path, FileDamaged, err.Error()}}, nil
	}
	var states []FileState
	for _, what := range h.damage(file) {
		states = append(states, FileState{path, FileDamaged, what})
	}
	if len(states) == 0 {
		states = []FileState{{path, FileOK, fmt.Sprintf("CRC-32C of the header and of %d chunks", len(h.sums))}}
	}
	return states, nil
}
