package dashboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"time"

	"broadside/engine/telemetry"
)

// The states of a run.
const (
	Running     = "running"
	Ended       = "ended"
	Interrupted = "interrupted" // has not ended, and no process goes on with it
	Broken      = "broken"      // its events, its summary or its recipe cannot be read
)

// Bounds on the files of a run that are read whole, and on the notes kept of it.
const (
	maxRecipeBytes  = 16 << 10 // the parser takes seconds for some that are larger
	maxSummaryBytes = 1 << 20
	maxNotes        = 200
)

// Entry is what the list of runs says of one.
type Entry struct {
	ID           string            `json:"id"` // its folder, below the one that is served
	State        string            `json:"state"`
	Error        string            `json:"error,omitempty"`
	Started      time.Time         `json:"started"`
	Updated      time.Time         `json:"updated"`       // of the last event
	EpochsWanted string            `json:"epochs_wanted"` // as the recipe says; "" if it does not
	Model        string            `json:"model"`
	Data         string            `json:"data"`
	TrainLoss    *float64          `json:"train_loss"` // of the last epoch or update
	LR           *float64          `json:"lr"`
	Curvature    int64             `json:"curvature"` // changes with the run's measurements of curvature; 0: there are none
	Rows         int               `json:"rows"`
	At           float64           `json:"at"`      // epochs done, with the share of the one under way that is known
	Seconds      float64           `json:"seconds"` // of training, by then
	Version      int64             `json:"version"` // grows with every change
	Summary      telemetry.Summary `json:"summary"`
}

// note is an event worth a line.
type note struct {
	Time    time.Time `json:"time"`
	Epoch   int       `json:"epoch"`
	Updates int       `json:"updates"`
	Type    string    `json:"type"`
	Text    string    `json:"text"`
}

// run is what is known of a run directory.
type run struct {
	id   string
	root *os.Root
	dir  string // in root

	tail      tail
	fileStamp map[string]stamp // of recipe.yaml and summary.json as they were read
	problems  map[string]error // by file

	version   int64
	writing   bool
	hasEnd    bool // summary.json is there
	started   time.Time
	updated   time.Time
	summary   telemetry.Summary // of the events
	final     telemetry.Summary // of summary.json
	trainLoss *float64
	lr        *float64
	metrics   *telemetry.RunMetrics
	recipe    map[string]string
	table     *table // of the epochs
	updates   *table // of the updates that were recorded
	at        float64
	seconds   float64
	notes     []note
	curvature int64
}

// stamp tells whether a file has changed.
type stamp struct {
	size int64
	time time.Time
}

func newRun(id string, root *os.Root, dir string) *run {
	r := &run{id: id, root: root, dir: dir, fileStamp: map[string]stamp{}, problems: map[string]error{}}
	r.reset()
	return r
}

// reset forgets the events.
func (r *run) reset() {
	generation := 0
	if r.table != nil {
		generation = r.table.generation + 1
	}
	r.summary, r.metrics, r.notes, r.at, r.seconds = telemetry.NewSummary(), telemetry.NewRunMetrics(r.id), nil, 0, 0
	r.table, r.updates = newTable(maxCells), newTable(maxUpdateCells)
	r.table.generation, r.updates.generation = generation, generation
	r.trainLoss, r.lr, r.started, r.updated = nil, nil, time.Time{}, time.Time{}
}

// news is what a look at the files of a run found, to be taken in under the lock.
type news struct {
	log     look
	logErr  error
	recipe  map[string]string
	final   *telemetry.Summary
	ended   bool
	changed map[string]error // files read anew, and what is wrong with them
}

// look reads what has changed. It changes only what no reader of the run looks at.
func (r *run) look() (n news) {
	n.changed = map[string]error{}
	n.log, n.logErr = r.tail.look(r.root, path.Join(r.dir, telemetry.EventsFile))
	if text, err, fresh := r.reread(telemetry.RecipeFile, maxRecipeBytes); fresh {
		if err == nil && text != nil {
			n.recipe, err = telemetry.FlatRecipe(text)
		}
		n.changed[telemetry.RecipeFile] = err
	}
	if text, err, fresh := r.reread(telemetry.SummaryFile, maxSummaryBytes); fresh {
		if err == nil && text != nil {
			n.final = &telemetry.Summary{}
			err = json.Unmarshal(text, n.final)
		}
		n.changed[telemetry.SummaryFile] = err
	}
	n.ended = r.fileStamp[telemetry.SummaryFile] != stamp{}
	return n
}

// reread reads a small file of the run if it has changed. A file that is not there has no text and no error.
func (r *run) reread(name string, most int64) (text []byte, err error, fresh bool) {
	f, info, err := openRegular(r.root, path.Join(r.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		_, had := r.fileStamp[name]
		delete(r.fileStamp, name)
		return nil, nil, had
	}
	if err != nil {
		r.fileStamp[name] = stamp{size: -1}
		return nil, err, true
	}
	defer f.Close()
	now := stamp{info.Size(), info.ModTime()}
	if r.fileStamp[name] == now {
		return nil, nil, false
	}
	r.fileStamp[name] = now
	text, err = readMost(f, most)
	return text, err, true
}

// readMost reads a file that must not be larger than most.
func readMost(f *os.File, most int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("larger than %d bytes", most)
	}
	return text, err
}

