package engine

import (
	"maps"
	"slices"
	"testing"

	"broadside/engine/methods"
	"broadside/engine/recipe"
)

// settings makes each method act within a few epochs of the small run below. A new method is enrolled
// in every shared test by its line here; a test fails while it has none.
var settings = map[string]string{
	"abs":         "abs: {max_batch: 128, patience: 3, probe_every: 96}",
	"absa":        "absa: {max_batch: 128, patience: 1, epsilon: 0.05, attack_fraction: 0.5}",
	"adabatch":    "adabatch: {every: 1, warmup_epochs: 0}",
	"advprop":     "advprop: {epsilon: 0.1, step: 0.05, iterations: 2}",
	"agc":         "agc: {lambda: 0.02}",
	"autowu":      "autowu: {start: 0.01, warmup_fraction: 0.9, confidence: 0.02, patience: 1}",
	"batchaug":    "batchaug: {copies: 3}",
	"batchsched":  "batchsched: {at: [1, 2], max_batch: 256, lr: linear}",
	"bigbatch":    "bigbatch: {theta: 0.2, growth: 1.5, max_batch: 256}",
	"cabs":        "cabs: {factor: 30, ema: 0.5, max_batch: 160}",
	"cafo":        "cafo: {ridge: 0.1}",
	"cblr":        "cblr: {estimator: secant, coefficient: 0.1}",
	"clars":       "clars: {max_ratio: 0.5}",
	"clip":        "clip: {max_norm: 0.5}",
	"conadv":      "conadv: {epsilon: 0.1, step: 0.1}",
	"disadv":      "disadv: {epsilon: 0.1, step: 0.1}",
	"distance":    "distance: {per_decade: 5, per_tensor: true}",
	"extrap":      "extrap: {inner_rate: 2}",
	"fb":          "fb: {base_batch: 16, warmup_epochs: 2}",
	"fgsmrs":      "fgsmrs: {epsilon: 0.1}",
	"forwardgrad": "forwardgrad: {}",
	"free":        "free: {epsilon: 0.1, step: 0.05, replays: 3}",
	"gg":          "gg: {max_batch: 128}",
	"gns":         "gns: {control: true, ema: 0.5, max_batch: 256}",
	"lamb":        "lamb: {clip: 0.5}",
	"lars":        "lars: {variant: tpu, coefficient: 0.1}",
	"layerwise":   "layerwise: {probe_samples: 40, max: 0.5}",
	"mclr":        "mclr: {coefficient: 0.1}",
	"noise":       "noise: {variance: 1, base_batch: 32}",
	"persample":   "persample",
	"pgd":         "pgd: {epsilon: 0.1, iterations: 2, mix: 0.5}",
	"regime":      "regime: {base_batch: 32, longer: true}",
	"sam":         "sam: {rho: 2, adaptive: true, interval: 2}",
	"sgs":         "sgs: {every: 1, samples: 64}",
	"sibp":        "sibp: {iterations: 2}",
	"smallloss":   "smallloss: {keep: 0.5}",
	"structure":   "structure: {every: 2, per_tensor: true}",
	"swap":        "swap: {stop_accuracy: 0.3, workers: 2, epochs: 1, batch: 32, lr: 0.02, keep_momentum: true}",
	"vrsgd":       "vrsgd: {}",
}

// needs are changes of the small recipe that a method asks for.
var needs = map[string][]string{"autowu": {"schedule.name=constant"}, "cafo": {"model.name=cafo3"}, "forwardgrad": {"model.name=local-cnn"}, "sibp": {"model.name=mlp-12", "batch.drop_last=true"}, "smallloss": {"batch.drop_last=true"}, "vrsgd": {"batch.size=288"}}

// searching is what a search for the learning rate asks for. The first step is much too long.
var searching = []string{"optimizer.lr=30", "optimizer.momentum=0", "optimizer.weight_decay=0", "schedule.name=constant"}

