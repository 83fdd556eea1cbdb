package recipe

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"unicode"

	"broadside/engine/data/autoaugment"
	"broadside/engine/suggest"
	"broadside/kernels"
)

// maxBatch and maxLanes bound what a recipe may ask for; both are far above any real use.
const (
	maxBatch = 1 << 24
	maxLanes = 64
)

// choices are the words that keys take, where those are few and the recipe's own.
var choices = map[string][]string{
	"data.normalize":          {"none", "dataset"},
	"data.augment":            {"pad_crop", "flip", "cutout", "random_resized_crop", "autoaugment"},
	"data.autoaugment":        autoaugment.Names(),
	"data.decoder":            {"auto", "libjpeg-turbo", "go"},
	"train.precision":         kernels.PrecisionNames(),
	"train.on_device_loss":    {"stop", "redistribute"},
	"train.on_anomaly":        {"stop", "skip", "rollback"},
	"batch.running":           {"sequential", "scaled", "mean"},
	"optimizer.decay_exclude": {"bn", "bias"},
	"schedule.name":           {"constant", "step", "cosine", "poly", "cyclic"},
}

// Choices returns the words that a key takes, or nil if they are not few.
func Choices(key string) []string { return slices.Clone(choices[key]) }

// checker collects the values that make no sense, one line each.
type checker struct{ errs []error }

