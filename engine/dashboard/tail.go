package dashboard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"broadside/engine/telemetry"
)

// Bounds on what one look at a run reads and holds.
const (
	chunkBytes   = 64 << 10
	maxLineBytes = 1 << 20 // of an event
	maxLookBytes = 8 << 20 // of events read in one look; the rest is for the next
)

// tail follows an event log that grows, shrinks when a run resumes, or is replaced.
type tail struct {
	file   os.FileInfo // the file that was read from
	offset int64       // where the next line begins
	last   []byte      // the line before offset: it tells a file that was cut and has grown again
	lines  int
	err    error // a line that is no event, after which nothing is read
}

// look is what a look at an event log found.
type look struct {
	restart bool // the events before these are void
	events  []telemetry.Event
	more    bool // there is more to read at once
	writing bool // a process has the log open to write to it
}

// openRegular opens a file below a root for reading. Links that lead out of the root, and what is no file, are refused;
// it does not wait for the other end of a pipe.
func openRegular(root *os.Root, path string) (*os.File, os.FileInfo, error) {
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file", path)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// look reads what is new. An event log that cannot be read is an error, as is one whose lines are no events.
func (t *tail) look(root *os.Root, path string) (l look, err error) {
	f, info, err := openRegular(root, path)
	if err != nil {
		return l, err
	}
	defer f.Close()
	if l.restart, err = t.changed(f, info); err != nil {
		return l, err
	}
	if l.restart {
		*t = tail{}
	}
	t.file, l.writing = info, telemetry.Writing(f)
	if t.err == nil && info.Size() > t.offset {
		err = t.read(f, info.Size(), &l)
	}
	return l, errors.Join(err, t.err)
}

// changed reports whether the file is not the one that was read up to here.
func (t *tail) changed(f *os.File, info os.FileInfo) (bool, error) {
	if t.file == nil {
		return false, nil
	}
	if !os.SameFile(t.file, info) || info.Size() < t.offset {
		return true, nil
	}
	was := make([]byte, len(t.last))
	if _, err := f.ReadAt(was, t.offset-int64(len(was))); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if !bytes.Equal(was, t.last) {
		return true, nil
	}
	return t.err != nil && info.Size() != t.file.Size(), nil // what was wrong may have been mended
}

// read takes in whole lines; of a line that is being written it waits for the rest.
func (t *tail) read(f *os.File, size int64, l *look) error {
	var pending []byte
	at, end := t.offset, min(size, t.offset+maxLookBytes)
	for at < end {
		chunk := make([]byte, min(chunkBytes, end-at))
		n, err := f.ReadAt(chunk, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			break // it has shrunk meanwhile: the next look sees that
		}
		at += int64(n)
		pending = t.take(append(pending, chunk[:n]...), size, l)
		if len(pending) > maxLineBytes {
			t.err = fmt.Errorf("line %d is longer than %d bytes: not an event", t.lines+1, maxLineBytes)
		}
		if t.err != nil {
			return nil
		}
	}
	l.more = t.err == nil && end < size
	return nil
}

// take reads the whole lines of a text that begins at offset, and returns the rest.
func (t *tail) take(text []byte, size int64, l *look) []byte {
	for {
		n := bytes.IndexByte(text, '\n')
		if n < 0 || n > maxLineBytes {
			return text
		}
		var e telemetry.Event
		if err := json.Unmarshal(text[:n], &e); err != nil {
			if t.offset+int64(n)+1 < size { // a torn last line is removed when the run resumes
				t.err = fmt.Errorf("line %d is not an event: %w", t.lines+1, err)
			}
			return nil
		}
		l.events = append(l.events, e)
		t.lines++
		t.offset += int64(n) + 1
		t.last = append(t.last[:0], text[:n+1]...)
		text = text[n+1:]
	}
}
