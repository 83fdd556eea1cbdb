package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"broadside/engine/checkpoint"
	"broadside/engine/collective/join"
	"broadside/engine/internal/durable"
	"broadside/engine/recipe"
	"broadside/engine/telemetry"
	"broadside/engine/telemetry/tensorboard"
)

// checkpointDir is the folder of checkpoints in a run directory.
const checkpointDir = "checkpoints"

// Options say where and on what to run.
type Options struct {
	Device  string // auto, cpu, cuda, or GPUs by number as in cuda:0,1
	Devices int    // 0: one per core, at most the recipe's lanes, or one GPU
	// AllReduce is how separate memories, as of several GPUs, are summed: tree, the default, or ring.
	AllReduce string
	// BucketBytes is how many bytes of gradients separate memories sum at a time; 0 means 4 MiB.
	BucketBytes int
	// Timeout is how long one memory waits for the others; 0 means collective.DefaultTimeout.
	Timeout time.Duration
	// StepTimeout is how long training may make no headway, in any device and in what comes between updates, before
	// Train gives it up with a [HangError]; 0 means for ever.
	StepTimeout time.Duration
	// RunDir receives recipe.yaml, events.jsonl, checkpoints, summary.json and report.html.
	RunDir string
	// Resume continues the run in RunDir from its newest checkpoint.
	Resume bool
	// TensorBoard has an event file for TensorBoard written into RunDir too.
	TensorBoard bool
	// Save asks for a checkpoint after the update under way, each time something can be received from it; nil never does.
	Save <-chan struct{}
	// Progress is told what happens; nil discards it. Train closes it.
	Progress telemetry.Progress

	haste haste // zero: the default
	fault *fault
	lost  []int  // devices that are left out: their places in the list
	why   string // and why
}

// Train runs a recipe and returns its summary. It writes nothing before recipe, data and devices
// have been found good. A cancelled context stops the run after the update under way, or within
// seconds before it if that takes long, with a checkpoint, and returns the context's error.
//
// Where the recipe's train.on_device_loss is redistribute, the run goes on from its newest checkpoint without a device
// that fails or hangs, with the same bits.
func Train(ctx context.Context, r *recipe.Recipe, o Options) (*telemetry.Summary, error) {
	if o.Progress == nil {
		o.Progress = telemetry.Discard{}
	}
	defer o.Progress.Close()
	var err error
	if o.fault, err = plannedFault(); err != nil {
		return nil, err
	}
	for {
		summary, left, err := train(ctx, r, o)
		if err == nil || left == nil || r.Train.OnDeviceLoss != "redistribute" {
			return summary, err
		}
		o.Resume, o.fault, o.lost, o.why = true, nil, left, "going on with other devices: "+err.Error()
	}
}

// train is a run, or as much of it as the devices do. If one of them fails and others are left, it also returns the
// places of those to go on without.
func train(ctx context.Context, r *recipe.Recipe, o Options) (summary *telemetry.Summary, lost []int, err error) {
	f, err := open(r, o)
	if err != nil {
		return nil, nil, err
	}
	defer f.close()
	summary, err = f.watch(o.StepTimeout, o.RunDir, func() (*telemetry.Summary, error) { return trainOn(ctx, f, r, o) })
	if errors.Is(err, errHung) {
		if file := f.dump(o.RunDir); file != "" {
			err = fmt.Errorf("%w; the stacks of all goroutines are in %s", err, file)
		}
	}
	var failed *DeviceError
	if errors.As(err, &failed) && !f.remote() {
		lost = f.without(failed.Device, o.lost)
	}
	return summary, lost, err
}

