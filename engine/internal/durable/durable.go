// Package durable replaces files whole or not at all.
package durable

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// TemporaryMark comes between a file's final name and the writer's process id while it is written.
const TemporaryMark = ".tmp-"

// Replace puts what write writes in the place of path: path holds what it held before or all of the
// new content, even if the machine stops. On an error the temporary file is removed. Two writers of
// one path at a time are not allowed.
func Replace(path string, write func(io.Writer) error) (err error) {
	temporary := fmt.Sprintf("%s%s%d", path, TemporaryMark, os.Getpid())
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close() // a second time after a failed rename; harmless
			os.Remove(temporary)
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// SyncFolder makes a rename in the folder survive a power cut.
func SyncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