// take takes in what a look has found, and reports whether the run has changed.
func (r *run) take(n news) bool {
	changed := n.log.restart || len(n.log.events) > 0 || n.log.writing != r.writing
	if n.log.restart {
		r.reset()
	}
	for _, e := range n.log.events {
		r.event(e)
	}
	r.writing = n.log.writing
	changed = r.problem(telemetry.EventsFile, n.logErr) || changed
	for name, err := range n.changed {
		changed = true
		r.problem(name, err)
	}
	if _, ok := n.changed[telemetry.RecipeFile]; ok {
		r.recipe = n.recipe
	}
	if n.final != nil {
		r.final = *n.final
	}
	r.hasEnd = n.ended
	return changed
}

// problem notes what is wrong with a file, if anything, and reports whether that is new.
func (r *run) problem(name string, err error) bool {
	was := r.problems[name]
	if err == nil {
		delete(r.problems, name)
		return was != nil
	}
	r.problems[name] = err
	return was == nil || was.Error() != err.Error()
}

// event takes in an event.
func (r *run) event(e telemetry.Event) {
	r.metrics.Add(e)
	if r.started.IsZero() {
		r.started = e.Time
	}
	r.updated = e.Time
	none := math.NaN()
	switch {
	case e.Record != nil:
		r.epoch(*e.Record)
	case e.Type == telemetry.TypeUpdate:
		r.update(e)
	case e.Type == telemetry.TypeProbe && e.Eigenvalue != nil:
		r.table.add(place{float64(e.Epoch), float64(e.Updates), none, e.WallSeconds}, map[string]float64{"eigenvalue": *e.Eigenvalue})
	}
	if text := e.Text(); text != "" {
		if len(r.notes) == maxNotes {
			r.notes = append(r.notes[:0], r.notes[1:]...)
		}
		r.notes = append(r.notes, note{e.Time, e.Epoch, e.Updates, e.Type, text})
	}
}

// epoch takes in the record of an epoch.
func (r *run) epoch(e telemetry.Epoch) {
	r.summary.Add(e)
	r.trainLoss, r.lr = &e.TrainLoss, &e.LR
	r.at, r.seconds = float64(e.Epoch), e.WallSeconds
	values := map[string]float64{"train_loss": e.TrainLoss, "train_accuracy": e.TrainAccuracy, "batch": float64(e.Batch), "lr": e.LR,
		"images_per_second": e.ImagesPerSecond, "attack_fraction": e.AttackFraction, "grad_passes": float64(e.GradPasses), "hvps": float64(e.HVPs)}
	for name, v := range map[string]*float64{"test_loss": e.TestLoss, "test_accuracy": e.TestAccuracy, "eigenvalue": e.Eigenvalue} {
		if v != nil {
			values[name] = *v
		}
	}
	maps.Copy(values, e.Values)
	r.table.add(place{float64(e.Epoch), float64(e.Updates), float64(e.SamplesSeen), e.WallSeconds}, values)
}

// update takes in the record of an update. Its values have the names of the epochs' where they are the same quantity.
func (r *run) update(e telemetry.Event) {
	u := e.Update
	r.trainLoss, r.lr = &u.Loss, &u.LR
	r.at, r.seconds = float64(e.Epoch)+u.EpochFraction, e.WallSeconds
	values := map[string]float64{"train_loss": u.Loss, "batch": float64(u.Batch), "lr": u.LR, "images_per_second": u.ImagesPerSecond}
	if u.GradientNorm != 0 {
		values["gradient_norm"] = u.GradientNorm
	}
	r.updates.add(place{r.at, float64(e.Updates), float64(u.SamplesSeen), e.WallSeconds}, values)
}

// state is the run's state, and what is wrong if it is broken.
func (r *run) state() (string, string) {
	for _, name := range []string{telemetry.EventsFile, telemetry.SummaryFile, telemetry.RecipeFile} {
		if err := r.problems[name]; err != nil {
			return Broken, fmt.Sprintf("%s: %v", name, err)
		}
	}
	switch {
	case r.hasEnd:
		return Ended, ""
	case r.writing:
		return Running, ""
	}
	return Interrupted, ""
}

// entry is the run's line in the list.
func (r *run) entry() Entry {
	e := Entry{ID: r.id, Started: r.started, Updated: r.updated, EpochsWanted: r.recipe["train.epochs"], Model: r.recipe["model.name"], Data: r.recipe["data.name"],
		TrainLoss: finite(r.trainLoss), LR: finite(r.lr), Curvature: r.curvature, Rows: r.table.rows + r.updates.rows, At: r.at, Seconds: r.seconds, Version: r.version, Summary: r.summary}
	e.State, e.Error = r.state()
	if r.hasEnd && r.problems[telemetry.SummaryFile] == nil {
		e.Summary = r.final
	}
	return e
}

// finite is nil for what JSON cannot carry.
func finite(v *float64) *float64 {
	if v == nil || math.IsNaN(*v) || math.IsInf(*v, 0) {
		return nil
	}
	return v
}
