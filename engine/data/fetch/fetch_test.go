package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"broadside/engine/data"
)

// server is a local server of one file, which it can serve badly.
type server struct {
	content  []byte
	cut      atomic.Int64 // bytes after which a connection breaks; 0: never
	noRanges bool
	status   atomic.Int64 // an answer for the next requests, or 0
	failures atomic.Int64 // of which so many remain
	stall    bool
	url      string

	mutex  sync.Mutex
	ranges []string // of the requests
}

// asked returns the ranges of the requests so far.
func (s *server) asked() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.ranges)
}

func serve(t testing.TB, content []byte) *server {
	s := &server{content: content}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	s.url = h.URL
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mutex.Lock()
	s.ranges = append(s.ranges, r.Header.Get("Range"))
	s.mutex.Unlock()
	if s.failures.Add(-1) >= 0 {
		w.WriteHeader(int(s.status.Load()))
		return
	}
	if s.noRanges {
		r.Header.Del("Range")
	}
	if s.stall {
		w.Header().Set("Content-Length", fmt.Sprint(len(s.content)))
		_, _ = w.Write(s.content[:10])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	}
	if cut := s.cut.Load(); cut > 0 {
		w = &cutting{w, cut}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.content))
}

// cutting breaks a connection after some bytes.
type cutting struct {
	http.ResponseWriter
	left int64
}

func (c *cutting) Write(p []byte) (int, error) {
	n, _ := c.ResponseWriter.Write(p[:min(int64(len(p)), c.left)])
	if c.left -= int64(n); c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// random returns bytes that do not repeat.
func random(n int) []byte {
	out := make([]byte, 0, n+32)
	for sum := sha256.Sum256(nil); len(out) < n; sum = sha256.Sum256(sum[:]) {
		out = append(out, sum[:]...)
	}
	return out[:n]
}

// file is what is published of the server's file, under the name x.bin.
func (s *server) file() data.Download {
	sum := sha256.Sum256(s.content)
	return data.Download{URL: s.url + "/x.bin", Bytes: int64(len(s.content)), SHA256: hex.EncodeToString(sum[:])}
}

var quick = Options{pause: time.Millisecond, idle: 10 * time.Second}

func (s *server) fetch(dir string, o Options) error {
	return fetchFile(context.Background(), "none", s.file(), dir, o.withDefaults())
}

// want compares a file with the server's.
func (s *server) want(t *testing.T, dir string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, "x.bin"))
	if err != nil || !bytes.Equal(got, s.content) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(s.content), err)
	}
	wantFiles(t, dir, "x.bin")
}

// wantFiles lists a folder.
func wantFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(names) {
		t.Fatalf("the folder has %v, want %v: %v", entries, names, err)
	}
	for i, e := range entries {
		if e.Name() != names[i] {
			t.Errorf("%s, want %s", e.Name(), names[i])
		}
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if err == nil || !strings.Contains(err.Error(), p) {
			t.Fatalf("%v, want %q", err, p)
		}
	}
}

func TestFetches(t *testing.T) {
	s, dir := serve(t, random(300_000)), t.TempDir()
	var log []string
	var last int64
	o := quick
	o.Log = func(l string) { log = append(log, l) }
	o.Progress = func(name string, done, total int64) {
		if name != "x.bin" || total != 300_000 || done < last {
			t.Errorf("progress of %s: %d after %d of %d", name, done, last, total)
		}
		last = done
	}
	for range 2 {
		if err := s.fetch(dir, o); err != nil {
			t.Fatal(err)
		}
		s.want(t, dir)
	}
	if len(s.asked()) != 1 || last != 300_000 || len(log) != 2 || !strings.Contains(log[0], "fetched and checked") || !strings.Contains(log[1], "already there") {
		t.Errorf("requests %q, %d bytes, log %q", s.asked(), last, log)
	}
}

// A connection that breaks again and again is taken up where it broke.
func TestGoesOnAfterACut(t *testing.T) {
	s, dir := serve(t, random(300_000)), t.TempDir()
	s.cut.Store(70_000)
	if err := s.fetch(dir, quick); err != nil {
		t.Fatal(err)
	}
	s.want(t, dir)
	if len(s.asked()) != 5 || s.asked()[0] != "" || s.asked()[1] != "bytes=70000-" || s.asked()[4] != "bytes=280000-" {
		t.Errorf("requests %q", s.asked())
	}
}

