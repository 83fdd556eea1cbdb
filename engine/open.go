package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"broadside/cgo/device"
	"broadside/engine/collective"
	"broadside/engine/collective/join"
	"broadside/engine/collective/mpi"
	"broadside/engine/data"
	"broadside/engine/data/autoaugment"
	"broadside/engine/graph"
	"broadside/engine/methods"
	_ "broadside/engine/methods/all" // every method enrols itself
	"broadside/engine/optim"
	"broadside/engine/recipe"
	"broadside/engine/schedule"
	"broadside/engine/suggest"
	"broadside/kernels"
	"broadside/models"
)

// configOf is what a recipe says of the fleet.
func configOf(r *recipe.Recipe, o Options) fleetConfig {
	precision, _ := kernels.PrecisionNamed(r.Train.Precision) // checked with the recipe
	return fleetConfig{leaf: r.Batch.Leaf, ghost: r.Batch.Ghost, syncBN: r.Batch.SyncBN, lanes: r.Batch.Lanes,
		running: r.Batch.Running, smoothing: r.Train.LabelSmoothing, precision: precision, join: joinHomes(o), bucket: cmp.Or(o.BucketBytes, defaultBucket) / 4,
		timeout: cmp.Or(o.Timeout, collective.DefaultTimeout), fault: o.fault}
}

// joinHomes joins memories as the options say.
func joinHomes(o Options) joiner {
	return func(homes []kernels.Device) ([]collective.Comm, error) {
		return join.Homes(o.AllReduce, homes, o.Timeout)
	}
}

// open loads a recipe's data and opens it on devices.
func open(r *recipe.Recipe, o Options) (*fleet, error) {
	pair, err := data.Open(specOf(r.Data))
	if err != nil {
		return nil, err
	}
	devices, err := device.Open(deviceOf(o), o.Devices, r.Batch.Lanes, o.lost...)
	if err != nil {
		return nil, err
	}
	return openOn(r, pair, devices, o)
}

func specOf(d recipe.Data) data.Spec {
	return data.Spec{Name: d.Name, Path: d.Path, Coarse: d.Coarse, TrainLimit: d.TrainLimit, TestLimit: d.TestLimit,
		Files: data.Files{Size: d.Size, Resize: d.Resize, ValShare: d.ValShare, MaxBad: d.MaxBad, MaxBytes: int64(min(d.MaxMemoryGB*1e9, math.MaxInt64/2)),
			Decoder: d.Decoder, Stream: slices.Contains(d.Augment, "random_resized_crop")}}
}

// deviceOf is the kind of device that the options name. Of several processes on a machine with GPUs every one takes a
// GPU of its own, unless told which.
func deviceOf(o Options) string {
	if _, size := join.Processes(); size == 1 || o.Devices > 1 {
		return o.Device
	}
	if kind := device.Resolve(o.Device); kind != "cuda" {
		return kind
	}
	return fmt.Sprintf("cuda:%d", mpi.LocalRank())
}

// openOn builds a recipe's network on the devices, which are the fleet's from then on, and gives them the data.
func openOn(r *recipe.Recipe, pair *data.Pair, devices []kernels.Device, o Options) (*fleet, error) {
	net, err := openNetwork(r.Model, pair.Train)
	if err != nil {
		return nil, err
	}
	f, err := newFleet(net, devices, configOf(r, o))
	if err != nil {
		return nil, err
	}
	if err := f.load(pair, r.Data.Normalize == "dataset"); err != nil {
		f.close()
		return nil, err
	}
	f.weights, f.resumed = r.Model.Weights, o.Resume && hasCheckpoint(o.RunDir)
	return f, nil
}

// openNetwork builds the recipe's network for a data set.
func openNetwork(m recipe.Model, set *data.Set) (*graph.Network, error) {
	net, err := newNetwork(m.Name, set)
	if err != nil {
		return nil, err
	}
	if m.ZeroInitResidual && net.ZeroResiduals() == 0 {
		return nil, fmt.Errorf("model.zero_init_residual is true: model %s has no residual block that ends with a batch norm", m.Name)
	}
	if m.FCStd > 0 && !net.NormalOutput(m.FCStd) {
		return nil, fmt.Errorf("model.fc_std is %g: the last layer of model %s is not fully connected", m.FCStd, m.Name)
	}
	return net, nil
}

func newNetwork(name string, set *data.Set) (*graph.Network, error) {
	input := graph.Dims{H: set.H, W: set.W, C: set.C}
	net, err := models.New(name, input, set.Classes)
	if err == nil {
		return net, nil
	}
	switch hint := suggest.Nearest(name, models.Names()); hint {
	case "", name:
		return nil, fmt.Errorf("model.name %s for %v images of %s: %w", name, input, set.Name, err)
	default:
		return nil, fmt.Errorf("%w; did you mean %s?", err, hint)
	}
}

