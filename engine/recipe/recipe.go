// Package recipe reads, checks and writes recipes: the YAML file that says everything about a run.
//
// A recipe is read strictly. An unknown key, a duplicate key, a value of the wrong type or a value
// that makes no sense is refused with the place, the full dotted path of the key and what would be
// right. Values may be overridden by "a.b=c" strings, which are treated like lines of the file.
// Names of models, data sets, optimizers and methods are not checked here: those who own the
// registries do that, with [Suggest] for their hints.
package recipe

// Recipe is one training run. The yaml and doc tags of the structs below are the documentation that
// [Keys] prints; a default tag describes a default that is not a plain value.
type Recipe struct {
	Name       string     `yaml:"name" doc:"name of the run" default:"the file's name"`
	Data       Data       `yaml:"data"`
	Model      Model      `yaml:"model"`
	Train      Train      `yaml:"train"`
	Batch      Batch      `yaml:"batch"`
	Optimizer  Optimizer  `yaml:"optimizer"`
	Schedule   Schedule   `yaml:"schedule"`
	Checkpoint Checkpoint `yaml:"checkpoint"`
	Methods    []Method   `yaml:"methods" doc:"large-batch methods in any order, each as '- name: {option: value}'"`
}

// Data says what is trained on and how a sample is prepared.
type Data struct {
	Name        string   `yaml:"name" doc:"data set" default:"required"`
	Path        string   `yaml:"path" doc:"folder or file of the data set; a bundled data set needs none"`
	Coarse      bool     `yaml:"coarse" doc:"cifar100: train on the 20 coarse labels instead of the 100 fine ones"`
	Augment     []string `yaml:"augment" doc:"augmentations of training samples, done in this order: pad_crop or, for image files, random_resized_crop; flip; autoaugment; cutout, not after random_resized_crop; or none"`
	Normalize   string   `yaml:"normalize" doc:"none keeps pixels in [0, 1]; dataset subtracts the data set's mean and divides by its standard deviation"`
	Pad         int      `yaml:"pad" doc:"zero pixels that pad_crop adds on each side before it crops"`
	CutoutSize  int      `yaml:"cutout_size" doc:"side of the square that cutout erases, in pixels"`
	AutoAugment string   `yaml:"autoaugment" doc:"policy of autoaugment, by the data set that it was learned on"`
	TrainLimit  int      `yaml:"train_limit" doc:"use a class-balanced subset of so many training samples; 0 uses all"`
	TestLimit   int      `yaml:"test_limit" doc:"use a class-balanced subset of so many test samples; 0 uses all"`

	Size        int     `yaml:"size" doc:"image files: side of the square that images become, in pixels; other data sets have a size of their own"`
	Resize      int     `yaml:"resize" doc:"image files: what the shorter side is resized to before the middle is taken, in pixels; 0: 8/7 of data.size"`
	CropArea    float64 `yaml:"crop_area" doc:"share of an image's area that random_resized_crop takes at least"`
	ValShare    float64 `yaml:"val_share" doc:"image files that are not divided into train and val: share of each class to test on"`
	MaxBad      int     `yaml:"max_bad" doc:"image files that may be impossible to decode: another image of the class takes the place of each"`
	MaxMemoryGB float64 `yaml:"max_memory_gb" doc:"image files: GB of memory that decoded images may take"`
	Decoder     string  `yaml:"decoder" doc:"of JPEG files: libjpeg-turbo, go, or auto, which is the first of them that is present; they differ in the last bits"`
}

// Model names the network, whose size is in the name, and says how its parameters start.
type Model struct {
	Name             string  `yaml:"name" doc:"network, its size in the name: resnet20, wrn-16-4, c1" default:"required"`
	ZeroInitResidual bool    `yaml:"zero_init_residual" doc:"start the last batch norm of every residual block at scale 0, so that blocks begin as identities"`
	FCStd            float64 `yaml:"fc_std" doc:"standard deviation of the last layer's initial weights, normal around 0, with biases of 0; 0: PyTorch's default"`
	Weights          string  `yaml:"weights" doc:"safetensors file, checkpoint or run to start from, with PyTorch's names of tensors (torchvision's, timm's); the last layer starts anew where the number of classes differs"`
}

