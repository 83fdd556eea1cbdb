package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"broadside/engine/checkpoint"
)

// mistake is a command line that has to be refused.
type mistake struct {
	name   string
	args   string // split at spaces
	status int
	want   []string // parts of the message
}

// refused runs mistakes in the working directory: each ends with its status and one line on stderr,
// prints nothing else and writes nothing.
func refused(t *testing.T, mistakes []mistake) {
	t.Helper()
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			before := contents(t)
			r := broadside(strings.Fields(m.args)...)
			t.Logf("%s", r.errors)
			if r.status != m.status {
				t.Errorf("status %d; want %d", r.status, m.status)
			}
			if r.out != "" {
				t.Errorf("stdout has %q", r.out)
			}
			if strings.Count(r.errors, "\n") != 1 || !strings.HasPrefix(r.errors, "broadside: ") {
				t.Errorf("stderr is not one line: %q", r.errors)
			}
			for _, part := range m.want {
				if !strings.Contains(r.errors, part) {
					t.Errorf("stderr %q lacks %q", r.errors, part)
				}
			}
			if after := contents(t); after != before {
				t.Errorf("files changed from\n%sto\n%s", before, after)
			}
		})
	}
}

func TestUsageMistakes(t *testing.T) {
	t.Chdir(t.TempDir())
	refused(t, []mistake{
		{"unknown command", "trian quickstart", exitUsage, []string{"unknown command", "trian", "did you mean train?", "broadside --help"}},
		{"unknown command with a flag", "trian --json", exitUsage, []string{"unknown command", "trian", "did you mean train?"}},
		{"unknown command without a neighbour", "zzzzzz", exitUsage, []string{"zzzzzz", "want one of", "curvature"}},
		{"unknown command of recipe", "recipe kees", exitUsage, []string{"unknown command", "kees", "did you mean keys?", "broadside recipe --help"}},
		{"unknown flag", "train quickstart --resum", exitUsage, []string{"--resum", "did you mean --resume?", "broadside train --help"}},
		{"unknown short flag", "train -x", exitUsage, []string{"-x"}},
		{"flag without a value", "train quickstart --run", exitUsage, []string{"--run"}},
		{"flag of the wrong type", "train quickstart --devices two", exitUsage, []string{"--devices", "two", "a whole number"}},
		{"too many arguments", "train a b", exitUsage, []string{"2 arguments", "broadside train RECIPE"}},
		{"arguments of a listing", "models a", exitUsage, []string{"1 arguments", "broadside models"}},
		{"train nothing", "train", exitUsage, []string{"name a recipe", "quickstart", "--resume"}},
		{"metrics without a port", "train quickstart --metrics localhost", exitUsage, []string{"metrics address", "localhost", "127.0.0.1:9400"}},
		{"resume nothing", "train --resume", exitUsage, []string{"name a recipe", "--run DIR --resume"}},
		{"eval nothing", "eval", exitUsage, []string{"0 arguments", "CHECKPOINT|RUN"}},
		{"unknown attack", "eval x --attack pgdd", exitUsage, []string{"--attack", "\"pgdd\"", "none or one of fgsm, pgd"}},
		{"eps of nothing", "eval x --eps 0.1", exitUsage, []string{"--eps needs --attack"}},
		{"eps in bytes", "eval x --attack pgd --eps 8", exitUsage, []string{"--eps 8", "at most 1", "8/255"}},
		{"no eps", "eval x --attack pgd --eps 8/0", exitUsage, []string{"--eps \"8/0\"", "a fraction, as 8/255"}},
		{"no attack steps", "eval x --attack pgd --steps 0", exitUsage, []string{"--steps 0", "at least 1"}},
		{"no step size", "eval x --attack pgd --step-size 0", exitUsage, []string{"--step-size 0", "above 0"}},
		{"odd start", "eval x --attack pgd --start x", exitUsage, []string{"--start \"x\"", "random or clean"}},
		{"plot nothing", "plot", exitUsage, []string{"0 arguments", "RUN"}},
		{"plot as what", "plot x --out x.gif", exitUsage, []string{"--out x.gif", ".png or .svg"}},
		{"plot no run", "plot none", exitFailure, []string{"none", "name run directories"}},
		{"report nothing", "report", exitUsage, []string{"0 arguments", "RUN"}},
		{"no samples", "curvature x --samples 0", exitUsage, []string{"--samples 0", "at least 1"}},
		{"no eigenvalue", "curvature x --top 0", exitUsage, []string{"--top 0", "at least 1"}},
		{"no iteration", "curvature x --iterations -1", exitUsage, []string{"--iterations -1", "at least 1"}},
		{"no tolerance", "curvature x --tolerance 0", exitUsage, []string{"--tolerance 0", "above 0"}},
		{"one probe", "curvature x --trace --probes 1", exitUsage, []string{"--probes 1", "at least 2"}},
		{"trace tolerance", "curvature x --trace-tolerance -1", exitUsage, []string{"--trace-tolerance -1", "at least 0"}},
		{"no Lanczos step", "curvature x --density --lanczos-steps 0", exitUsage, []string{"--lanczos-steps 0", "at least 1"}},
		{"no start", "curvature x --density --starts 0", exitUsage, []string{"--starts 0", "at least 1"}},
		{"three dimensions", "curvature x --landscape --dimensions 3", exitUsage, []string{"--dimensions 3", "1 or 2"}},
		{"one point", "curvature x --landscape --points 1", exitUsage, []string{"--points 1", "at least 2"}},
		{"no span", "curvature x --landscape --span 0", exitUsage, []string{"--span 0", "above 0"}},
		{"a file for tables", "curvature x --csv d.csv", exitUsage, []string{"--csv d.csv", "a folder"}},
		{"odd batch normalisation", "curvature x --bn x", exitUsage, []string{"--bn", "\"x\"", "eval or ghost"}},
	})
}

