package data

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestVerifyFolder(t *testing.T) {
	c := Content{[]string{"a.bin", "a.bin.gz"}, 3, "900150983cd24fb0d6963f7d28e17f72", ""} // MD5 of abc, from RFC 1321
	s := c
	s.SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // and its SHA-256, from FIPS 180
	none := Content{c.names, 3, "", ""}
	for _, k := range []struct {
		name    string
		content Content
		file    string
		bytes   []byte
		want    FileState
	}{
		{"MD5", c, "a.bin", []byte("abc"), FileState{"dir/a.bin", FileOK, "MD5"}},
		{"SHA-256", s, "a.bin", []byte("abc"), FileState{"dir/a.bin", FileOK, "SHA-256"}},
		{"packed", s, "a.bin.gz", zip(t, []byte("abc")), FileState{"dir/a.bin.gz", FileOK, "unpacked: SHA-256"}},
		{"unknown", none, "a.bin", []byte("xyz"), FileState{"dir/a.bin", FileUnknown, "no checksum is published; it has the right size"}},
		{"missing", s, "b.bin", nil, FileState{"dir/a.bin", FileMissing, "no such file"}},
		{"other", c, "a.bin", []byte("abd"), FileState{"dir/a.bin", FileDamaged,
			"its MD5 is 4911e516e5aa21d327512e0c8b197616; 900150983cd24fb0d6963f7d28e17f72 is published"}},
		{"short", none, "a.bin", []byte("ab"), FileState{"dir/a.bin", FileDamaged, "it has 2 bytes; 3 are published"}},
		{"long", s, "a.bin", []byte("abcd"), FileState{"dir/a.bin", FileDamaged, "it has more than the published 3 bytes"}},
		{"broken gzip", s, "a.bin.gz", zip(t, []byte("abc"))[:8], FileState{"dir/a.bin.gz", FileDamaged, "data file dir/a.bin.gz is not a gzip file: unexpected EOF"}},
	} {
		if got := k.content.verify(mapFolder(map[string][]byte{k.file: k.bytes})); got != k.want {
			t.Errorf("%s: %+v, want %+v", k.name, got, k.want)
		}
	}
}

// Every published file is named, sized and summed in a way that can be used.
func TestOfficials(t *testing.T) {
	if got := strings.Join(Fetchable(), " "); got != "cifar10 cifar100 mnist fashion-mnist svhn svhn-extra svhn-full" {
		t.Errorf("fetchable are %s", got)
	}
	for name, o := range officials {
		for _, d := range o.downloads {
			if !strings.HasPrefix(d.URL, "https://") || d.Bytes <= 0 || len(d.MD5) != 32 || len(d.SHA256) != 64 || strings.HasSuffix(d.URL, ".tar.gz") != (d.Folder != "") {
				t.Errorf("%s: %+v", name, d)
			}
		}
		for _, c := range o.contents {
			if len(c.names) == 0 || c.Bytes <= 0 || c.MD5 != "" && len(c.MD5) != 32 || c.SHA256 != "" && len(c.SHA256) != 64 {
				t.Errorf("%s: %+v", name, c)
			}
		}
		if d, err := lookup(name); err != nil || o.downloads[0].Folder != d.folder {
			t.Errorf("%s unpacks to %q, but is looked for in %q", name, o.downloads[0].Folder, d.folder)
		}
	}
}

// The sums of real files, where their folders are named.
func TestRealSums(t *testing.T) {
	for variable, name := range map[string]string{"BROADSIDE_CIFAR10": "cifar10", "BROADSIDE_FASHION_MNIST": "fashion-mnist"} {
		dir := os.Getenv(variable)
		if dir == "" {
			continue
		}
		states, err := Verify(Spec{Name: name, Path: dir})
		if err != nil || len(states) == 0 {
			t.Fatal(err)
		}
		for _, s := range states {
			if s.State != FileOK {
				t.Errorf("%+v", s)
			}
		}
	}
}

func TestVerifyPackedListsEveryChunk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.bspack")
	file := packed(t, packable(), packPage)
	for _, at := range []int{5000, 13000, 17000} {
		file[at] ^= 1
	}
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	states, err := Verify(Spec{Name: "packed", Path: path})
	if err != nil || len(states) != 3 || !strings.Contains(states[1].Detail, "chunk 2, bytes 12288 to 16383 (labels of shapes train: 0 to 49)") {
		t.Errorf("%+v, %v", states, err)
	}
	file[20] ^= 1
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	if states, err = Verify(Spec{Name: "packed", Path: path}); err != nil || len(states) != 1 || states[0].State != FileDamaged {
		t.Errorf("a damaged header: %+v, %v", states, err)
	}
}

func TestMoments(t *testing.T) {
	s := &Set{Images: []byte{0, 10, 255, 10, 0, 10, 255, 10}, Labels: []int32{1, 1}, H: 1, W: 2, C: 2, Classes: 3}
	mean, std := s.Moments()
	if !reflect.DeepEqual(mean, []float64{0.5, 10. / 255}) || !reflect.DeepEqual(std, []float64{0.5, 0}) {
		t.Errorf("mean %v, deviation %v", mean, std)
	}
	if got := s.ClassCounts(); !reflect.DeepEqual(got, []int{0, 2, 0}) {
		t.Errorf("counts %v", got)
	}
}

// A set whose images are elsewhere is not written.
func TestOnlyWhatIsInMemoryIsWritten(t *testing.T) {
	p := packable()
	p.Test.Images = nil
	wantError(t, p.WriteNPY(t.TempDir()), "shapes test has 0 bytes of 9 images in memory, where all 945 are needed")
	_, err := p.Pack(filepath.Join(t.TempDir(), "x.bspack"))
	wantError(t, err, "shapes test")
}