// Train holds the length of the run and what belongs to no other part.
type Train struct {
	Epochs         int     `yaml:"epochs" doc:"passes over the training set"`
	Seed           uint64  `yaml:"seed" doc:"key of all random numbers: weights, order, augmentation"`
	Precision      string  `yaml:"precision" doc:"arithmetic of convolutions and linear layers: f32, or bf16 or tf32, which round the factors of every product to bfloat16 (8 significant bits) or tf32 (11) and keep sums, weights and all else in f32; Hessian-vector products are always f32"`
	LabelSmoothing float64 `yaml:"label_smoothing" doc:"share of each label spread evenly over all classes, in [0, 1)"`
	EvalEvery      int     `yaml:"eval_every" doc:"epochs between two evaluations on the test set; the last epoch is always evaluated"`
	LogPerEpoch    int     `yaml:"log_per_epoch" doc:"updates of an epoch that are recorded with loss, learning rate, batch and speed, at most, evenly spaced; 0: none"`
	OnDeviceLoss   string  `yaml:"on_device_loss" doc:"when a device fails or hangs: stop, or redistribute, which goes on from the newest checkpoint on the other devices of this process, with the same bits"`
	OnAnomaly      string  `yaml:"on_anomaly" doc:"when the loss or the gradient of an update is no number, or out of line by anomaly_z: stop; skip, which leaves the update out; rollback, which goes back to the newest checkpoint by checkpoint.every_updates and leaves out the samples since"`
	AnomalyZ       float64 `yaml:"anomaly_z" doc:"an update is anomalous too if its loss or gradient norm lies more than so many standard deviations above the running mean, such as 6; 0: never"`
}

// Batch says how a step is cut: a batch is size/leaf leaves, dealt in order into lanes.
type Batch struct {
	Size     int    `yaml:"size" doc:"samples of one update at the start of the run"`
	Leaf     int    `yaml:"leaf" doc:"samples that one device computes alone; divides size" default:"the smaller of 128 and batch.size"`
	Ghost    int    `yaml:"ghost" doc:"samples that share batch norm statistics; divides leaf" default:"batch.leaf"`
	Lanes    int    `yaml:"lanes" doc:"partial sums of a step, a power of two; the largest number of devices"`
	Running  string `yaml:"running" doc:"how the running statistics of batch norm take in the ghosts of an update, with momentum 0.1: sequential, one after the other; scaled, one after the other with the momentum divided by their number; mean, all at once by the mean of their statistics"`
	DropLast bool   `yaml:"drop_last" doc:"true: an epoch ends with its last whole batch, as PyTorch's drop_last; false: an update may take its last leaves from the next epoch"`
	SyncBN   bool   `yaml:"sync_bn" doc:"true: batch norm takes its statistics over all samples of an update, instead of over ghosts; needs memory for the activations of all of them at once"`
}

// Optimizer is the update rule, with PyTorch's meaning of momentum and weight decay.
type Optimizer struct {
	Name         string   `yaml:"name" doc:"update rule"`
	LR           float64  `yaml:"lr" doc:"learning rate before schedule and methods"`
	Momentum     float64  `yaml:"momentum" doc:"momentum coefficient, in [0, 1)"`
	Nesterov     bool     `yaml:"nesterov" doc:"use Nesterov momentum"`
	WeightDecay  float64  `yaml:"weight_decay" doc:"L2 coefficient added to the gradient"`
	DecayExclude []string `yaml:"decay_exclude" doc:"parameters without weight decay: bn (scale and shift of batch norm), bias; empty decays all"`
}