func TestRecipeMistakes(t *testing.T) {
	tinyFolder(t)
	write(t, "bad.yaml", "data: {name: mnist\n")
	write(t, "typo.yaml", "data: {name: mnist, path: data}\nmodel: {name: resnet8}\nbatch: {sise: 16}\n")
	train := func(sets ...string) string { return "train tiny.yaml --set " + strings.Join(sets, " --set ") }
	refused(t, []mistake{
		{"no such recipe", "train quickstar", exitFailure, []string{"quickstar", "did you mean quickstart?"}},
		{"no such file", "train dir/none.yaml", exitFailure, []string{"dir/none.yaml", "no such file", "built in are"}},
		{"not YAML", "train bad.yaml", exitFailure, []string{"bad.yaml:1", "malformed"}},
		{"key in a file", "train typo.yaml", exitFailure, []string{"typo.yaml:3", "batch.sise", "did you mean batch.size?"}},
		{"key", train("train.epoch=3"), exitFailure, []string{"train.epoch", "did you mean train.epochs?"}},
		{"set without a value", train("epochs"), exitFailure, []string{"--set epochs", "key=value"}},
		{"set without a key", train("=3"), exitFailure, []string{"--set =3", "key=value"}},
		{"set of the wrong type", train("train.epochs=many"), exitFailure, []string{"train.epochs", "whole number", "many"}},
		{"set of broken YAML", train("schedule.at=[1"), exitFailure, []string{"--set schedule.at=[1", "malformed"}},
		{"set of a key below a value", train("train.epochs.x=1"), exitFailure, []string{"train.epochs"}},
		{"batch smaller than ghost", train("batch.size=4", "batch.leaf=4"), exitFailure, []string{"batch.size 4", "batch.ghost 8"}},
		{"ghost does not divide leaf", train("batch.ghost=5"), exitFailure, []string{"batch.ghost 5", "batch.leaf 16", "use 4"}},
		{"batch no multiple of leaf", train("batch.size=24"), exitFailure, []string{"batch.size 24", "batch.leaf 16", "16 or 32"}},
		{"lanes", train("batch.lanes=3"), exitFailure, []string{"batch.lanes 3", "power of two"}},
		{"model", train("model.name=resnet19"), exitFailure, []string{"resnet19", "did you mean resnet"}},
		{"model without a neighbour", train("model.name=transformer"), exitFailure, []string{"transformer", "resnet"}},
		{"model too large for the images", train("model.name=c2"), exitFailure, []string{"c2", "8x8x1"}},
		{"data set", train("data.name=cifar-10"), exitFailure, []string{"cifar-10", "did you mean cifar10?"}},
		{"method", train("methods.asba.patience=2"), exitFailure, []string{"asba", "did you mean absa?"}},
		{"option of a method", train("methods.absa.patients=2"), exitFailure, []string{"methods.absa.patients", "did you mean methods.absa.patience?"}},
		{"value of a method", train("methods.absa.attack_fraction=2"), exitFailure, []string{"attack_fraction", "2"}},
		{"max_batch", train("methods.absa.max_batch=40"), exitFailure, []string{"methods.absa.max_batch", "40", "multiple of batch.leaf (16)"}},
		{"max_batch of gg", train("methods.gg.max_batch=40"), exitFailure, []string{"methods.gg.max_batch", "40", "multiple of batch.leaf (16)"}},
		{"conflict", train("methods=[absa,gg]", "methods.absa.max_batch=64", "methods.gg.max_batch=64"), exitFailure, []string{"absa", "gg", "batch", "keep one"}},
		{"gg without steps", train("methods.gg.max_batch=64", "schedule.name=cosine"), exitFailure, []string{"gg", "schedule.name step"}},
		{"optimizer", train("optimizer.name=sdg"), exitFailure, []string{"optimizer", "sdg", "did you mean sgd?"}},
		{"leaf larger than the data", train("batch.leaf=128", "batch.size=128"), exitFailure, []string{"96 samples", "leaf of 128", "batch.leaf"}},
		{"batch larger than the run", train("batch.size=304"), exitFailure, []string{"batch.size 304", "3 epochs of 96 samples"}},
		{"device cuda", "train tiny.yaml --device cuda", exitFailure, []string{"cuda", "--device cpu"}},
		{"device gpu", "train tiny.yaml --device gpu", exitFailure, []string{"gpu", "auto, cpu, cuda"}},
		{"too many devices", "train tiny.yaml --devices 99", exitFailure, []string{"99 devices", "batch.lanes, 8"}},
		{"negative devices", "train tiny.yaml --devices -1", exitFailure, []string{"-1 devices", "batch.lanes, 8"}},
	})
}