// What a run that was stopped has left is taken up by the next one.
func TestGoesOnInAnotherRun(t *testing.T) {
	s, dir := serve(t, random(1<<24)), t.TempDir()
	ctx, stop := context.WithCancel(context.Background())
	o := quick
	o.Progress = func(_ string, done, _ int64) {
		if done >= 100_000 {
			stop()
		}
	}
	err := fetchFile(ctx, "none", s.file(), dir, o.withDefaults())
	wantError(t, err, "stopped; run it again to go on from "+filepath.Join(dir, "x.bin.part"))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not context.Canceled", err)
	}
	info, err := os.Stat(filepath.Join(dir, "x.bin.part"))
	if err != nil || info.Size() < 100_000 || info.Size() == 1<<24 {
		t.Fatalf("%v, %v", info, err)
	}
	if err := s.fetch(dir, quick); err != nil {
		t.Fatal(err)
	}
	s.want(t, dir)
	if want := fmt.Sprintf("bytes=%d-", info.Size()); s.asked()[1] != want {
		t.Errorf("asked for %q, want %q", s.asked()[1], want)
	}
}

func TestServerWithoutRanges(t *testing.T) {
	s, dir := serve(t, random(300_000)), t.TempDir()
	s.noRanges = true
	if err := os.WriteFile(filepath.Join(dir, "x.bin.part"), s.content[:1000], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.fetch(dir, quick); err != nil {
		t.Fatal(err)
	}
	s.want(t, dir)
	s.cut.Store(1000) // never gets further
	err := s.fetch(t.TempDir(), quick)
	wantError(t, err, "5 times; run it again")
}

// A part of something else does not spoil the file.
func TestStaleParts(t *testing.T) {
	for name, part := range map[string][]byte{"other": random(2000)[1000:], "whole but other": random(300_001)[1:], "too long": random(300_001)} {
		s, dir := serve(t, random(300_000)), t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "x.bin.part"), part, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.fetch(dir, quick); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s.want(t, dir)
	}
}

func TestPassingFaultsOfTheServer(t *testing.T) {
	s, dir := serve(t, random(3000)), t.TempDir()
	s.status.Store(503)
	s.failures.Store(3)
	if err := s.fetch(dir, quick); err != nil {
		t.Fatal(err)
	}
	s.want(t, dir)
	s.failures.Store(5)
	wantError(t, s.fetch(t.TempDir(), quick), "503 Service Unavailable", "5 times")
}

func TestRefusals(t *testing.T) {
	content := random(3000)
	for _, c := range []struct {
		name  string
		spoil func(s *server, d *data.Download)
		want  []string
	}{
		{"wrong sum", func(s *server, _ *data.Download) { s.content = random(3001)[1:] }, []string{"not the published file", "its SHA-256 is", "it was removed"}},
		{"too short", func(s *server, _ *data.Download) { s.content = content[1:] }, []string{"offers 2999 bytes; the published file has 3000"}},
		{"too long", func(s *server, _ *data.Download) { s.content = append(bytes.Clone(content), 0) }, []string{"offers 3001 bytes"}},
		{"no such file", func(s *server, _ *data.Download) { s.status.Store(404); s.failures.Store(9) }, []string{"404 Not Found for http://"}},
		{"stalls", func(s *server, _ *data.Download) { s.stall = true }, []string{"nothing came for 50ms after 10 of 3000 bytes"}},
		{"nobody there", func(_ *server, d *data.Download) { d.URL = "http://127.0.0.1:1/x.bin" }, []string{"connection refused"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, dir := serve(t, content), t.TempDir()
			d, o := s.file(), quick
			c.spoil(s, &d)
			if s.stall {
				o.idle = 50 * time.Millisecond
			}
			wantError(t, fetchFile(context.Background(), "none", d, dir, o.withDefaults()), c.want...)
			if _, err := os.Stat(filepath.Join(dir, "x.bin")); err == nil {
				t.Error("the file is there")
			}
		})
	}
}