func (c *checker) want(ok bool, format string, args ...any) {
	if !ok {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

// Validate checks the values of a resolved recipe. Every mistake is one line that names the key, the
// value and what would be right.
func (r *Recipe) Validate() error {
	c := &checker{}
	c.name(r.Name)
	c.data(&r.Data)
	c.want(r.Model.Name != "", "model.name is missing: name a network, such as resnet20")
	c.want(r.Model.FCStd >= 0 && finite(r.Model.FCStd), "model.fc_std %v is no standard deviation: use a number above 0, such as 0.01, or 0 for the default", r.Model.FCStd)
	c.want(r.Model.Weights == "" || !r.Model.ZeroInitResidual, "model.zero_init_residual true contradicts model.weights: blocks begin as the file has them; leave one out")
	c.train(&r.Train)
	c.want(r.Train.OnAnomaly != "rollback" || r.Checkpoint.EveryUpdates > 0, "train.on_anomaly rollback goes back to checkpoints by checkpoint.every_updates, which is 0: set it, as to 100")
	c.batch(&r.Batch)
	c.optimizer(&r.Optimizer)
	c.schedule(&r.Schedule, r.Train.Epochs)
	c.want(r.Checkpoint.EveryUpdates >= 0, "checkpoint.every_updates %d is negative: use a number of updates, or 0 to save none by their number", r.Checkpoint.EveryUpdates)
	c.want(r.Checkpoint.EveryMinutes >= 0 && r.Checkpoint.EveryMinutes <= 1e6, "checkpoint.every_minutes %v is no time: use a number of minutes, such as 5, or 0 to save none by time", r.Checkpoint.EveryMinutes)
	c.want(r.Checkpoint.Keep >= 1, "checkpoint.keep %d keeps no checkpoint: use 1 or more", r.Checkpoint.Keep)
	return errors.Join(c.errs...)
}

// name is printed in titles and may become a folder.
func (c *checker) name(name string) {
	bad := func(r rune) bool { return r == '/' || r == '\\' || !unicode.IsPrint(r) }
	ok := name != "" && len(name) <= 100 && name != "." && name != ".." && !strings.ContainsFunc(name, bad)
	c.want(ok, "name %s cannot name a run: use up to 100 printable characters without slashes", clip(name))
}

func (c *checker) data(d *Data) {
	c.want(d.Name != "", "data.name is missing: name a data set, such as cifar10")
	c.oneOf("data.normalize", d.Normalize, choices["data.normalize"]...)
	c.subset("data.augment", d.Augment, choices["data.augment"]...)
	for _, other := range []string{"pad_crop", "cutout"} {
		c.want(!slices.Contains(d.Augment, "random_resized_crop") || !slices.Contains(d.Augment, other), "data.augment has random_resized_crop and %s: random_resized_crop goes with flip and autoaugment alone", other)
	}
	c.want(d.Pad >= 0 && d.Pad <= 1024, "data.pad %d is out of range: use 0 to 1024 pixels", d.Pad)
	c.want(d.Pad != 0 || !slices.Contains(d.Augment, "pad_crop"), "data.pad 0 leaves pad_crop nothing to move: use 1 or more, or drop pad_crop from data.augment")
	c.want(d.CutoutSize >= 1 && d.CutoutSize <= 1024, "data.cutout_size %d is out of range: use 1 to 1024 pixels", d.CutoutSize)
	c.oneOf("data.autoaugment", d.AutoAugment, choices["data.autoaugment"]...)
	c.want(d.TrainLimit >= 0, "data.train_limit %d is negative: use a number of samples, or 0 for all", d.TrainLimit)
	c.want(d.TestLimit >= 0, "data.test_limit %d is negative: use a number of samples, or 0 for all", d.TestLimit)
	c.want(d.Size >= 0 && d.Size <= 4096, "data.size %d is out of range: use 1 to 4096 pixels", d.Size)
	c.want(d.Resize == 0 || d.Resize >= d.Size && d.Resize <= 4096, "data.resize %d is out of range: use data.size %d to 4096 pixels, or 0 for 8/7 of data.size", d.Resize, d.Size)
	c.want(d.CropArea > 0 && d.CropArea <= 1, "data.crop_area %v is out of range: use a share above 0, up to 1", d.CropArea)
	c.want(d.ValShare > 0 && d.ValShare < 1, "data.val_share %v is out of range: use a share above 0 and less than 1", d.ValShare)
	c.want(d.MaxBad >= 0, "data.max_bad %d is negative: use a number of images", d.MaxBad)
	c.want(d.MaxMemoryGB > 0 && finite(d.MaxMemoryGB), "data.max_memory_gb %v is out of range: use a number above 0", d.MaxMemoryGB)
	c.oneOf("data.decoder", d.Decoder, choices["data.decoder"]...)
}

func (c *checker) train(t *Train) {
	c.want(t.Epochs >= 1, "train.epochs %d is too few: use 1 or more", t.Epochs)
	c.oneOf("train.precision", t.Precision, choices["train.precision"]...)
	c.want(t.LabelSmoothing >= 0 && t.LabelSmoothing < 1, "train.label_smoothing %v is out of range: use 0 or more and less than 1", t.LabelSmoothing)
	c.oneOf("train.on_device_loss", t.OnDeviceLoss, choices["train.on_device_loss"]...)
	c.oneOf("train.on_anomaly", t.OnAnomaly, choices["train.on_anomaly"]...)
	c.want(t.AnomalyZ >= 0 && finite(t.AnomalyZ), "train.anomaly_z %v is no number of standard deviations: use one above 0, such as 6, or 0 for none", t.AnomalyZ)
	c.want(t.LogPerEpoch >= 0 && t.LogPerEpoch <= 1e6, "train.log_per_epoch %d is out of range: use a number of updates up to 1000000, such as 50, or 0 for none", t.LogPerEpoch)
	c.want(t.EvalEvery >= 1, "train.eval_every %d is too few: use 1 epoch or more", t.EvalEvery)
}

// batch stops at the first mistake: the later checks divide by the values of the earlier ones.
func (c *checker) batch(b *Batch) {
	c.want(b.Lanes >= 1 && b.Lanes <= maxLanes && bits.OnesCount(uint(b.Lanes)) == 1,
		"batch.lanes %d is not a power of two from 1 to %d: use 8", b.Lanes, maxLanes)
	c.oneOf("batch.running", b.Running, choices["batch.running"]...)
	switch {
	case b.Size < 1 || b.Size > maxBatch:
		c.want(false, "batch.size %d is out of range: use 1 to %d samples", b.Size, maxBatch)
	case b.Leaf < 1:
		c.want(false, "batch.leaf %d is too small: use 1 or more samples that divide batch.size %d", b.Leaf, b.Size)
	case b.Ghost < 1:
		c.want(false, "batch.ghost %d is too small: use 1 or more samples that divide batch.leaf %d", b.Ghost, b.Leaf)
	case b.Size < b.Ghost:
		c.want(false, "batch.size %d is smaller than batch.ghost %d: use a batch.ghost that divides %d, or a batch.size of %d or more", b.Size, b.Ghost, b.Size, b.Ghost)
	case b.Size%b.Leaf != 0:
		c.want(false, "batch.size %d is not a multiple of batch.leaf %d: use %s, or a batch.leaf that divides %d", b.Size, b.Leaf, multiples(b.Size, b.Leaf), b.Size)
	case b.Leaf%b.Ghost != 0:
		c.want(false, "batch.ghost %d does not divide batch.leaf %d: use %d", b.Ghost, b.Leaf, largestDivisor(b.Leaf, b.Ghost))
	case b.SyncBN && b.Ghost != b.Leaf:
		c.want(false, "batch.ghost %d with batch.sync_bn true: statistics are those of the whole batch; leave batch.ghost out", b.Ghost)
	}
}

// multiples names the multiples of unit on both sides of n.
func multiples(n, unit int) string {
	below := n / unit * unit
	if below == 0 {
		return fmt.Sprint(unit)
	}
	return fmt.Sprintf("%d or %d", below, below+unit)
}

// largestDivisor returns the largest divisor of n that is at most the given bound.
func largestDivisor(n, most int) int {
	for d := min(n, most); d > 1; d-- {
		if n%d == 0 {
			return d
		}
	}
	return 1
}

func (c *checker) optimizer(o *Optimizer) {
	c.want(o.Name != "", "optimizer.name is empty: use sgd")
	c.want(o.LR > 0 && finite(o.LR), "optimizer.lr %v is not a learning rate: use a number above 0", o.LR)
	c.want(o.Momentum >= 0 && o.Momentum < 1, "optimizer.momentum %v is out of range: use 0 or more and less than 1", o.Momentum)
	c.want(!o.Nesterov || o.Momentum != 0, "optimizer.nesterov true needs momentum: set optimizer.momentum above 0")
	c.want(o.WeightDecay >= 0 && finite(o.WeightDecay), "optimizer.weight_decay %v is out of range: use 0 or more", o.WeightDecay)
	c.subset("optimizer.decay_exclude", o.DecayExclude, choices["optimizer.decay_exclude"]...)
}

func (c *checker) schedule(s *Schedule, epochs int) {
	c.oneOf("schedule.name", s.Name, choices["schedule.name"]...)
	c.want(s.Name != "step" || len(s.At) > 0, "schedule.at is empty: schedule step needs the epochs at which the learning rate changes, like [30, 60]")
	for i, at := range s.At {
		c.want(at > 0, "schedule.at %d is no epoch: use whole numbers above 0", at)
		c.want(i == 0 || at > s.At[i-1], "schedule.at %d comes after %d: list the epochs in increasing order", at, s.At[max(i-1, 0)])
	}
	c.want(s.Factor > 0 && finite(s.Factor), "schedule.factor %v is not a multiplier: use a number above 0, such as 0.2", s.Factor)
	c.want(s.EndLR >= 0 && finite(s.EndLR), "schedule.end_lr %v is not a learning rate: use 0 or more", s.EndLR)
	c.want(s.Power > 0 && finite(s.Power), "schedule.power %v is not an exponent: use a number above 0, such as 2", s.Power)
	c.want(s.Peak > 0 && s.Peak < 1, "schedule.peak %v is no share of the run: use a number above 0 and below 1, such as 0.5", s.Peak)
	c.want(s.Name != "cyclic" || s.WarmupEpochs == 0, "schedule.warmup_epochs %v with schedule cyclic, which rises by itself: leave it out", s.WarmupEpochs)
	c.want(s.WarmupEpochs >= 0 && s.WarmupEpochs <= float64(epochs), "schedule.warmup_epochs %v does not fit into the run: use 0 to train.epochs %d", s.WarmupEpochs, epochs)
	c.want(!s.AfterWarmup || s.Name == "cosine" || s.Name == "poly", "schedule.after_warmup true with schedule %s, whose rate does not fall over the run: leave it out", s.Name)
	c.want(!s.AfterWarmup || s.WarmupEpochs < float64(epochs), "schedule.warmup_epochs %v leaves nothing of the run for schedule.after_warmup true: use less than train.epochs %d", s.WarmupEpochs, epochs)
	c.want(s.WarmupFrom >= 0 && s.WarmupFrom <= 1, "schedule.warmup_from %v is not a fraction of the learning rate: use 0 to 1", s.WarmupFrom)
}

// oneOf checks a value against the words that are allowed.
func (c *checker) oneOf(key, value string, words ...string) {
	if slices.Contains(words, value) {
		return
	}
	message := fmt.Sprintf("%s %s is not known: use %s", key, clip(value), strings.Join(words, ", "))
	if near := suggest.Nearest(value, words); near != "" {
		message += "; did you mean " + near + "?"
	}
	c.want(false, "%s", message)
}

// subset checks that each value is one of words and none is repeated.
func (c *checker) subset(key string, values []string, words ...string) {
	for i, v := range values {
		c.oneOf(key, v, words...)
		c.want(!slices.Contains(values[:i], v), "%s %s is listed twice: list it once", key, clip(v))
	}
}

func finite(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }
