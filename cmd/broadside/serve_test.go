package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"broadside/engine/curvature"
)

// output is what a command prints while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// waitFor waits until a pattern is printed, and returns its submatches.
func (o *output) waitFor(t *testing.T, pattern string) []string {
	t.Helper()
	for range 200 {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(o.String()); m != nil {
			return m
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%q is not printed: %s", pattern, o.String())
	return nil
}

// serveUntil runs `serve` with a function that is told what it prints, and then interrupts it.
func serveUntil(t *testing.T, during func(out *output), args ...string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	out, status := &output{}, make(chan int, 1)
	go func() { status <- run(ctx, append([]string{"serve"}, args...), out, out) }()
	defer func() {
		stop()
		select {
		case s := <-status:
			if s != 0 {
				t.Errorf("interrupted, it ends with status %d: %s", s, out)
			}
		case <-time.After(20 * time.Second):
			t.Error("it does not end when it is interrupted")
		}
	}()
	during(out)
}

func ask(t *testing.T, url, token string) (int, string) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// A run that `train` makes is on the page of `serve`, and neither writes into the other's files.
func TestServe(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "runs/first")
	before := contents(t)
	serveUntil(t, func(out *output) {
		page := out.waitFor(t, `1 runs below runs\n(http://127\.0\.0\.1:\d+/)\n`)[1]
		if status, body := ask(t, page+"api/runs", ""); status != http.StatusOK || !strings.Contains(body, `"id":"first","state":"ended"`) || !strings.Contains(body, `"epochs_wanted":"3"`) {
			t.Errorf("%d %s", status, body)
		}
		if status, body := ask(t, page+"api/run?id=first", ""); status != http.StatusOK || !strings.Contains(body, `"updates":[6,12,18]`) || !strings.Contains(body, "step-000000018.safetensors") {
			t.Errorf("%d %s", status, body)
		}
		if status, body := ask(t, page+"metrics", ""); status != http.StatusOK || !strings.Contains(body, `broadside_updates_total{run="first"} 18`) {
			t.Errorf("%d %s", status, body)
		}
	}, "runs", "--listen", "127.0.0.1:0")
	if after := contents(t); after != before {
		t.Errorf("files changed from\n%sto\n%s", before, after)
	}
}

func TestServeTokens(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "token", "a token of the reader's own\n")
	for _, c := range []struct{ args, pattern, token string }{
		{"--listen 0.0.0.0:0", `http://\[::\]:(\d+)/\ntoken: (\S{26})\n|http://0\.0\.0\.0:(\d+)/\ntoken: (\S{26})\n`, ""},
		{"--listen 0.0.0.0:0 --token-file token", `http://[^/]*:(\d+)/\n`, "a token of the reader's own"},
		{"--listen 127.0.0.1:0 --token-file token", `http://127\.0\.0\.1:(\d+)/\n`, "a token of the reader's own"},
	} {
		serveUntil(t, func(out *output) {
			m := out.waitFor(t, c.pattern)
			port, token := m[1], c.token
			if token == "" {
				if port, token = m[1]+m[3], m[2]+m[4]; token == "" {
					t.Fatalf("no token: %s", out)
				}
			}
			page := "http://127.0.0.1:" + port
			if status, _ := ask(t, page+"/api/runs", ""); status != http.StatusUnauthorized {
				t.Errorf("%s without the token: %d", c.args, status)
			}
			if status, _ := ask(t, page+"/api/runs", token); status != http.StatusOK {
				t.Errorf("%s with the token: %d", c.args, status)
			}
			if c.token != "" && strings.Contains(out.String(), c.token) {
				t.Errorf("%s prints the file's token", c.args)
			}
		}, append([]string{"."}, strings.Fields(c.args)...)...)
	}
}

func TestServeMistakes(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "short", "secret\n")
	write(t, "empty", "\n")
	write(t, "runs/x", "")
	refused(t, []mistake{
		{"nothing", "serve", exitUsage, []string{"0 arguments", "RUNS"}},
		{"no port", "serve runs --listen 127.0.0.1", exitUsage, []string{"--listen \"127.0.0.1\"", "ADDRESS:PORT", "127.0.0.1:7878"}},
		{"no such port", "serve runs --listen 127.0.0.1:http7", exitFailure, []string{"--listen 127.0.0.1:http7"}},
		{"no token file", "serve runs --token-file none", exitUsage, []string{"--token-file", "none", "no such file"}},
		{"empty token file", "serve runs --token-file empty", exitUsage, []string{"--token-file empty is empty"}},
		{"short token", "serve runs --token-file short", exitUsage, []string{"6 characters", "at least 16"}},
		{"certificate without a key", "serve runs --tls-cert short", exitUsage, []string{"--tls-cert and --tls-key"}},
		{"no certificate", "serve . --tls-cert empty --tls-key short", exitFailure, []string{"--tls-cert empty"}},
		{"no folder", "serve none", exitFailure, []string{"none", "no such file", "name one that holds runs"}},
		{"a file", "serve runs/x", exitFailure, []string{"runs/x", "not a directory"}},
	})
}

// `curvature RUN` keeps what it measures in the run, the parts of one Hessian together.
func TestCurvatureIsKept(t *testing.T) {
	tinyFolder(t)
	must(t, "train", "tiny.yaml", "--run", "r")
	kept := func() curvature.Measurement { return decode[curvature.Measurement](t, read(t, "r/"+curvature.File)) }
	measure := func(args string) string {
		return must(t, append(strings.Fields("curvature r --devices 1 --iterations 2 --samples 16"), strings.Fields(args)...)...)
	}
	measure("--density --lanczos-steps 3")
	k := kept()
	if k.Checkpoint != "step-000000018.safetensors" || k.Samples != 16 || k.Density == nil || k.Trace != nil || len(k.Eigenvalues) != 1 {
		t.Errorf("%+v", k)
	}
	measure("--trace --probes 2 --top 2")
	if k := kept(); k.Density == nil || k.Trace == nil || len(k.Eigenvalues) != 2 {
		t.Errorf("completed: %+v", k)
	}
	measure("--landscape --points 3 --bn ghost")
	if k := kept(); k.Density != nil || k.Trace != nil || k.Landscape == nil || k.BatchNorm != "ghost" {
		t.Errorf("of another Hessian: %+v", k)
	}
	write(t, "r/"+curvature.File, "mine")
	if r := broadside("curvature", "r", "--devices", "1", "--iterations", "2", "--samples", "16"); r.status != 0 || !strings.Contains(r.errors, "warning: the measurement is not kept") || !strings.Contains(r.out, "eigenvalue 1") {
		t.Errorf("%+v", r)
	}
	if text := read(t, "r/"+curvature.File); text != "mine" {
		t.Errorf("a file that is not ours became %q", text)
	}
	if err := os.Remove("r/" + curvature.File); err != nil {
		t.Fatal(err)
	}
	must(t, "curvature", "r/checkpoints/step-000000018.safetensors", "--devices", "1", "--iterations", "2", "--samples", "16")
	if _, err := os.Stat("r/" + curvature.File); err == nil {
		t.Error("the measurement of a file is kept in a run")
	}
}