// Several mistakes of one recipe are told at once, a line each.
func TestEveryMistakeOfARecipeIsTold(t *testing.T) {
	tinyFolder(t)
	r := broadside("train", "tiny.yaml", "--set", "train.epochs=0", "--set", "optimizer.lr=-1")
	if r.status != exitFailure || !strings.Contains(r.errors, "train.epochs 0") || !strings.Contains(r.errors, "optimizer.lr -1") {
		t.Errorf("status %d, %s", r.status, r.errors)
	}
}

// sized makes a file of a size that begins with the given bytes.
func sized(t *testing.T, path string, size int64, first ...byte) {
	t.Helper()
	write(t, path, string(first))
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func TestDataMistakes(t *testing.T) {
	tinyFolder(t)
	for _, dir := range []string{"missing", "truncated", "records", "label"} {
		for _, name := range []string{"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"} {
			sized(t, dir+"/"+name+".bin", 0)
		}
	}
	if err := os.Remove("missing/data_batch_4.bin"); err != nil {
		t.Fatal(err)
	}
	sized(t, "truncated/data_batch_1.bin", 10000*3073-1)
	sized(t, "records/data_batch_1.bin", 10000*3074)
	sized(t, "label/data_batch_1.bin", 10000*3073, 10)
	writeIDX(t, "labels/train", tinyTrain)
	writeIDX(t, "labels/t10k", tinyTest)
	labels := []byte(read(t, "labels/t10k-labels-idx1-ubyte"))
	labels[len(labels)-1] = 10
	write(t, "labels/t10k-labels-idx1-ubyte", string(labels))
	cifar := func(path string) string { return "train cifar10-bl --set data.path=" + path }
	refused(t, []mistake{
		{"no path", "train cifar10-bl --set data.path=", exitFailure, []string{"cifar10 needs a path", "data_batch_1.bin"}},
		{"no folder", cifar("none"), exitFailure, []string{"none", "no such file"}},
		{"a file", cifar("tiny.yaml"), exitFailure, []string{"tiny.yaml is a file", "folder"}},
		{"missing file", cifar("missing"), exitFailure, []string{"missing has no data_batch_4.bin"}},
		{"truncated", cifar("truncated"), exitFailure, []string{"truncated/data_batch_1.bin has 30729999 bytes", "30730000 bytes = 10000 records of 3073"}},
		{"wrong record size", cifar("records"), exitFailure, []string{"records/data_batch_1.bin has 30740000 bytes", "records of 3073"}},
		{"label", cifar("label"), exitFailure, []string{"label/data_batch_1.bin", "label 10 of record 0", "0 to 9"}},
		{"label of the test set", "train tiny.yaml --set data.path=labels", exitFailure, []string{"t10k-labels", "label 10 of record 19", "0 to 9"}},
	})
}

func TestImageFileMistakes(t *testing.T) {
	tinyFolder(t)
	for _, name := range []string{"one/cat/a.jpg", "two/cat/a.jpg", "two/cat/b.jpg", "two/dog/a.jpg", "two/dog/b.jpg", "gap/a-0.tar", "gap/a-2.tar", "odd/a.tar"} {
		write(t, name, "no image "+name)
	}
	folder := func(path, more string) string { return "train folder --set data.path=" + path + more }
	shards := func(path string) string { return folder(path, " --set data.name=webdataset") }
	refused(t, []mistake{
		{"no folder", folder("none", ""), exitFailure, []string{"none", "no such file"}},
		{"one class", folder("one", ""), exitFailure, []string{"data folder one has 1 folders", "two or more"}},
		{"no image", folder("two", " --set data.augment=[flip]"), exitFailure, []string{"image two/", "neither a JPEG nor a PNG file", "data.max_bad"}},
		{"no size", folder("two", " --set data.size=0"), exitFailure, []string{"data.size is 0", "224"}},
		{"negative size", folder("two", " --set data.size=-4"), exitFailure, []string{"data.size -4", "1 to 4096"}},
		{"decoder", folder("two", " --set data.decoder=turbo"), exitFailure, []string{"data.decoder \"turbo\"", "use auto, libjpeg-turbo, go"}},
		{"crops and padding", folder("two", " --set data.augment=[random_resized_crop,pad_crop]"), exitFailure, []string{"random_resized_crop and pad_crop"}},
		{"crop area", folder("two", " --set data.crop_area=0"), exitFailure, []string{"data.crop_area 0", "above 0"}},
		{"share", folder("two", " --set data.val_share=1"), exitFailure, []string{"data.val_share 1", "less than 1"}},
		{"crops of other sets", "train tiny.yaml --set data.augment=[random_resized_crop]", exitFailure, []string{"mnist", "random_resized_crop", "one size"}},
		{"policy", "train tiny.yaml --set data.autoaugment=v0", exitFailure, []string{"data.autoaugment \"v0\"", "use imagenet, cifar10, svhn"}},
		{"augmentation of a view", "train tiny.yaml --set methods.conadv.view=[randaugment]", exitFailure, []string{"methods.conadv.view", "autoaugment"}},
		{"size of other sets", "train tiny.yaml --set data.size=8", exitFailure, []string{"mnist", "data.size is 8", "one size"}},
		{"no archive", shards("two"), exitFailure, []string{"two has no archives", "NAME-000.tar"}},
		{"missing archive", shards("gap"), exitFailure, []string{"a-0.tar to a-2.tar", "number 1"}},
		{"no tar", shards("odd"), exitFailure, []string{"odd/a.tar"}},
	})
}

func TestRunDirectoryMistakes(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r", "--set", "train.epochs=1", "--set", "schedule.name=constant", "--set", "schedule.at=[]")
	const same = " --set train.epochs=1 --set schedule.name=constant --set schedule.at=[]"
	write(t, "file", "")
	write(t, "stale/checkpoints/step-000000009.safetensors", "")
	write(t, "broken/events.jsonl", "nonsense\n{}\n")
	for _, name := range []string{"events.jsonl", "checkpoints", "recipe.yaml"} { // as in a run that somebody sent
		dir := "linked-" + name
		if err := os.CopyFS(dir, os.DirFS("r")); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.RemoveAll(dir+"/"+name), os.Symlink("../r/"+name, dir+"/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, []mistake{
		{"holds a run", "train tiny.yaml --run r", exitFailure, []string{"r already holds a run", "--resume", "--run"}},
		{"holds checkpoints", "train tiny.yaml --run stale", exitFailure, []string{"stale already holds a run", "checkpoints"}},
		{"is a file", "train tiny.yaml --run file", exitFailure, []string{"file is a file", "--run"}},
		{"is below a file", "train tiny.yaml --run file/r", exitFailure, []string{"file/r", "not a directory"}},
		{"nothing to resume", "train tiny.yaml --run none --resume", exitFailure, []string{"none holds no run to resume", "--resume"}},
		{"nothing to resume and no recipe", "train --run none --resume", exitFailure, []string{"none holds no run to resume", "--resume"}},
		{"resume with another model", "train tiny.yaml --run r --resume --set model.name=resnet14" + same, exitFailure,
			[]string{"resuming r", "model", "resnet14", "resnet8", "must not change"}},
		{"resume with another rate", "train --run r --resume --set optimizer.lr=0.1", exitFailure, []string{"optimizer", "lr: 0.1", "lr: 0.05"}},
		{"events elsewhere", "train --run linked-events.jsonl --resume", exitFailure, []string{"linked-events.jsonl/events.jsonl is no file of its own", "outside of its directory"}},
		{"checkpoints elsewhere", "train --run linked-checkpoints --resume", exitFailure, []string{"linked-checkpoints/checkpoints is no folder of its own"}},
		{"a recipe elsewhere", "train --run linked-recipe.yaml --resume", exitFailure, []string{"linked-recipe.yaml/recipe.yaml is no file of its own"}},
		{"report of no run", "report data", exitFailure, []string{"data holds no run", "name a run directory"}},
		{"report of nothing", "report none", exitFailure, []string{"none holds no run", "name a run directory"}},
		{"plot over what", "plot r --x epochs", exitFailure, []string{"unknown axis", "epochs", "did you mean epoch?"}},
		{"plot what", "plot r --y loss,batches", exitFailure, []string{"unknown quantity", "batches", "did you mean batch?"}},
		{"plot what was not measured", "plot r --y density", exitFailure, []string{"no density", "broadside curvature RUN --density"}},
		{"plot to nowhere", "plot r --out none/plot.png", exitFailure, []string{"none/plot.png", "no such file"}},
		{"report of a broken run", "report broken", exitFailure, []string{"broken/events.jsonl:1", "not an event"}},
	})
}

func TestUnwritableRunDirectory(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write anywhere")
	}
	tinyFolder(t)
	for _, dir := range []string{"locked", "shut"} {
		if err := os.Mkdir(dir, 0o555); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, []mistake{
		{"itself", "train tiny.yaml --run shut", exitFailure, []string{"shut", "permission denied"}},
		{"its parent", "train tiny.yaml --run locked/r", exitFailure, []string{"locked/r", "permission denied"}},
	})
}

