package engine

import (
	"fmt"
	"time"

	"broadside/engine/checkpoint"
	"broadside/engine/telemetry"
)

// waited is how long a worker of this process has waited for data, on average.
func (f *fleet) waited() time.Duration {
	sum := time.Duration(0)
	f.eachStream(func(s *stream) {
		for _, feed := range s.feeds {
			sum += feed.waited
		}
	})
	return sum / time.Duration(len(f.workers))
}

// decodedImages is how many images were decoded so far.
func (f *fleet) decodedImages() (n int64) {
	f.eachStream(func(s *stream) { n += s.images })
	return n
}

// starves reports whether a worker waits for data.
func (f *fleet) starves(w *worker) (waits bool) {
	f.eachStream(func(s *stream) { waits = waits || s.feeds[w.id].wanted != nil })
	return waits
}

// eachStream looks at the streams, one after the other.
func (f *fleet) eachStream(look func(*stream)) {
	for _, r := range []*resident{f.train, f.test} {
		if r.streams() {
			r.stream.mu.Lock()
			look(r.stream)
			r.stream.mu.Unlock()
		}
	}
}

// waitedSeconds is how long this run has waited for data: an average over the workers of this process and, before a
// resume, of those then.
func (t *trainer) waitedSeconds() float64 { return t.waitedBefore + t.fleet.waited().Seconds() }

// epochWait is the share of the epoch's time so far that went into waiting for data, where data are decoded meanwhile.
func (t *trainer) epochWait() float64 {
	return (t.fleet.waited() - t.epochWaited).Seconds() / time.Since(t.epochStarted).Seconds()
}

// tellBad tells of images that could not be decoded.
func (t *trainer) tellBad() error {
	count, reason := t.fleet.badImages()
	if count == t.badTold {
		return nil
	}
	t.badTold = count
	return t.sink.Event(telemetry.Event{Type: telemetry.TypeData, Epoch: t.at.Epoch, Updates: t.at.Updates,
		Message: fmt.Sprintf("%d images could not be decoded, and others of their classes took their places; the first: %s", count, reason)})
}

// badImages is how many images could not be decoded, and why the first could not.
func (f *fleet) badImages() (count int, reason string) {
	if f.train.set.Source == nil {
		return 0, ""
	}
	return f.train.set.Source.Bad() // which is also the test set's
}

// imageDecoder says what decodes the images; nothing where they are not in files.
func (f *fleet) imageDecoder() string {
	if f.train.set.Source == nil {
		return ""
	}
	return f.train.set.Source.Decoder()
}

// otherDecoder warns of a checkpoint that was trained on images decoded by another decoder.
func (f *fleet) otherDecoder(ck *checkpoint.Checkpoint) string {
	was, is := ck.Meta[metaDecoder], f.imageDecoder()
	if was == is {
		return ""
	}
	return fmt.Sprintf("images are decoded by %s from here on, by %s before: the run has other bits than without the change", is, was)
}