// load copies the data sets to the devices' memory.
func (f *fleet) load(pair *data.Pair, normalize bool) (err error) {
	var mean, std []float32
	if normalize {
		mean, std = pair.Train.Mean, pair.Train.Std
	}
	if f.train, err = newResident(f.dev, pair.Train, mean, std); err != nil {
		return err
	}
	if f.test, err = newResident(f.dev, pair.Test, mean, std); err != nil {
		return err
	}
	for r, set := range map[*resident]*data.Set{f.train: pair.Train, f.test: pair.Test} {
		if set.Streamed() {
			r.stream = newStream(set, mean, len(f.workers), f.leaf.Capacity)
		}
	}
	if pair.Train.Source == nil {
		return nil
	}
	return f.same("decoder of images", pair.Train.Source.Decoder())
}

// newTrainer makes a trainer with fresh parameters.
func newTrainer(f *fleet, r *recipe.Recipe, s sink) (*trainer, error) {
	t, rule, err := planTrainer(f, r, s)
	if err != nil {
		return nil, err
	}
	for _, a := range []augmentation{t.cfg.augment, f.pair.viewed()} {
		if err := f.paintFor(a); err != nil {
			return nil, err
		}
	}
	t.twice, t.copyNorms, t.line = newTwice(f, t.methods), newCopyNorms(t), newLine(t)
	if err := f.checkMemory(t.plannedBatch(), t.vectors(r, rule)); err != nil {
		return nil, err
	}
	if err := f.pair.alloc(f); err != nil {
		return nil, err
	}
	if t.updater, err = newUpdater(f, rule, t.methods); err != nil {
		return nil, err
	}
	t.updater.guard = newGuard(f, r, &t.at.Watch, t.updater.lengths)
	if err := f.initialise(r.Train.Seed); err != nil {
		return nil, err
	}
	if err := f.prepareTraining(); err != nil {
		return nil, err
	}
	t.phases.alloc(t)
	if err := t.copyNorms.alloc(); err != nil {
		return nil, err
	}
	if err := t.line.alloc(); err != nil {
		return nil, err
	}
	t.updater.norms, t.updater.line = t.copyNorms, t.line
	return t, t.twice.alloc()
}

// vectors counts the memories of the parameters' size that training needs besides the gradient sums.
func (t *trainer) vectors(r *recipe.Recipe, rule optim.Rule) int {
	return optim.Vectors(rule, t.fleet.net.Trained()) + measuringVectors(t.fleet, t.methods) + guardVectors(r) + t.twice.vectors() + t.copyNorms.vectors() + t.line.vectors()
}

// planTrainer makes what of a trainer needs no device, and with it checks the recipe against data and network. It
// resolves the recipe: every option of its methods is written out.
func planTrainer(f *fleet, r *recipe.Recipe, s sink) (*trainer, optim.Rule, error) {
	chosen, err := openMethods(r) // before the recipe is used: a method may lengthen it
	if err != nil {
		return nil, nil, err
	}
	t := &trainer{fleet: f, sink: s, methods: chosen, cfg: trainerConfig{epochs: r.Train.Epochs, evalEvery: r.Train.EvalEvery, batch: r.Batch.Size,
		dropLast: r.Batch.DropLast, lr: r.Optimizer.LR, seed: r.Train.Seed, augment: augmentationOf(r.Data), checkpointEvery: r.Checkpoint.EveryUpdates,
		saveEvery: minutes(r.Checkpoint.EveryMinutes), keepBest: r.Checkpoint.Best, logPerEpoch: r.Train.LogPerEpoch, haste: defaultHaste},
		at: progress{Batch: r.Batch.Size, LRScale: 1}}
	if n := f.train.set.Len(); n < r.Batch.Leaf {
		return nil, nil, fmt.Errorf("%s has %d samples: fewer than one leaf of %d; lower batch.leaf", f.train.set.Name, n, r.Batch.Leaf)
	}
	n := f.train.set.Len() / r.Batch.Leaf * r.Batch.Leaf
	if r.Batch.DropLast && n < r.Batch.Size {
		return nil, nil, fmt.Errorf("batch.size %d is more than an epoch of %d samples: with batch.drop_last true it would never update; use a smaller batch.size",
			r.Batch.Size, n)
	}
	if n*r.Train.Epochs < r.Batch.Size {
		return nil, nil, fmt.Errorf("batch.size %d is more than the run's %d epochs of %d samples: it would never update; use a smaller batch.size or more train.epochs",
			r.Batch.Size, r.Train.Epochs, n)
	}
	if t.sampler, err = data.NewSampler(f.train.set.Len(), r.Batch.Leaf, r.Train.Seed); err != nil {
		return nil, nil, err
	}
	if err := t.openHooks(); err != nil {
		return nil, nil, err
	}
	for _, m := range t.methods {
		if s, ok := m.Method.(methods.NormSetter); ok {
			if err := f.addNormSets(s.NormSets()); err != nil {
				return nil, nil, err
			}
		}
		if err := m.Prepare(control{t}); err != nil {
			return nil, nil, err
		}
		if _, ok := m.Method.(methods.GradientEstimator); ok {
			if !f.net.HasEstimated() {
				return nil, nil, fmt.Errorf("method %s: model %s marks no hidden layer for it: use local-mlp or local-cnn", m.info.Name, f.net.Name)
			}
			f.estimated = true
		}
	}
	if err := t.checkSync(); err != nil {
		return nil, nil, err
	}
	if err := t.checkTogether(); err != nil {
		return nil, nil, err
	}
	if err := t.checkSearch(); err != nil {
		return nil, nil, err
	}
	if err := f.pairUp(t.methods, r.Data); err != nil {
		return nil, nil, err
	}
	for _, a := range []augmentation{t.cfg.augment, f.pair.viewed()} {
		if err := checkPaint(a, &f.train.set); err != nil {
			return nil, nil, err
		}
	}
	t.openReplays(r.Batch.Size)
	if t.schedule, err = t.openSchedule(r); err != nil {
		return nil, nil, err
	}
	t.early = newEarly(t.methods)
	if err := t.openPhases(); err != nil {
		return nil, nil, err
	}
	rule, err := t.openRule(r.Optimizer)
	return t, rule, err
}