func TestCheckpointMistakes(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r", "--set", "checkpoint.keep=1")
	const last = "checkpoints/step-000000018.safetensors"
	change := func(path string, edit func(ck *checkpoint.Checkpoint)) {
		ck, err := checkpoint.Read("r/" + last)
		if err != nil {
			t.Fatal(err)
		}
		edit(ck)
		if err := checkpoint.Write(path, ck); err != nil {
			t.Fatal(err)
		}
	}
	const recipeKey = "broadside.recipe"
	change("other.safetensors", func(ck *checkpoint.Checkpoint) {
		ck.Meta[recipeKey] = strings.Replace(ck.Meta[recipeKey], "resnet8", "f1", 1)
	})
	change("extra.safetensors", func(ck *checkpoint.Checkpoint) { ck.Tensors["layer9.weight"] = ck.Tensors["fc.bias"] })
	change("foreign.safetensors", func(ck *checkpoint.Checkpoint) { delete(ck.Meta, recipeKey) })
	write(t, "text.safetensors", "no checkpoint at all")
	write(t, "cut.safetensors", read(t, "r/"+last)[:5000])
	write(t, "torn/recipe.yaml", read(t, "r/recipe.yaml"))
	write(t, "torn/"+last, read(t, "r/"+last))
	flip(t, "torn/"+last)
	refused(t, []mistake{
		{"no such checkpoint", "eval none", exitFailure, []string{"none does not exist", "checkpoint file or the directory of a run"}},
		{"no run", "eval data", exitFailure, []string{"data holds no checkpoint", "checkpoint file or the directory of a run"}},
		{"another model by --set", "eval r --set model.name=resnet14", exitFailure, []string{last, "resnet14", "another model's"}},
		{"another model", "eval other.safetensors", exitFailure, []string{"other.safetensors", "f1", "another model's"}},
		{"a tensor too many", "eval extra.safetensors", exitFailure, []string{"extra.safetensors", "layer9.weight", "another model's"}},
		{"no recipe", "curvature foreign.safetensors", exitFailure, []string{"foreign.safetensors carries no recipe"}},
		{"text", "eval text.safetensors", exitFailure, []string{"text.safetensors", "no safetensors file"}},
		{"cut", "eval cut.safetensors", exitFailure, []string{"cut.safetensors", "cut off"}},
		{"flipped byte", "eval torn/" + last, exitFailure, []string{"torn/" + last, "is damaged"}},
		{"a run of another model", "curvature other.safetensors --bn ghost", exitFailure, []string{"other.safetensors", "f1", "another model's"}},
		{"flipped byte in the only one", "eval torn", exitFailure, []string{"no checkpoint in torn/checkpoints can be used", last}},
		{"resume from a flipped byte", "train --run torn --resume", exitFailure, []string{"resuming torn", "no checkpoint in torn/checkpoints can be used", last}},
		{"data moved", "eval r --set data.path=none", exitFailure, []string{"none", "no such file"}},
		{"key", "eval r --set data.pth=none", exitFailure, []string{"data.pth", "did you mean data.path?"}},
		{"more samples than there are", "curvature r --samples 97", exitFailure, []string{"97 samples wanted", "has 96"}},
		{"no place for tables", "curvature r --density --csv none/d", exitFailure, []string{"as tables", "none"}},
		{"a file where tables go", "curvature r --csv tiny.yaml", exitFailure, []string{"as tables", "tiny.yaml is a file"}},
		{"no place for the eigenvectors", "curvature r --eigenvectors none/v.npy", exitFailure, []string{"writing the eigenvectors", "none"}},
		{"device cuda", "eval r --device cuda", exitFailure, []string{"cuda", "--device cpu"}},
		{"too many devices", "curvature r --devices 99", exitFailure, []string{"99 devices", "batch.lanes, 8"}},
	})
}
