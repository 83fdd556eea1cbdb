package dashboard

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Bounds on streams of events.
const (
	maxStreams  = 64
	streamPath  = "/api/events"
	streamPulse = 15 * time.Second // a sign of life, for both ends to see that the other has gone
	streamPause = 250 * time.Millisecond
)

// events answers /api/events with server-sent events: "runs" with the whole list at first and where runs have come or
// gone, "run" with the entry of a run that has changed. A reader that is slow gets the newest state, not every one.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d pages are watching already", maxStreams), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not hold events back
	if r.Method == http.MethodHead {
		return
	}
	out := stream{w, http.NewResponseController(w)}
	if out.send("retry: 2000\n\n") != nil {
		return
	}
	version := int64(-1)
	pulse := time.NewTicker(streamPulse)
	defer pulse.Stop()
	for {
		changed, err := s.tellSince(out, &version)
		if err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-pulse.C:
			err = out.send(": still here\n\n")
		case <-changed:
			time.Sleep(streamPause) // changes come in groups
		}
		if err != nil {
			return
		}
	}
}

// tellSince sends what has changed since a version, and returns what is closed at the next change.
func (s *Server) tellSince(out stream, version *int64) (<-chan struct{}, error) {
	entries, whole, now, changed := s.watcher.since(*version)
	*version = now
	if whole {
		list := s.watcher.List() // may be newer than now: then some of it is told twice
		return changed, out.event("runs", list)
	}
	for _, e := range entries {
		if err := out.event("run", e); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// stream writes server-sent events.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s stream) event(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.send(fmt.Sprintf("event: %s\ndata: %s\n\n", name, text))
}

// send writes now or gives up: the server's limit on an answer does not fit one that goes on.
func (s stream) send(text string) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
