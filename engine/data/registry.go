package data

import (
	"fmt"

	"broadside/engine/suggest"
	"broadside/testdata"
)

// Spec says which set to load.
type Spec struct {
	Name string // one of Names
	Path string // folder of the set's files; not used by a bundled set
	// Coarse takes the 20 coarse labels of CIFAR-100 instead of its 100 fine ones.
	Coarse bool
	// TrainLimit and TestLimit cut the sets down to balanced subsets of that size; 0 keeps all.
	TrainLimit, TestLimit int
	Files                 Files // of sets of image files
}

// Info describes a set that Open knows.
type Info struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Files   string `json:"files"`   // what Path must hold
	Bundled bool   `json:"bundled"` // needs no path
}

// dataset is an entry of the registry: what both sets have in common, and how to load them.
type dataset struct {
	Info
	folder string // name of the folder that the official archive unpacks to
	load   func(f folder, base Set, spec Spec) (*Pair, error)
	// loadPath loads a set that is no folder of files, instead of load.
	loadPath func(spec Spec) (*Pair, error)
	base     Set
}

// The normalisation constants are those that published training code uses. CIFAR-100 takes
// CIFAR-10's, as the large-batch papers' code does.
var (
	cifarMean, cifarStd     = []float32{0.4914, 0.4822, 0.4465}, []float32{0.2023, 0.1994, 0.2010}
	mnistMean, mnistStd     = []float32{0.1307}, []float32{0.3081}
	fashionMean, fashionStd = []float32{0.2860}, []float32{0.3530}
)

var (
	cifar10Names   = []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}
	digitNames     = []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}
	fashionNames   = []string{"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"}
	idxFiles       = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (each plain or .gz)"
	fashionBase    = Set{Classes: 10, ClassNames: fashionNames, Mean: fashionMean, Std: fashionStd}
	registeredSets = []dataset{
		{Info: Info{Name: "cifar10", Title: "CIFAR-10, 50,000 + 10,000 colour images of 32x32", Files: "data_batch_1.bin to data_batch_5.bin, test_batch.bin"},
			folder: "cifar-10-batches-bin", load: loadCIFAR10,
			base: Set{Classes: 10, ClassNames: cifar10Names, Mean: cifarMean, Std: cifarStd}},
		{Info: Info{Name: "cifar100", Title: "CIFAR-100, 50,000 + 10,000 colour images of 32x32", Files: "train.bin, test.bin"},
			folder: "cifar-100-binary", load: loadCIFAR100,
			base: Set{Classes: 100, Mean: cifarMean, Std: cifarStd}},
		{Info: Info{Name: "mnist", Title: "MNIST, 60,000 + 10,000 grey images of 28x28", Files: idxFiles},
			load: loadIDXPair, base: Set{Classes: 10, ClassNames: digitNames, Mean: mnistMean, Std: mnistStd}},
		{Info: Info{Name: "fashion-mnist", Title: "Fashion-MNIST, 60,000 + 10,000 grey images of 28x28", Files: idxFiles},
			load: loadIDXPair, base: fashionBase},
		{Info: Info{Name: "fashion-mnist-small", Title: "8,000 + 2,000 images of Fashion-MNIST, bundled", Bundled: true},
			load: loadIDXPair, base: fashionBase},
		{Info: Info{Name: "folder", Title: "JPEG and PNG files, a folder for each class (ImageNet, TinyImageNet, your own)", Files: "train/CLASS/*.jpg and val/CLASS/*.jpg, or CLASS/*.jpg alone"},
			load: loadFolders, base: imageBase},
		{Info: Info{Name: "webdataset", Title: "WebDataset: JPEG and PNG files in tar archives", Files: "NAME-train-000.tar and so on, NAME-val-000.tar, with KEY.jpg and KEY.cls or KEY.json"},
			load: loadShards, base: imageBase},
		svhnSet("svhn", "SVHN, 73,257 + 26,032 house numbers, cropped to 32x32", "train_32x32.mat, test_32x32.mat", "train_32x32.mat"),
		svhnSet("svhn-extra", "SVHN trained on its 531,131 extra images", "extra_32x32.mat, test_32x32.mat", "extra_32x32.mat"),
		svhnSet("svhn-full", "SVHN trained on its 604,388 training and extra images", "train_32x32.mat, extra_32x32.mat, test_32x32.mat",
			"train_32x32.mat", "extra_32x32.mat"),
		{Info: Info{Name: "npy", Title: "arrays of your own: images of [N, H, W, C] or [N, H, W] bytes, labels from 0",
			Files: "x_train.npy, y_train.npy, x_test.npy, y_test.npy"}, load: loadNPYPair},
		{Info: Info{Name: "packed", Title: "what 'broadside data pack' wrote of any other set", Files: "the packed file itself, as cifar10" + PackedExtension}, loadPath: loadPacked},
	}
)