// Schedule is the learning rate over the run.
type Schedule struct {
	Name         string  `yaml:"name" doc:"constant, step, cosine, poly or cyclic"`
	At           []int   `yaml:"at" doc:"step: epochs after which the learning rate is multiplied by factor"`
	Factor       float64 `yaml:"factor" doc:"step: the multiplier"`
	EndLR        float64 `yaml:"end_lr" doc:"cosine, poly, cyclic: learning rate at the end of the run; cyclic: also at its start"`
	Power        float64 `yaml:"power" doc:"poly: the exponent"`
	Peak         float64 `yaml:"peak" doc:"cyclic: share of the run after which the learning rate, rising on a line, reaches lr; from there it falls on a line"`
	WarmupEpochs float64 `yaml:"warmup_epochs" doc:"epochs over which the learning rate rises linearly from warmup_from to 1, per update"`
	WarmupFrom   float64 `yaml:"warmup_from" doc:"where the warm-up starts, as a fraction of lr"`
	AfterWarmup  bool    `yaml:"after_warmup" doc:"cosine, poly: true: fall from lr over what is left of the run after the warm-up; false: over the whole run, times the warm-up"`
}

// Checkpoint says when the run is saved.
type Checkpoint struct {
	EveryUpdates int     `yaml:"every_updates" doc:"updates between two checkpoints; 0 saves none by their number"`
	Keep         int     `yaml:"keep" doc:"newest checkpoints that are kept"`
	EveryMinutes float64 `yaml:"every_minutes" doc:"minutes between two checkpoints, beside those by updates; 0 saves none by time"`
	Best         bool    `yaml:"best" doc:"true: also keep checkpoints/best.safetensors, the network as it was at its best test accuracy"`
}

// Default returns a recipe with every default that does not depend on another key. Data and model
// have no name yet, and batch.leaf and batch.ghost are 0 until [Recipe.Resolve].
func Default() *Recipe {
	return &Recipe{
		Data:       Data{Normalize: "none", Pad: 4, CutoutSize: 16, AutoAugment: "imagenet", CropArea: 0.08, ValShare: 0.1, MaxMemoryGB: 4, Decoder: "auto"},
		Train:      Train{Epochs: 90, Seed: 1, Precision: "f32", EvalEvery: 1, LogPerEpoch: 50, OnDeviceLoss: "stop", OnAnomaly: "stop"},
		Batch:      Batch{Size: 128, Lanes: 8, Running: "sequential"},
		Optimizer:  Optimizer{Name: "sgd", LR: 0.1, Momentum: 0.9},
		Schedule:   Schedule{Name: "constant", Factor: 0.2, Power: 2, Peak: 0.5},
		Checkpoint: Checkpoint{EveryUpdates: 500, Keep: 3, EveryMinutes: 5},
	}
}

// Resolve fills in the defaults that depend on other keys and then checks all values, as
// [Recipe.Validate] does.
func (r *Recipe) Resolve() error {
	if r.Batch.Leaf == 0 {
		r.Batch.Leaf = min(128, r.Batch.Size)
	}
	if r.Batch.Ghost == 0 {
		r.Batch.Ghost = r.Batch.Leaf
	}
	return r.Validate()
}

// Lengthen multiplies the epochs of the run, and those of its schedule.
func (r *Recipe) Lengthen(factor int) {
	if factor == 1 {
		return
	}
	r.Train.Epochs *= factor
	at := make([]int, len(r.Schedule.At))
	for i, e := range r.Schedule.At {
		at[i] = e * factor
	}
	r.Schedule.At = at
	r.Schedule.WarmupEpochs *= float64(factor)
}

// Method returns the entry of the method called name, and whether the recipe has it.
func (r *Recipe) Method(name string) (Method, bool) {
	for _, m := range r.Methods {
		if m.Name == name {
			return m, true
		}
	}
	return Method{}, false
}