// A body of unknown length that never ends is cut off at the published size.
func TestEndlessBody(t *testing.T) {
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	}))
	defer h.Close()
	dir := t.TempDir()
	err := fetchFile(context.Background(), "none", data.Download{URL: h.URL + "/x.bin", Bytes: 100_000, SHA256: "00"}, dir, quick.withDefaults())
	wantError(t, err, "sends more than the published 100000 bytes")
	if info, err := os.Stat(filepath.Join(dir, "x.bin.part")); err != nil || info.Size() > 100_000 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestTwoFetchesAtOnce(t *testing.T) {
	s, dir := serve(t, random(3000)), t.TempDir()
	s.stall = true
	done := make(chan error)
	o, ctx, stop := quick, context.Background(), context.CancelFunc(nil)
	ctx, stop = context.WithCancel(ctx)
	begun := make(chan bool, 1)
	o.Progress = func(string, int64, int64) { begun <- true }
	go func() { done <- fetchFile(ctx, "none", s.file(), dir, o.withDefaults()) }()
	<-begun
	wantError(t, s.fetch(dir, quick), "x.bin.part is in use by another fetch")
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestLeavesAloneWhatIsThere(t *testing.T) {
	s, dir := serve(t, random(3000)), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x.bin"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	wantError(t, s.fetch(dir, quick), "x.bin is there already, but not as published", "4 bytes; 3000 are published", "remove it")
	if got, _ := os.ReadFile(filepath.Join(dir, "x.bin")); string(got) != "mine" || len(s.asked()) != 0 {
		t.Errorf("%q, requests %q", got, s.asked())
	}
}

// https never becomes http on the way.
func TestNoDowngrade(t *testing.T) {
	s := serve(t, random(3000))
	h := httptest.NewTLSServer(http.RedirectHandler(s.url+"/x.bin", http.StatusFound))
	defer h.Close()
	o := quick
	o.Client = newClient()
	o.Client.Transport = h.Client().Transport
	d := s.file()
	d.URL = h.URL + "/x.bin"
	wantError(t, fetchFile(context.Background(), "none", d, t.TempDir(), o.withDefaults()), "redirected from https to http://")
}

func TestMirrors(t *testing.T) {
	for mirror, want := range map[string]string{"": "https://a/b/x.bin", "http://m": "http://m/x.bin", "https://m/c/": "https://m/c/x.bin"} {
		o := Options{Mirror: mirror}
		if got, err := o.address(data.Download{URL: "https://a/b/x.bin"}); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", mirror, got, err, want)
		}
	}
	for _, mirror := range []string{"m/c", "ftp://m", "https://", "file:///etc", ":"} {
		_, err := (&Options{Mirror: mirror}).address(data.Download{})
		wantError(t, err, "no address of a folder")
	}
	wantError(t, Fetch(context.Background(), "npy", t.TempDir(), Options{}), "npy: no address", "cifar10, cifar100, mnist, fashion-mnist, svhn")
	s := serve(t, nil)
	wantError(t, Fetch(context.Background(), "cifar10", t.TempDir(), Options{Mirror: s.url}), "fetching cifar-10-binary.tar.gz", "offers 0 bytes; the published file has 170052171")
}

// The proxies of the environment are asked. They are read once in a process, so a child process does the fetching.
func TestProxyOfTheEnvironment(t *testing.T) {
	if dir := os.Getenv("BROADSIDE_TEST_PROXY_CHILD"); dir != "" {
		s := &server{content: random(3000), url: "http://data.invalid"}
		if err := s.fetch(dir, quick); err != nil {
			t.Fatal(err)
		}
		s.want(t, dir)
		return
	}
	var asked atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.String())
		_, _ = w.Write(random(3000))
	}))
	defer proxy.Close()
	child := exec.Command(os.Args[0], "-test.run=^TestProxyOfTheEnvironment$")
	child.Env = append(os.Environ(), "http_proxy="+proxy.URL, "HTTP_PROXY="+proxy.URL, "BROADSIDE_TEST_PROXY_CHILD="+t.TempDir())
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := asked.Load(); got != "http://data.invalid/x.bin" {
		t.Errorf("the proxy was asked for %v", got)
	}
}
