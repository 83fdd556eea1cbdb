package data

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// maxSetBytes bounds what one file may hold once unpacked; the largest file read here has 154 MB.
const maxSetBytes = 1 << 30

// maxDeflateRatio bounds how much DEFLATE can grow: a file cannot unpack to more than this many
// times its own size (RFC 1951 codes at most 258 bytes in 2 bits).
const maxDeflateRatio = 1032

// folder is a place that data files are read from.
type folder struct {
	fs   fs.FS
	name string // for error messages
}

// openFolder returns the folder at dir, or its child sub (the folder that the official archive
// unpacks to) where there is one.
func openFolder(dir, sub string) (folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return folder{}, fmt.Errorf("data folder %s: %w", dir, reason(err))
	}
	if !info.IsDir() {
		return folder{}, fmt.Errorf("data folder %s is a file; give the folder that holds it", dir)
	}
	if sub != "" {
		if child, err := os.Stat(path.Join(dir, sub)); err == nil && child.IsDir() {
			dir = path.Join(dir, sub)
		}
	}
	return folder{os.DirFS(dir), dir}, nil
}

// path names a file of the folder in messages.
func (f folder) path(name string) string { return path.Join(f.name, name) }

// find returns the first of the names that the folder has.
func (f folder) find(names ...string) (string, error) {
	for _, name := range names {
		if _, err := fs.Stat(f.fs, name); err == nil {
			return name, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("data file %s: %w", f.path(name), reason(err))
		}
	}
	return "", fmt.Errorf("data folder %s has no %s: %w", f.name, strings.Join(names, " or "), fs.ErrNotExist)
}

// source is an open data file, unpacked while it is read.
type source struct {
	io.Reader
	path  string
	limit int64 // upper bound on the bytes it can hold; exact for a plain file
	exact bool
	file  fs.File
}

// open opens a file of the folder; a name that ends in .gz is unpacked.
func (f folder) open(name string) (*source, error) {
	file, err := f.fs.Open(name)
	if err != nil {
		return nil, fmt.Errorf("data file %s: %w", f.path(name), reason(err))
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("is not a regular file")
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("data file %s: %w", f.path(name), reason(err))
	}
	s := &source{path: f.path(name), limit: info.Size(), exact: true, file: file}
	s.Reader = bufio.NewReaderSize(file, 1<<16)
	if strings.HasSuffix(name, ".gz") {
		if err := s.unpack(); err != nil {
			file.Close()
			return nil, err
		}
	}
	return s, nil
}

// unpack makes the source read what its gzip file holds.
func (s *source) unpack() error {
	z, err := gzip.NewReader(s.Reader)
	if err != nil {
		return fmt.Errorf("data file %s is not a gzip file: %w", s.path, err)
	}
	s.Reader, s.limit, s.exact = z, min(s.limit, maxSetBytes)*maxDeflateRatio, false
	return nil
}

// Close closes the file.
func (s *source) Close() error { return s.file.Close() }

// reason drops the path from a file system error, as the message around it names it already.
func reason(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
