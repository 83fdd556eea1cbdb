package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"broadside/engine/collective/join"
	"broadside/engine/methods"
	"broadside/engine/recipe"
	"broadside/kernels"
)

// Plan is what a dry run finds out about a run.
type Plan struct {
	Name         string   `json:"name"`
	RunDir       string   `json:"run_dir"` // where the run would go
	Model        string   `json:"model"`
	Input        string   `json:"input"`
	Classes      int      `json:"classes"`
	Parameters   int      `json:"parameters"`
	Data         string   `json:"data"`
	TrainSamples int      `json:"train_samples"`
	TestSamples  int      `json:"test_samples"`
	Methods      []string `json:"methods"`

	Device   string       `json:"device"`
	Devices  int          `json:"devices"`
	Memories int          `json:"memories"` // that train together, those of other processes too
	Memory   []MemoryPlan `json:"memory"`   // of each memory of this process

	Batch           int     `json:"batch"`
	Leaf            int     `json:"leaf"`
	Ghost           int     `json:"ghost"`
	Lanes           int     `json:"lanes"`
	LeavesPerUpdate int     `json:"leaves_per_update"`
	UpdatesPerEpoch float64 `json:"updates_per_epoch"`
	Epochs          int     `json:"epochs"`       // of the run, with those of copies that a method trains after the recipe's
	EpochsDone      float64 `json:"epochs_done"`  // of a run that is resumed
	UpdatesLeft     int     `json:"updates_left"` // while the batch stays

	StepSeconds     float64 `json:"step_seconds"` // of the second of two updates
	ImagesPerSecond float64 `json:"images_per_second"`
	EvalSeconds     float64 `json:"eval_seconds"` // of the whole test set, from a part of it
	SecondsLeft     float64 `json:"seconds_left"` // of updates and evaluations

	// Uncertain says what the time does not take in.
	Uncertain []string `json:"uncertain"`
}

// MemoryPlan is what a run takes of a memory, in bytes.
type MemoryPlan struct {
	Name        string `json:"name"`
	Leaves      int    `json:"leaves"`       // that are computed in it at a time
	LeafBytes   int64  `json:"leaf_bytes"`   // samples and activations of each
	SharedBytes int64  `json:"shared_bytes"` // gradient sums, state of the optimiser, batch statistics
	ModelBytes  int64  `json:"model_bytes"`  // parameters and running statistics
	DataBytes   int64  `json:"data_bytes"`
	TotalBytes  int64  `json:"total_bytes"`
}

// DryRun does all that a run does before its first update, makes two updates, and says what the run will take. It
// refuses what [Train] refuses and leaves nothing behind, in the run directory or elsewhere. With Options.Resume it
// stands where the run in the directory stopped.
func DryRun(ctx context.Context, r *recipe.Recipe, o Options) (*Plan, error) {
	run := newRunDir(r, o)
	var p *Plan
	err := try(ctx, r, o, func(t *trainer) (err error) {
		if rank, _ := join.Processes(); rank == 0 {
			err = run.check(o.Resume)
		}
		if err := t.fleet.agree(err); err != nil {
			return err
		}
		if run.recipe, err = r.YAML(); err != nil {
			return err
		}
		if err := t.fleet.agree(run.follow(t, o.Resume)); err != nil {
			return err
		}
		if err := t.startMethods(); err != nil {
			return err
		}
		if p, err = t.plan(r); err != nil {
			return err
		}
		p.RunDir = o.RunDir
		return p.measure(ctx, t)
	})
	return p, err
}

// plan says what is known before the first update.
func (t *trainer) plan(r *recipe.Recipe) (*Plan, error) {
	f := t.fleet
	p := &Plan{Name: r.Name, Model: f.net.Name, Input: f.net.Input.String(), Classes: f.net.Classes, Methods: []string{}, Uncertain: []string{},
		Data: r.Data.Name, TrainSamples: f.train.set.Len(), TestSamples: f.test.set.Len(),
		Device: f.dev.Name(), Devices: len(f.workers), Memories: f.ranks,
		Batch: t.at.Batch, Leaf: f.leaf.Capacity, Ghost: f.ghost, Lanes: f.lanes, LeavesPerUpdate: t.leavesPerUpdate(), Epochs: t.cfg.epochs}
	for _, param := range f.net.Params {
		p.Parameters += param.Size()
	}
	for _, m := range t.methods {
		p.Methods = append(p.Methods, m.info.Name)
		if why := uncertainty(m); why != "" {
			p.Uncertain = append(p.Uncertain, why)
		}
	}
	p.Uncertain = append(p.Uncertain, "what else this machine does meanwhile, and writing checkpoints")
	if t.phases != nil {
		for i, c := range t.phases.copies {
			if i >= t.at.Phase {
				p.Epochs += c.Epochs
			}
		}
	}
	t.countUpdates(p)
	return p, t.planMemory(p, r)
}

