package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"broadside/engine/internal/durable"
)

// EventLog appends events to a file, one JSON object per line. An event is in the file when Append
// returns, so a crash loses at most the line under way. It is not safe for concurrent use.
type EventLog struct {
	// Wall, if set, gives wall_seconds to events that come without.
	Wall func() float64

	path string
	file durable.File
	now  func() time.Time
	line []byte // of an update
}

// OpenEventLog opens events.jsonl of a run directory, and makes it if there is none. What a crash
// left of a last line is removed. It fails while another process has it open.
func OpenEventLog(runDir string) (*EventLog, error) {
	l := &EventLog{path: filepath.Join(runDir, EventsFile), now: time.Now}
	file, err := durable.Append(l.path)
	if err != nil {
		return nil, fmt.Errorf("opening the event log: %w", err)
	}
	l.file = file
	if err := mark(file.File); err != nil {
		file.Close()
		return nil, fmt.Errorf("event log %s: %w", l.path, err)
	}
	lines, err := readLines(l.path)
	if err == nil {
		err = l.cut(lines, len(lines))
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("opening the event log: %w", err)
	}
	return l, nil
}

// recent reports whether a file was written to in the last minute.
func recent(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && time.Since(info.ModTime()) < time.Minute
}

// Append writes an event; a zero time is now.
func (l *EventLog) Append(e Event) error {
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	if e.WallSeconds == 0 && l.Wall != nil {
		e.WallSeconds = l.Wall()
	}
	var line []byte
	if e.Type == TypeUpdate {
		l.line = append(appendUpdate(l.line[:0], &e), '\n')
		line = l.line
	} else {
		text, err := e.MarshalJSON()
		if err != nil {
			return fmt.Errorf("event %s: %w", e.Type, err)
		}
		line = append(text, '\n')
	}
	if _, err := l.file.Write(line); err != nil {
		return fmt.Errorf("appending event %s: %w", e.Type, err)
	}
	return nil
}

// Epoch writes the record of an epoch as an event of type "epoch".
func (l *EventLog) Epoch(e Epoch) error { return l.Append(Event{Type: TypeEpoch, Record: &e}) }

// TruncateAfter removes the events that a run resumed from a checkpoint will repeat: those of later
// updates, and of the same update what came after its last checkpoint event. So a checkpoint event
// has to be appended when the state is taken, before anything else of the same update happens.
func (l *EventLog) TruncateAfter(updates int) error {
	lines, err := readLines(l.path)
	if err != nil {
		return fmt.Errorf("truncating the event log: %w", err)
	}
	keep := 0
	for i, line := range lines {
		if line.event.Updates > updates {
			break
		}
		keep = i + 1
	}
	for i := keep - 1; i >= 0 && lines[i].event.Updates == updates; i-- {
		if lines[i].event.Type == TypeCheckpoint {
			keep = i + 1
			break
		}
	}
	return l.cut(lines, keep)
}

// cut keeps the first so many lines.
func (l *EventLog) cut(lines []logLine, keep int) error {
	size := int64(0)
	if keep > 0 {
		size = lines[keep-1].end
	}
	return l.Truncate(size)
}

// Size is how many bytes the log has, for [EventLog.Truncate].
func (l *EventLog) Size() (int64, error) {
	info, err := l.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("event log: %w", err)
	}
	return info.Size(), nil
}

// Truncate removes what was appended since the log had a size.
func (l *EventLog) Truncate(size int64) error {
	now, err := l.Size()
	if err != nil || now == size {
		return err
	}
	if err = l.file.Truncate(size); err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("truncating the event log: %w", err)
	}
	return nil
}

// Close syncs and closes the file.
func (l *EventLog) Close() error {
	if err := l.file.Sync(); err != nil {
		l.file.Close()
		return fmt.Errorf("closing the event log: %w", err)
	}
	return l.file.Close()
}

// ReadEvents reads a file of events. A last line that a crash cut off is left out; any other line
// that is not an event is an error.
func ReadEvents(path string) ([]Event, error) {
	lines, err := readLines(path)
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", err)
	}
	events := make([]Event, len(lines))
	for i, l := range lines {
		events[i] = l.event
	}
	return events, nil
}

// logLine is an event and where its line ends in the file.
type logLine struct {
	event Event
	end   int64
}

func readLines(path string) ([]logLine, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseLines(path, text)
}

// parseLines reads the text of an event log. What follows the last end of a line does not count.
func parseLines(path string, text []byte) (out []logLine, err error) {
	for at := 0; at < len(text); {
		n := bytes.IndexByte(text[at:], '\n')
		if n < 0 {
			break // the write of the last line did not finish
		}
		var e Event
		if err := json.Unmarshal(text[at:at+n], &e); err != nil {
			if at+n+1 == len(text) {
				break
			}
			return nil, fmt.Errorf("%s:%d: not an event: %w", path, len(out)+1, err)
		}
		at += n + 1
		out = append(out, logLine{event: e, end: int64(at)})
	}
	return out, nil
}

// MarshalJSON writes an event on one line. An epoch's record takes the place of the event's own keys
// of the same name.
func (e Event) MarshalJSON() ([]byte, error) {
	if e.Type == TypeUpdate {
		return appendUpdate(nil, &e), nil
	}
	if e.Record == nil {
		return marshalFinite(reflect.ValueOf(e))
	}
	head, err := marshalFinite(reflect.ValueOf(struct {
		Type string    `json:"type"`
		Time time.Time `json:"time"`
	}{e.Type, e.Time}))
	if err != nil {
		return nil, err
	}
	record, err := e.Record.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return append(append(head[:len(head)-1], ','), record[1:]...), nil
}

// UnmarshalJSON reads an event, and the record of an epoch or an update with it.
func (e *Event) UnmarshalJSON(text []byte) error {
	type plain Event
	var p plain
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	if p.Type == "" {
		return fmt.Errorf("the key type is missing")
	}
	var err error
	switch p.Type {
	case TypeEpoch:
		p.Record = &Epoch{}
		err = json.Unmarshal(text, p.Record)
	case TypeUpdate:
		err = json.Unmarshal(text, &p.Update)
	}
	if err != nil {
		return err
	}
	*e = Event(p)
	return nil
}
