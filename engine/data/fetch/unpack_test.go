package fetch

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// entry is an entry of an archive.
type entry struct {
	name    string
	kind    byte
	content []byte
}

// tarred makes a .tar.
func tarred(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Size: int64(len(e.content)), Mode: 0o600}
		if e.kind == tar.TypeSymlink || e.kind == tar.TypeLink {
			h.Linkname = "/etc/passwd"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// zipped packs with gzip.
func zipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// archive makes a .tar.gz.
func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	return zipped(t, tarred(t, entries...))
}

func TestUnpacks(t *testing.T) {
	s, dir := serve(t, archive(t, entry{"set/", tar.TypeDir, nil}, entry{"set/a.bin", tar.TypeReg, []byte("one")},
		entry{"set/sub/b.bin", tar.TypeReg, []byte("two")})), t.TempDir()
	d := s.file()
	d.Folder = "set"
	if err := fetchFile(context.Background(), "npy", d, dir, quick.withDefaults()); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, "set")
	wantFiles(t, filepath.Join(dir, "set"), "a.bin", "sub")
	if b, err := os.ReadFile(filepath.Join(dir, "set", "sub", "b.bin")); err != nil || string(b) != "two" {
		t.Errorf("%q, %v", b, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "set")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestArchivesThatAreRefused(t *testing.T) {
	good := entry{"set/a.bin", tar.TypeReg, []byte("one")}
	bomb := make([]byte, 2000)
	for _, c := range []struct {
		name    string
		entries []entry
		want    string
	}{
		{"parent", []entry{good, {"set/../../evil", tar.TypeReg, []byte("x")}}, "lies outside of the folder set"},
		{"dots", []entry{{"../set/evil", tar.TypeReg, []byte("x")}}, "lies outside"},
		{"absolute", []entry{{"/set/evil", tar.TypeReg, []byte("x")}}, "lies outside"},
		{"beside", []entry{{"evil", tar.TypeReg, []byte("x")}}, "lies outside"},
		{"prefix", []entry{{"settle/evil", tar.TypeReg, []byte("x")}}, "lies outside"},
		{"backslash", []entry{{`set/..\..\evil`, tar.TypeReg, []byte("x")}}, "lies outside"},
		{"symbolic link", []entry{{"set/link", tar.TypeSymlink, nil}}, "neither a file nor a folder"},
		{"hard link", []entry{{"set/link", tar.TypeLink, nil}}, "neither a file nor a folder"},
		{"device", []entry{{"set/null", tar.TypeChar, nil}}, "neither a file nor a folder"},
		{"twice", []entry{good, good}, "is there twice"},
		{"too large", []entry{{"set/bomb", tar.TypeReg, bomb}, {"set/bomb2", tar.TypeReg, bomb}}, `entry "set/bomb2": the archive unpacks to too much`},
		{"too many", []entry{good, {"set/b", tar.TypeDir, nil}, {"set/c", tar.TypeDir, nil}, {"set/d", tar.TypeDir, nil}}, "too many entries"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "stage")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			wantError(t, unpack(bytes.NewReader(archive(t, c.entries...)), dir, "set", limits{3, 3000}), c.want)
			wantFiles(t, parent, "stage")
		})
	}
	wantError(t, unpack(strings.NewReader("no archive"), t.TempDir(), "set", limits{3, 3000}), "gzip")
	cut := archive(t, good)
	wantError(t, unpack(bytes.NewReader(cut[:len(cut)-20]), t.TempDir(), "set", limits{3, 3000}), "unexpected EOF")
}

// An entry that says that it is larger than any disk is refused before any of it is written.
func TestBomb(t *testing.T) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: "set/bomb", Typeflag: tar.TypeReg, Size: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	bomb := zipped(t, append(out.Bytes(), make([]byte, 1<<24)...))
	wantError(t, unpack(bytes.NewReader(bomb), t.TempDir(), "set", limits{3, 3000}), "unpacks to too much")
}

// What cannot be unpacked leaves nothing under the set's name.
func TestUnpackingIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"link":      archive(t, entry{"set/a.bin", tar.TypeReg, []byte("one")}, entry{"set/link", tar.TypeSymlink, nil}),
		"no folder": archive(t, entry{"set", tar.TypeReg, []byte("one")}),
	} {
		path := filepath.Join(dir, "x.tar.gz")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unpackFile(path, filepath.Join(dir, "set"), "set"); err == nil {
			t.Errorf("%s: no error", name)
		}
		wantFiles(t, dir, "x.tar.gz")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(tarred(f, entry{"set/", tar.TypeDir, nil}, entry{"set/a.bin", tar.TypeReg, []byte("one")}))
	f.Add(tarred(f, entry{"set/../../evil", tar.TypeReg, []byte("x")}, entry{"set/link", tar.TypeSymlink, nil}))
	f.Fuzz(func(t *testing.T, content []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "stage")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = unpack(bytes.NewReader(zipped(t, content)), dir, "set", limits{10, 1 << 16})
		if entries, err := os.ReadDir(parent); err != nil || len(entries) != 1 {
			t.Fatalf("written outside: %v, %v", entries, err)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "set" {
			t.Fatalf("written beside the folder: %v, %v", entries, err)
		}
	})
}
