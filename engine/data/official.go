package data

// Download is a file that the authors of a data set publish.
type Download struct {
	URL    string
	Bytes  int64
	MD5    string
	SHA256 string
	Folder string // a .tar.gz unpacks to this folder; empty: the file is read as it is
}

// Content is a file of a data set, unpacked if it is kept as .gz, and its published checksums: empty where none is known.
type Content struct {
	names       []string // under which it is found
	Bytes       int64
	MD5, SHA256 string
}

// official is what is published of a data set.
type official struct {
	downloads []Download
	contents  []Content
}

// Downloads lists the files that the authors of the named set publish; none if they are not known.
func Downloads(name string) []Download { return officials[name].downloads }

// Fetchable lists the sets with Downloads.
func Fetchable() []string {
	var names []string
	for _, name := range Names() {
		if len(Downloads(name)) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// The MD5s below are the ones that the authors publish (CIFAR, Fashion-MNIST) or torchvision lists; the SHA-256s are those of
// TensorFlow Datasets' list of the same files, or taken here of files whose MD5 is the published one.
var officials = map[string]official{
	"cifar10": {
		downloads: []Download{{"https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", 170_052_171,
			"c32a1d4ab5d03f1284b67883e8d87530", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", "cifar-10-batches-bin"}},
		contents: []Content{
			content("data_batch_1.bin", 30_730_000, "5dd7e06a14cb22eb9f671a540d1b7c25", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
			content("data_batch_2.bin", 30_730_000, "5ea93a67294ea407fff1d09f752e9692", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
			content("data_batch_3.bin", 30_730_000, "942cd6a4bcdd0dd3c604fbe906cb4421", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
			content("data_batch_4.bin", 30_730_000, "ae636b3ba5c66a11e91e8cb52e771fcb", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
			content("data_batch_5.bin", 30_730_000, "53f37980c15c3d472c316c40844f3f0d", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
			content("test_batch.bin", 30_730_000, "803d5f7f4d78ea53de84dbe85f74fb6d", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
		}},
	"cifar100": {
		downloads: []Download{{"https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", 168_513_733,
			"03b5dce01913d631647c71ecec9e9cb8", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", "cifar-100-binary"}},
		contents: []Content{content("train.bin", 153_700_000, "", ""), content("test.bin", 30_740_000, "", "")}, // none is published
	},
	// The authors' own page no longer gives the files out; this is the copy of them that TensorFlow Datasets takes.
	"mnist": idxOfficial("https://storage.googleapis.com/cvdf-datasets/mnist/",
		[4]Download{
			{Bytes: 9_912_422, MD5: "f68b3c2dcbeaaa9fbdd348bbdeb94873", SHA256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"},
			{Bytes: 28_881, MD5: "d53e105ee54ea40749a09fcbcd1e9432", SHA256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"},
			{Bytes: 1_648_877, MD5: "9fb629c4189551a2d022fa330f9573f3", SHA256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"},
			{Bytes: 4_542, MD5: "ec29112dd5afa0611ce80d1b7f02629c", SHA256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"}},
		[4]Content{{MD5: "6bbc9ace898e44ae57da46a324031adb"}, {MD5: "a25bea736e30d166cdddb491f175f624"},
			{MD5: "2646ac647ad5339dbf082846283269ea"}, {MD5: "27ae3e4e09519cfbb04c329615203637"}}),
	"fashion-mnist": idxOfficial("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
		[4]Download{
			{Bytes: 26_421_880, MD5: "8d4fb7e6c68d591d4c3dfef9ec88bf0d", SHA256: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"},
			{Bytes: 29_515, MD5: "25c81989df183df01b3e8a0aad5dffbe", SHA256: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"},
			{Bytes: 4_422_102, MD5: "bef4ecab320f06d8554ea6380940ec79", SHA256: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"},
			{Bytes: 5_148, MD5: "bb300cfdad3c16e7a12a480ee83cd310", SHA256: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"}},
		[4]Content{
			{MD5: "f4a8712d7a061bf5bd6d2ca38dc4d50a", SHA256: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"},
			{MD5: "9018921c3c673c538a1fc5bad174d6f9", SHA256: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"},
			{MD5: "8181f5470baa50b63fa0f6fddb340f0a", SHA256: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"},
			{MD5: "15d484375f8d13e6eb1aabb0c3f46965", SHA256: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"}}),
	"svhn":       svhnOfficial(svhnTrain, svhnTest),
	"svhn-extra": svhnOfficial(svhnExtra, svhnTest),
	"svhn-full":  svhnOfficial(svhnTrain, svhnExtra, svhnTest),
}

var (
	svhnTrain = Download{"https://ufldl.stanford.edu/housenumbers/train_32x32.mat", 182_040_794,
		"e26dedcc434d2e4c54c9b2d4a06d8373", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8", ""}
	svhnTest = Download{"https://ufldl.stanford.edu/housenumbers/test_32x32.mat", 64_275_384,
		"eb5a983be6a315427106f1b164d9cef3", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b", ""}
	svhnExtra = Download{"https://ufldl.stanford.edu/housenumbers/extra_32x32.mat", 1_329_278_602,
		"a93ce644f1a588dc4d68dda5feec44a7", "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3", ""}
)

func content(name string, bytes int64, md5, sha256 string) Content {
	return Content{[]string{name}, bytes, md5, sha256}
}

// svhnOfficial is a set of files that are read as they are published.
func svhnOfficial(files ...Download) official {
	o := official{downloads: files}
	for _, d := range files {
		o.contents = append(o.contents, content(d.Name(), d.Bytes, d.MD5, d.SHA256))
	}
	return o
}

// idxOfficial completes what is published of MNIST or of a set like it: its four files in the order of training images and
// labels, test images and labels.
func idxOfficial(base string, downloads [4]Download, contents [4]Content) official {
	for i, part := range []struct {
		stem, kind string
		bytes      int64
	}{{"train-images", "idx3", 47_040_016}, {"train-labels", "idx1", 60_008}, {"t10k-images", "idx3", 7_840_016}, {"t10k-labels", "idx1", 10_008}} {
		names := idxNames(part.stem, part.kind)
		downloads[i].URL = base + names[0] + ".gz"
		contents[i].names, contents[i].Bytes = names, part.bytes
	}
	return official{downloads[:], contents[:]}
}
