// Package tensorboard writes a run as an event file of TensorBoard, `tensorboard --logdir runs`: curves over updates, the
// recipe as text and as hyperparameters. A resume writes another file, whose beginning voids what the earlier ones hold of
// updates that are done again.
package tensorboard

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"broadside/engine/recipe"
	"broadside/engine/telemetry"
)

const (
	flushAfter = 5 * time.Second // at most this long a point waits in memory
	keepBytes  = 1 << 16         // at most so much does
	prefix     = "events.out.tfevents."
)

// Log is an event file, as a telemetry.Progress. It never fails: after an error it writes nothing more.
type Log struct {
	file    *os.File // nil after an error
	encoder encoder
	waiting []byte // records not yet in the file
	flushed time.Time
	now     func() time.Time
	warn    func(error)
}

// Open starts an event file in a run directory, whose recipe and events are there already: the curves go on after so many
// updates. It calls warn at most once, with what keeps it from writing.
func Open(runDir string, updates int, warn func(error)) *Log {
	l := &Log{now: time.Now, warn: warn}
	l.flushed = l.now()
	earlier, err := eventFiles(runDir)
	if err == nil {
		l.file, err = create(runDir, earlier, l.now())
	}
	if err == nil {
		err = l.begin(runDir, updates, len(earlier) > 0 && updates > 0)
	}
	if err != nil {
		l.fail(err)
	}
	return l
}

// eventFiles are the names of the event files of a folder, in TensorBoard's order.
func eventFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries { // by name
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// create makes a file that TensorBoard reads after the earlier ones, whatever became of the clock.
func create(dir string, earlier []string, now time.Time) (*os.File, error) {
	second := now.Unix()
	if n := len(earlier); n > 0 {
		stamp, _, _ := strings.Cut(strings.TrimPrefix(earlier[n-1], prefix), ".")
		if last, err := strconv.ParseInt(stamp, 10, 64); err == nil && last < 9999999999 { // of ten digits, or the order is lost
			second = max(second, last+1)
		}
	}
	return os.OpenFile(filepath.Join(dir, fmt.Sprintf("%s%010d.broadside", prefix, second)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
}

// begin writes the head of the file, and what the run's events tell: all of it, or where earlier files hold the rest, what
// they hold of the last update, which the head has voided.
func (l *Log) begin(runDir string, updates int, resumed bool) error {
	l.write(l.encoder.version(l.now()))
	l.write(l.encoder.start(l.now(), updates))
	events, err := telemetry.ReadEvents(filepath.Join(runDir, telemetry.EventsFile))
	if err != nil {
		return err
	}
	if !resumed {
		if err := l.recipe(runDir); err != nil {
			return err
		}
	}
	for _, e := range events {
		if !resumed || e.Updates >= updates {
			l.event(e)
		}
	}
	l.flush()
	return nil
}

// recipe writes the recipe.
func (l *Log) recipe(runDir string) error {
	text, err := recipe.ReadFile(filepath.Join(runDir, telemetry.RecipeFile))
	if err != nil {
		return err
	}
	keys, err := telemetry.FlatRecipe(text)
	if err != nil {
		return err
	}
	l.encoder.head(l.now(), 0)
	l.encoder.text("recipe", "```\n"+string(text)+"```\n")
	l.encoder.begun(keys, l.now())
	l.write(l.encoder.finish())
	return nil
}

// write puts an event to those that wait.
func (l *Log) write(event []byte) {
	if event == nil || l.file == nil {
		return
	}
	l.waiting = appendRecord(l.waiting, event)
	if len(l.waiting) >= keepBytes || l.now().Sub(l.flushed) >= flushAfter {
		l.flush()
	}
}

// flush writes what waits.
func (l *Log) flush() {
	if l.file == nil {
		return
	}
	_, err := l.file.Write(l.waiting)
	l.waiting, l.flushed = l.waiting[:0], l.now()
	if err != nil {
		l.fail(err)
	}
}

// fail gives up.
func (l *Log) fail(err error) {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
	l.warn(fmt.Errorf("no more events for TensorBoard: %w", err))
}

// Step does nothing: events tell of the updates to draw.
func (l *Log) Step(telemetry.Step) {}

// Epoch draws the record of an epoch.
func (l *Log) Epoch(e telemetry.Epoch) {
	l.Event(telemetry.Event{Type: telemetry.TypeEpoch, Record: &e})
}

// Event draws an event, and brings the file up to date; updates may wait.
func (l *Log) Event(e telemetry.Event) {
	if l.file == nil {
		return
	}
	l.event(e)
	if e.Type != telemetry.TypeUpdate {
		l.flush()
	}
}

// event draws an event.
func (l *Log) event(e telemetry.Event) {
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	step := e.Updates
	if e.Record != nil {
		step = e.Record.Updates
	}
	l.encoder.head(e.Time, step)
	switch e.Type {
	case telemetry.TypeUpdate:
		l.update(&e.Update)
	case telemetry.TypeEpoch:
		l.epoch(e.Record)
	case telemetry.TypeProbe:
		l.optional("probe/eigenvalue", e.Eigenvalue)
	case telemetry.TypeGrowth:
		l.encoder.scalar("growth/batch", float64(e.To))
	case telemetry.TypeRate:
		l.encoder.scalar("growth/lr_scale", e.LRScale)
	case telemetry.TypePhase:
		l.optional("phase/"+e.Phase, e.Accuracy)
	case telemetry.TypeEnd:
		l.encoder.ended(e.Time)
	}
	l.write(l.encoder.finish())
}

// update adds what the record of an update tells.
func (l *Log) update(u *telemetry.Update) {
	l.encoder.scalar("update/loss", u.Loss)
	l.encoder.scalar("update/learning_rate", u.LR)
	l.encoder.scalar("update/batch", float64(u.Batch))
	l.encoder.scalar("update/images_per_second", u.ImagesPerSecond)
	if u.GradientNorm != 0 {
		l.encoder.scalar("update/gradient_norm", u.GradientNorm)
	}
}

// epoch adds what a record tells.
func (l *Log) epoch(e *telemetry.Epoch) {
	l.encoder.scalar("epoch/epoch", float64(e.Epoch))
	l.encoder.scalar("loss/train", e.TrainLoss)
	l.optional("loss/test", e.TestLoss)
	l.encoder.scalar("accuracy/train", e.TrainAccuracy)
	l.optional("accuracy/test", e.TestAccuracy)
	l.encoder.scalar("epoch/batch", float64(e.Batch))
	l.encoder.scalar("epoch/learning_rate", e.LR)
	l.encoder.scalar("epoch/attack_fraction", e.AttackFraction)
	l.encoder.scalar("epoch/images_per_second", e.ImagesPerSecond)
	l.optional("epoch/data_wait", e.DataWait)
	l.optional("epoch/eigenvalue", e.Eigenvalue)
	for _, key := range slices.Sorted(maps.Keys(e.Values)) {
		l.encoder.scalar("methods/"+key, e.Values[key])
	}
}

func (l *Log) optional(tag string, v *float64) {
	if v != nil {
		l.encoder.scalar(tag, *v)
	}
}

// Close ends the file.
func (l *Log) Close() {
	l.flush()
	if l.file == nil {
		return
	}
	if err := l.file.Close(); err != nil {
		l.file = nil
		l.fail(err)
	}
	l.file = nil
}

var _ telemetry.Progress = (*Log)(nil)