// Sets describes the sets that Open knows.
func Sets() []Info {
	infos := make([]Info, len(registeredSets))
	for i, d := range registeredSets {
		infos[i] = d.Info
	}
	return infos
}

// Names lists the sets that Open knows.
func Names() []string {
	names := make([]string, len(registeredSets))
	for i, d := range registeredSets {
		names[i] = d.Name
	}
	return names
}

// Open loads a set by name and checks it. An unknown name gives an error with the known ones; a
// missing or damaged file, an error that names it and says what would be right.
func Open(spec Spec) (*Pair, error) {
	d, err := lookup(spec.Name)
	if err != nil {
		return nil, err
	}
	if spec.TrainLimit < 0 || spec.TestLimit < 0 {
		return nil, fmt.Errorf("data set %s: limits %d and %d: a limit is the number of images, 0 for all",
			d.Name, spec.TrainLimit, spec.TestLimit)
	}
	if err := d.checkFiles(spec.Files); err != nil {
		return nil, fmt.Errorf("data set %s: %w", d.Name, err)
	}
	if !d.Bundled && spec.Path == "" {
		return nil, d.needsPath()
	}
	pair, err := d.open(spec)
	if err != nil {
		return nil, fmt.Errorf("data set %s: %w", d.Name, err)
	}
	if pair.Train.Name == "" { // a packed set knows what it was
		pair.Train.Name, pair.Test.Name = d.Name+" train", d.Name+" test"
	}
	if err := pair.Check(); err != nil {
		return nil, err
	}
	return pair.Limit(spec.TrainLimit, spec.TestLimit), nil
}

// needsPath says what the set's path must be.
func (d *dataset) needsPath() error {
	if d.loadPath != nil {
		return fmt.Errorf("data set %s needs a path: %s", d.Name, d.Files)
	}
	return fmt.Errorf("data set %s needs a path: the folder with %s", d.Name, d.Files)
}

// open loads the set from where the spec says.
func (d *dataset) open(spec Spec) (*Pair, error) {
	if d.Bundled {
		return d.load(folder{testdata.FashionMNISTSmall(), "bundled " + d.Name}, d.base, spec)
	}
	if d.loadPath != nil {
		return d.loadPath(spec)
	}
	f, err := openFolder(spec.Path, d.folder)
	if err != nil {
		return nil, err
	}
	return d.load(f, d.base, spec)
}

func lookup(name string) (*dataset, error) {
	for i := range registeredSets {
		if registeredSets[i].Name == name {
			return &registeredSets[i], nil
		}
	}
	return nil, suggest.Unknown("data set", name, Names())
}

func loadCIFAR10(f folder, base Set, _ Spec) (*Pair, error) {
	return loadCIFARPair(f, base, cifar10, cifar10Train, cifar10Test)
}

func loadCIFAR100(f folder, base Set, spec Spec) (*Pair, error) {
	if spec.Coarse {
		base.Classes = 20
		return loadCIFARPair(f, base, cifar100Coarse, cifar100Train, cifar100Test)
	}
	return loadCIFARPair(f, base, cifar100Fine, cifar100Train, cifar100Test)
}

func loadCIFARPair(f folder, base Set, l cifarLayout, train, test []cifarFile) (*Pair, error) {
	a, err := loadCIFAR(f, base, l, train)
	if err != nil {
		return nil, err
	}
	b, err := loadCIFAR(f, base, l, test)
	return &Pair{Train: a, Test: b}, err
}

func loadIDXPair(f folder, base Set, _ Spec) (*Pair, error) {
	a, err := loadIDX(f, base, "train-images", "train-labels")
	if err != nil {
		return nil, err
	}
	b, err := loadIDX(f, base, "t10k-images", "t10k-labels")
	return &Pair{Train: a, Test: b}, err
}