// countUpdates counts the updates that are left if the batch stays.
func (t *trainer) countUpdates(p *Plan) {
	leaves, each := t.sampler.LeavesPerEpoch(), p.LeavesPerUpdate
	p.EpochsDone = float64(t.at.Epoch) + float64(t.at.Leaf)/float64(leaves)
	p.UpdatesPerEpoch = float64(leaves) / float64(each)
	p.UpdatesLeft = ((p.Epochs-t.at.Epoch)*leaves - t.at.Leaf) / each
	if t.cfg.dropLast {
		p.UpdatesPerEpoch = float64(leaves / each)
		p.UpdatesLeft = (p.Epochs-t.at.Epoch)*(leaves/each) - t.at.Leaf/each
	}
}

// uncertainty says why two updates do not tell what a run with the method takes; "" if they do.
func uncertainty(m method) string {
	_, epochs := m.Method.(methods.EpochEnder)
	_, updates := m.Method.(methods.UpdateEnder)
	_, copies := m.Method.(methods.Replicator)
	switch {
	case copies:
		return fmt.Sprintf("%s: its copies, counted at the rate of the recipe's updates, may be trained in other batches", m.info.Name)
	case (epochs || updates) && slices.Contains(m.info.Claims, "batch"):
		return fmt.Sprintf("%s: larger batches make fewer updates, and it costs %s", m.info.Name, m.info.Cost)
	case epochs || updates:
		return fmt.Sprintf("%s: what it does between updates costs %s", m.info.Name, m.info.Cost)
	}
	return ""
}

// planMemory says what the run takes of each memory.
func (t *trainer) planMemory(p *Plan, r *recipe.Recipe) error {
	f := t.fleet
	need, err := f.need(f.leaf.Capacity, min(f.ghost, f.leaf.Capacity), t.plannedBatch(), t.vectors(r, t.updater.rule))
	if err != nil {
		return err
	}
	size := func(home int, memories ...kernels.Memory) (bytes int64) {
		for _, m := range memories {
			if m != nil { // as are the images of a set that is streamed
				bytes += 4 * int64(part(m, home).Len())
			}
		}
		return bytes
	}
	for i, home := range f.homes {
		m := MemoryPlan{Name: home.Name(), Leaves: f.seats(i, t.plannedBatch()), LeafBytes: need.device, SharedBytes: need.shared,
			ModelBytes: size(i, f.params, f.state),
			DataBytes:  size(i, f.train.images, f.train.labels, f.train.normal, f.test.images, f.test.labels, f.test.normal)}
		m.TotalBytes = need.total(m.Leaves) + m.ModelBytes + m.DataBytes
		p.Memory = append(p.Memory, m)
	}
	return nil
}

// evalSamples is how much of the test set a dry run evaluates.
const evalSamples = 1024

// measure makes two updates and evaluates a part of the test set; the first update and the first evaluation warm up.
func (p *Plan) measure(ctx context.Context, t *trainer) error {
	f := t.fleet
	for range 2 {
		start, seen := time.Now(), t.at.Samples
		if err := t.tryUpdate(ctx); err != nil {
			return err
		}
		if err := kernels.Sync(f.dev); err != nil {
			return err
		}
		p.StepSeconds = time.Since(start).Seconds()
		p.ImagesPerSecond = float64(t.at.Samples-seen) / p.StepSeconds
	}
	n := min(evalSamples, f.test.set.Len())
	for range 2 {
		start := time.Now()
		if _, err := f.runEvaluation(&evaluation{on: f.test, indices: firstSamples(n), kind: evalProgram, size: f.leaf.Capacity}); err != nil {
			return err
		}
		p.EvalSeconds = time.Since(start).Seconds() * float64(f.test.set.Len()) / float64(n)
	}
	evaluations := ceilDiv(p.Epochs, t.cfg.evalEvery) - int(p.EpochsDone)/t.cfg.evalEvery
	p.SecondsLeft = float64(p.UpdatesLeft)*p.StepSeconds + float64(evaluations)*p.EvalSeconds
	return nil
}
