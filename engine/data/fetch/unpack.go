package fetch

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"broadside/engine/internal/durable"
)

// What an archive may hold: more than any known one does, and little enough for any disk.
const (
	maxEntries  = 10_000
	maxUnpacked = 4 << 30
)

// limits bound what an archive unpacks to.
type limits struct {
	entries int
	bytes   int64
}

// unpackFile unpacks an archive whose entries lie in the named folder to target, which appears whole or not at all.
func unpackFile(archive, target, folder string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	stage, err := os.MkdirTemp(filepath.Dir(target), "."+filepath.Base(target)+".tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	if err := unpack(f, stage, folder, limits{maxEntries, maxUnpacked}); err != nil {
		return fmt.Errorf("%s cannot be unpacked: %w", filepath.Base(archive), err)
	}
	inside := filepath.Join(stage, folder)
	if info, err := os.Lstat(inside); err != nil || !info.IsDir() {
		return fmt.Errorf("%s holds no folder %s", filepath.Base(archive), folder)
	}
	if err := os.Rename(inside, target); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(target))
}

// unpack writes the entries of a .tar.gz below the directory dir. It writes files and folders only, none twice, and nothing
// outside of dir and folder: an archive with anything else is refused.
func unpack(r io.Reader, dir, folder string, l limits) error {
	root, err := os.OpenRoot(dir) // nothing outside can be reached through it, whatever the names are
	if err != nil {
		return err
	}
	defer root.Close()
	z, err := gzip.NewReader(bufio.NewReaderSize(r, 1<<16))
	if err != nil {
		return err
	}
	// Headers too are bounded, and what lies between entries.
	archive := tar.NewReader(&io.LimitedReader{R: z, N: l.bytes + int64(l.entries)*4096})
	for {
		entry, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if l.entries--; l.entries < 0 {
			return errors.New("it has too many entries")
		}
		if l.bytes -= entry.Size; l.bytes < 0 {
			return fmt.Errorf("entry %q: the archive unpacks to too much", entry.Name)
		}
		if err := unpackEntry(root, archive, entry, folder); err != nil {
			return fmt.Errorf("entry %q: %w", entry.Name, err)
		}
	}
}

// unpackEntry writes one file or makes one folder.
func unpackEntry(root *os.Root, r io.Reader, entry *tar.Header, folder string) error {
	if entry.Typeflag == tar.TypeXGlobalHeader { // says nothing of files
		return nil
	}
	name := path.Clean(entry.Name)
	if !filepath.IsLocal(entry.Name) || strings.Contains(entry.Name, `\`) || name != folder && !strings.HasPrefix(name, folder+"/") {
		return fmt.Errorf("lies outside of the folder %s", folder)
	}
	switch entry.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
	default:
		return fmt.Errorf("is neither a file nor a folder (type %q)", entry.Typeflag)
	}
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		if errors.Is(err, fs.ErrExist) {
			return errors.New("is there twice")
		}
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}