// variants are recipes without a method that the shared tests train too, as changes of the small recipe.
var variants = map[string][]string{
	"guarded":                  {"train.on_anomaly=skip", "train.anomaly_z=1", "train.epochs=6"}, // judged from the 21st update on
	"bf16":                     {"train.precision=bf16"},
	"tf32":                     {"train.precision=tf32"},
	"bigbatch, armijo":         slices.Concat([]string{"methods=[bigbatch: {theta: 0.2, growth: 1.5, max_batch: 256, step: armijo}]"}, searching),
	"bigbatch, bb":             slices.Concat([]string{"methods=[bigbatch: {theta: 1, growth: 1.5, max_batch: 256, step: bb}]"}, searching),
	"fgsmrs, stopped":          {"methods=[fgsmrs: {epsilon: 0.1, early_stop: 0.2}]", "optimizer.lr=0.5", "train.epochs=5"}, // after the third epoch
	"batchaug, norm of a copy": {"methods=[batchaug: {copies: 3, adapt_grad_norm: 2}]"},
	"sam, per lane":            {"methods=[sam: {rho: 2, per_lane: true}]"},
	"smallloss, threshold":     {"methods=[smallloss: {rule: threshold, min_loss: 1.3}]", "batch.drop_last=true"},
	"conadv, view":             {"methods=[conadv: {epsilon: 0.1, step: 0.1, view: [flip, cutout]}]"},
	"conadv, autoaugment":      {"methods=[conadv: {epsilon: 0.1, step: 0.1, view: [pad_crop, flip, autoaugment, cutout]}]", "data.autoaugment=cifar10"},
	"autoaugment":              {"data.augment=[pad_crop, flip, autoaugment, cutout]"},
	"autoaugment, batchaug":    {"data.augment=[flip, autoaugment]", "methods=[" + settings["batchaug"] + "]"},
	"streamed, autoaugment":    {"data.augment=[random_resized_crop, flip, autoaugment]"},
	"drop_last":                {"batch.drop_last=true"},
	"fold scaled":              {"batch.running=scaled"},
	"fold mean":                {"batch.running=mean"},
	"local losses":             {"model.name=local-cnn"},
	"streamed":                 {"data.augment=[random_resized_crop, flip]"},
	"streamed, abs":            {"data.augment=[random_resized_crop, flip]", "methods=[" + settings["abs"] + "]"}, // probes, and a batch that grows
	"sync_bn":                  {"batch.sync_bn=true", "batch.ghost=32"},
	"sync_bn, absa":            {"batch.sync_bn=true", "batch.ghost=32", "methods=[" + settings["absa"] + "]"}, // attacks, and a batch that grows
}

func TestEveryMethodIsEnrolled(t *testing.T) {
	for _, name := range methods.Names() {
		if _, ok := settings[name]; !ok {
			t.Errorf("method %s has no line in the settings table", name)
		}
	}
}

// smallRecipe trains a ResNet-8 on 8x8 images: three epochs of eleven leaves of 32, in ghosts of 16. The
// method may be one of the variants.
func smallRecipe(t testing.TB, method string) *recipe.Recipe {
	t.Helper()
	if change, ok := variants[method]; ok {
		return parseRecipe(t, smallText, change...)
	}
	text := smallText
	if method != "" {
		text += "methods:\n  - " + settings[method] + "\n"
	}
	return parseRecipe(t, text, needs[method]...)
}

const smallText = `
name: small
data: {name: synthetic, augment: [pad_crop, flip, cutout], pad: 1, cutout_size: 2}
model: {name: resnet8}
train: {epochs: 3, seed: 7, label_smoothing: 0.1}
batch: {size: 64, leaf: 32, ghost: 16, lanes: 8}
optimizer: {lr: 0.05, momentum: 0.9, weight_decay: 0.001, decay_exclude: [bn]}
schedule: {name: step, at: [1, 2], factor: 0.5}
checkpoint: {every_updates: 0}
`

func allMethods() []string {
	return append(slices.Sorted(maps.Keys(variants)), append([]string{""}, methods.Names()...)...)
}