// trainOn is a run on a fleet.
func trainOn(ctx context.Context, f *fleet, r *recipe.Recipe, o Options) (*telemetry.Summary, error) {
	run := newRunDir(r, o)
	if rank, _ := join.Processes(); rank == 0 { // the first process writes, the others read at most
		if err := run.check(o.Resume); err != nil {
			return nil, err
		}
	}
	t, err := newTrainer(f, r, run)
	if err := f.agree(err); err != nil {
		return nil, err
	}
	defer t.free()
	t.cfg.save, t.cfg.haste = o.Save, cmp.Or(o.haste, defaultHaste)
	if run.recipe, err = r.YAML(); err != nil {
		return nil, err
	}
	if err := f.same("recipe", string(run.recipe)); err != nil {
		return nil, err
	}
	begin, end := run.begin, run.end
	if f.first > 0 {
		t.sink, begin, end = follower{run: run}, run.follow, func(*trainer, *telemetry.Summary) error { return nil }
	}
	if err := f.agree(begin(t, o.Resume)); err != nil {
		return nil, err
	}
	defer run.close()
	if err := f.same("place in training, by the checkpoint in the run directory,", fmt.Sprintf("%+v", t.at)); err != nil {
		return nil, err
	}
	err = t.train(ctx)
	unwritten := run.wait()
	switch {
	case err == nil:
		err = f.agree(unwritten)
	case unwritten != nil && stopped(err):
		err = unwritten
	case unwritten != nil && !errors.Is(err, unwritten):
		err = errors.Join(unwritten, err)
	}
	if err != nil {
		if stopped(err) { // and not a failure on the way out
			return nil, fmt.Errorf("stopped after update %d with a checkpoint, go on with --resume: %w", t.at.Updates, err)
		}
		return nil, err
	}
	summary := t.summary(r)
	return summary, f.agree(end(t, summary)) // the first process may take a while
}

// stopped reports whether a run ended because it was asked to.
func stopped(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// follow brings the trainer of a process that does not write to where the run stopped.
func (d *runDir) follow(t *trainer, resume bool) error {
	if !resume {
		return nil
	}
	_, _, err := d.restore(t)
	return err
}

func (d *runDir) close() {
	if d.log != nil {
		d.log.Close()
	}
	if d.board != nil {
		d.board.Close()
	}
}

// RunRecipe returns the recipe of a run directory, changed by sets.
func RunRecipe(runDir string, sets []string) (*recipe.Recipe, error) {
	path := filepath.Join(runDir, telemetry.RecipeFile)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%s holds no run to resume: to start one, name a recipe and leave out --resume", runDir)
	}
	return recipe.Load(path, sets)
}

// runDir is a run directory as the trainer's sink.
type runDir struct {
	path     string
	absent   bool   // when it was looked at, before the run began
	note     string // of the resume
	recipe   []byte
	log      *telemetry.EventLog
	draw     bool // for TensorBoard
	board    *tensorboard.Log
	progress telemetry.Progress
	keeper
}

var _ sink = (*runDir)(nil)

func newRunDir(r *recipe.Recipe, o Options) *runDir {
	d := &runDir{path: o.RunDir, note: o.why, progress: o.Progress, draw: o.TensorBoard,
		keeper: keeper{dir: checkpoint.Dir(filepath.Join(o.RunDir, checkpointDir)), keep: r.Checkpoint.Keep}}
	if r.Train.OnAnomaly == "rollback" {
		d.every = r.Checkpoint.EveryUpdates
	}
	return d
}

// check refuses to start over an existing run, or to resume where there is none.
func (d *runDir) check(resume bool) error {
	if d.path == "" {
		return errors.New("no run directory was named")
	}
	if info, err := os.Stat(d.path); err == nil && !info.IsDir() {
		return fmt.Errorf("run directory %s is a file: name another with --run", d.path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("run directory: %w", err)
	} else {
		d.absent = err != nil
	}
	if resume {
		if !d.has(telemetry.RecipeFile) {
			return fmt.Errorf("%s holds no run to resume: leave out --resume to start one", d.path)
		}
		return d.checkOwn()
	}
	for _, name := range []string{telemetry.RecipeFile, telemetry.EventsFile, checkpointDir} {
		if d.has(name) {
			return fmt.Errorf("%s already holds a run (%s is there): resume it with --resume, or name another directory with --run", d.path, name)
		}
	}
	return nil
}

// checkOwn refuses to go on with a run whose files lie elsewhere, as a link to them may say: whoever made the directory
// would have this run write there.
func (d *runDir) checkOwn() error {
	for _, name := range []string{telemetry.RecipeFile, telemetry.EventsFile, checkpointDir} {
		info, err := os.Lstat(filepath.Join(d.path, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("run directory: %w", err)
		}
		want, mode := "file", fs.FileMode(0)
		if name == checkpointDir {
			want, mode = "folder", fs.ModeDir
		}
		if info.Mode().Type() != mode {
			return fmt.Errorf("%s is no %s of its own: a run writes to nothing outside of its directory; put the %s itself there",
				filepath.Join(d.path, name), want, want)
		}
	}
	return nil
}

// has reports whether the directory holds something of that name.
func (d *runDir) has(name string) bool {
	_, err := os.Lstat(filepath.Join(d.path, name))
	return err == nil
}

// begin makes the directory, or brings the trainer to where the run stopped. Before it changes a run, it opens the event
// log, which keeps other processes out.
func (d *runDir) begin(t *trainer, resume bool) (err error) {
	event := telemetry.Event{Type: telemetry.TypeStart, Message: t.fleet.note}
	var found *checkpoint.Found
	if resume {
		event, found, err = d.restore(t)
	} else if err = d.claim(); err == nil {
		err = telemetry.WriteFile(filepath.Join(d.path, telemetry.RecipeFile), d.recipe)
	}
	if err != nil {
		return err
	}
	if d.log, err = telemetry.OpenEventLog(d.path); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.log.Close()
		}
	}()
	if found != nil {
		if err = setAside(found); err != nil {
			return err
		}
	}
	event.Epoch, event.Updates, event.WallSeconds = t.at.Epoch, t.at.Updates, t.at.WallSeconds
	if err = d.log.TruncateAfter(t.at.Updates); err != nil {
		return err
	}
	if err = d.Event(event); err != nil {
		return err
	}
	d.log.Wall = t.wall
	if d.draw {
		d.openBoard(t.at.Updates)
	}
	return nil
}

// claim makes the directory. Of two runs that find a name free and begin at the same time one is refused.
func (d *runDir) claim() error {
	err := durable.MakeFolder(filepath.Dir(d.path))
	if err == nil {
		err = os.Mkdir(d.path, 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		if d.absent {
			return fmt.Errorf("%s: another run has just begun there: name another directory with --run", d.path)
		}
		err = nil
	}
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	return nil
}

// openBoard has TensorBoard's curves drawn from so many updates on. The run can do without.
func (d *runDir) openBoard(updates int) {
	watcher := d.progress
	d.board = tensorboard.Open(d.path, updates, func(err error) {
		watcher.Event(telemetry.Event{Type: telemetry.TypeWarning, Updates: updates, Message: err.Error()})
	})
	d.progress = telemetry.Several{watcher, d.board}
}

// restore restores the newest checkpoint; a run that had none yet starts anew.
func (d *runDir) restore(t *trainer) (telemetry.Event, *checkpoint.Found, error) {
	event := telemetry.Event{Type: telemetry.TypeResume, Message: d.note}
	stored, err := storedRecipe(d.path)
	if err != nil {
		return event, nil, err
	}
	if err := sameRecipe(stored, string(d.recipe)); err != nil {
		return event, nil, fmt.Errorf("resuming %s: %w", d.path, err)
	}
	found, err := d.dir.Latest()
	if errors.Is(err, fs.ErrNotExist) {
		event.Message = joined(d.note, "no checkpoint yet: starting anew", t.fleet.note)
		return event, nil, nil
	}
	if err != nil {
		return event, nil, fmt.Errorf("resuming %s: %w", d.path, err)
	}
	event.Path, event.Message = found.Path, joined(append([]string{d.note}, found.Warnings...)...)
	if err := t.restore(found.Checkpoint); err != nil {
		return event, nil, fmt.Errorf("resuming from %s: %w", found.Path, err)
	}
	event.Message = joined(event.Message, t.fleet.otherDecoder(found.Checkpoint))
	return event, found, nil
}

// joined joins the messages that are not empty.
func joined(messages ...string) string {
	return strings.Join(slices.DeleteFunc(messages, func(m string) bool { return m == "" }), "; ")
}

// setAside renames the checkpoints newer than the one found, which cannot be used: as the newest by
// their names, they would have Prune remove the good ones.
func setAside(found *checkpoint.Found) error {
	dir, name := filepath.Split(found.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("checkpoint folder: %w", err)
	}
	for _, e := range entries {
		newer := len(e.Name()) > len(name) || len(e.Name()) == len(name) && e.Name() > name
		if !newer || !strings.HasPrefix(e.Name(), "step-") || !strings.HasSuffix(e.Name(), ".safetensors") {
			continue
		}
		if err := durable.Rename(filepath.Join(dir, e.Name()), filepath.Join(dir, e.Name()+".unusable")); err != nil {
			return fmt.Errorf("setting an unusable checkpoint aside: %w", err)
		}
	}
	return nil
}

// Step tells the progress display.
func (d *runDir) Step(s telemetry.Step) { d.progress.Step(s) }

// Epoch logs an epoch's record.
func (d *runDir) Epoch(e telemetry.Epoch) error {
	d.progress.Epoch(e)
	if err := d.poll(); err != nil {
		return err
	}
	return d.log.Epoch(e)
}

// Event logs what happened.
func (d *runDir) Event(e telemetry.Event) error {
	d.progress.Event(e)
	return d.log.Append(e)
}

// Hold takes the trainer's state. Keeping it begins to write it, and to remove old checkpoints. The event stands for the
// moment of the state; if the file does not come to be, a resume goes on from the one before and drops the event.
func (d *runDir) Hold(t *trainer) (keep func() error, err error) {
	ck, err := t.save(d.recipe)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	told, err := d.log.Size()
	if err != nil {
		return nil, err
	}
	at := t.at
	return func() error {
		if err := d.log.Truncate(told); err != nil {
			return err
		}
		if err := d.start(at.Updates, ck); err != nil {
			return err
		}
		return d.Event(telemetry.Event{Type: telemetry.TypeCheckpoint, Epoch: at.Epoch, Updates: at.Updates,
			Path: d.dir.Path(int64(at.Updates)), WallSeconds: at.WallSeconds})
	}, nil
}

// Newest returns the newest checkpoint after a multiple of checkpoint.every_updates, once all is written.
func (d *runDir) Newest(t *trainer) (*checkpoint.Checkpoint, error) {
	if err := t.fleet.agree(d.wait()); err != nil {
		return nil, err
	}
	ck, err := d.dir.NewestOf(t.cfg.checkpointEvery)
	return ck, t.fleet.agree(err)
}

// follower is the sink of a process that does not write: it reads the run directory where it has to.
type follower struct {
	nowhere
	run *runDir
}

// Newest is that of the run directory.
func (f follower) Newest(t *trainer) (*checkpoint.Checkpoint, error) { return f.run.Newest(t) }

// end writes what a finished run leaves.
func (d *runDir) end(t *trainer, s *telemetry.Summary) error {
	if err := d.Event(telemetry.Event{Type: telemetry.TypeEnd, Epoch: t.at.Epoch, Updates: t.at.Updates, WallSeconds: s.WallSeconds}); err != nil {
		return err
	}
	if err := telemetry.WriteSummary(d.path, *s); err != nil {
		return err
	}
	return telemetry.Report(d.path)
}

// summary describes the finished run.
func (t *trainer) summary(r *recipe.Recipe) *telemetry.Summary {
	var wait *float64
	if t.fleet.train.streams() {
		share := t.at.WaitSeconds / t.at.WallSeconds
		wait = &share
	}
	bad, _ := t.fleet.badImages()
	return &telemetry.Summary{Name: r.Name, Model: r.Model.Name, Data: r.Data.Name, Seed: r.Train.Seed,
		Device: t.fleet.dev.Name(), Devices: len(t.fleet.workers),
		TestAccuracy: t.at.Test, BestTestAccuracy: t.at.Best, TestLoss: t.at.TestLoss,
		Updates: t.at.Updates, SamplesSeen: t.at.Samples, Epochs: t.at.Epoch, FinalBatch: t.at.Batch,
		HVPs: t.at.HVPs, GradPasses: t.at.GradPasses, WallSeconds: t.at.WallSeconds,
		ImagesPerSecond: float64(t.at.Samples) / t.at.WallSeconds, PeakMemoryBytes: telemetry.PeakMemory(), Anomalies: t.at.Watch.Anomalies, Stopped: t.at.Stopped,
		DataWait: wait, ImageDecoder: t.fleet.imageDecoder(), BadImages: bad, Values: t.values}
}