func augmentationOf(d recipe.Data) (a augmentation) {
	for _, name := range d.Augment {
		switch name {
		case "pad_crop":
			a.pad = d.Pad
		case "flip":
			a.flip = true
		case "cutout":
			a.cutout = d.CutoutSize
		case "random_resized_crop":
			a.cropArea = d.CropArea
		case "autoaugment":
			a.policy = autoaugment.ByName(d.AutoAugment)
		}
	}
	return a
}

// openHooks finds the methods that act on single samples.
func (t *trainer) openHooks() error {
	t.openWeigher()
	if err := t.openSelector(); err != nil {
		return err
	}
	return t.openCopies()
}

// openMethods makes the recipe's methods and refuses those that conflict.
func openMethods(r *recipe.Recipe) ([]method, error) {
	var out []method
	var infos []methods.Info
	for i := range r.Methods {
		m, err := openMethod(r, i)
		if err != nil {
			return nil, err
		}
		out, infos = append(out, m), append(infos, m.info)
	}
	return out, methods.CheckConflicts(infos)
}

// openMethod makes a method of the recipe, in which it writes out all its options.
func openMethod(r *recipe.Recipe, i int) (method, error) {
	entry := r.Methods[i]
	info, options, err := optionsOf(entry)
	if err != nil {
		return method{}, err
	}
	if l, ok := options.(methods.Lengthener); ok {
		r.Lengthen(l.Lengthen(r.Batch.Size))
	}
	m, err := info.New(options)
	if err != nil {
		return method{}, fmt.Errorf("%s: %w", entry.Pos(), err)
	}
	if r.Methods[i], err = recipe.NewMethod(entry.Name, options); err != nil {
		return method{}, err
	}
	if c, ok := m.(methods.Claimer); ok {
		info.Claims = c.Claims()
	}
	return method{info, m}, nil
}

// optionsOf returns a method's description, and its options with the recipe's values.
func optionsOf(entry recipe.Method) (methods.Info, any, error) {
	info, ok := methods.Lookup(entry.Name)
	if !ok {
		return info, nil, fmt.Errorf("%s: %w", entry.Pos(), suggest.Unknown("method", entry.Name, methods.Names()))
	}
	options := info.Options()
	return info, options, recipe.Decode(entry, options)
}

// openSchedule makes the recipe's schedule and lets the methods wrap it.
func (t *trainer) openSchedule(r *recipe.Recipe) (schedule.Schedule, error) {
	s := r.Schedule
	out, err := schedule.New(schedule.Options{Name: s.Name, Epochs: r.Train.Epochs, At: s.At, Decay: s.Factor,
		End: s.EndLR / r.Optimizer.LR, Power: s.Power, Peak: s.Peak, WarmupEpochs: s.WarmupEpochs, WarmupFrom: s.WarmupFrom, AfterWarmup: s.AfterWarmup})
	if err != nil {
		return nil, err
	}
	for _, m := range t.methods {
		if w, ok := m.Method.(methods.Scheduler); ok {
			if out, err = w.Schedule(control{t}, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// checkOptimizer refuses what is no optimizer.
func checkOptimizer(name string) error {
	if name == "sgd" {
		return nil
	}
	if _, ok := methods.Lookup(name); ok {
		return fmt.Errorf("optimizer.name is %s: other step rules than sgd are methods; write 'methods: [%s: {}]' and leave optimizer.name sgd", name, name)
	}
	return fmt.Errorf("optimizer.name: %w", suggest.Unknown("optimizer", name, []string{"sgd"}))
}

// openRule makes the recipe's step rule, or that of the method that replaces it.
func (t *trainer) openRule(o recipe.Optimizer) (optim.Rule, error) {
	if err := checkOptimizer(o.Name); err != nil {
		return nil, err
	}
	exclude, err := optim.Roles(o.DecayExclude)
	if err != nil {
		return nil, fmt.Errorf("optimizer.decay_exclude: %w", err)
	}
	rule := optim.SGD{Momentum: o.Momentum, Nesterov: o.Nesterov, WeightDecay: o.WeightDecay, NoDecay: exclude}
	for _, m := range t.methods {
		if s, ok := m.Method.(methods.Stepper); ok {
			return s.Rule(rule)
		}
	}
	return rule, nil
}
