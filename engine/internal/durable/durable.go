// Package durable replaces files whole or not at all.
package durable

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// TemporaryMark comes between a file's final name and the writer's process id while it is written.
const TemporaryMark = ".tmp-"

// Replace puts what write writes in the place of path: path holds what it held before or all of the
// new content, even if the machine stops. On an error the temporary file is removed. Two writers of
// one path at a time are not allowed.
func Replace(path string, write func(io.Writer) error) (err error) {
	temporary := fmt.Sprintf("%s%s%d", path, TemporaryMark, os.Getpid())
	if err := Before("create", path); err != nil {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close() // a second time after a failed rename; harmless
			Remove(temporary)
		}
	}()
	w := bufio.NewWriterSize(File{f}, 1<<20)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := (File{f}).Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := Rename(temporary, path); err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// Remove removes a file.
func Remove(path string) error {
	if err := Before("remove", path); err != nil {
		return err
	}
	return os.Remove(path)
}

// File is an open file whose calls can be made to fail.
type File struct{ *os.File }

// Write writes, or a part of p only if it is made to fail.
func (f File) Write(p []byte) (int, error) {
	if err := Before("write", f.Name()); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

// Sync brings what was written to the disk.
func (f File) Sync() error {
	if err := Before("sync", f.Name()); err != nil {
		return err
	}
	return f.File.Sync()
}

// Truncate cuts the file to a size.
func (f File) Truncate(size int64) error {
	if err := Before("truncate", f.Name()); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Append opens a file to read it and to write to its end, and makes it if there is none. A link is not followed.
func Append(path string) (File, error) {
	if err := Before("create", path); err != nil {
		return File{}, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND|syscall.O_NOFOLLOW, 0o644)
	return File{f}, err
}

// Rename renames a file.
func Rename(from, to string) error {
	if err := Before("rename", to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// MakeFolder makes a folder, and those that it is in, where they are not there.
func MakeFolder(path string) error {
	if err := Before("make", path); err != nil {
		return err
	}
	return os.MkdirAll(path, 0o755)
}

// SyncFolder makes a rename in the folder survive a power cut.
func SyncFolder(dir string) error {
	if err := Before("sync", dir); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
