package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// elsewhere are the commands of documents that a test cannot run: they need a network, or a GPU.
var elsewhere = regexp.MustCompile(`^data fetch|--device cuda`)

// shortened are flags behind those of a document that make a command short.
var shortened = map[string]string{
	"train":           "--set data.train_limit=128 --set data.test_limit=16 --set train.epochs=1 --set model.name=resnet8",
	"sweep":           "--set data.train_limit=256 --set data.test_limit=16 --set train.epochs=1 --set model.name=resnet8",
	"curvature":       "--samples 128 --iterations 2 --probes 2 --lanczos-steps 3 --points 2",
	"bench step":      "--time 20ms --rounds 1",
	"bench allreduce": "--time 20ms --rounds 1",
	"serve":           "--listen 127.0.0.1:0",
}

// Every command in a document is run, in the order of the document and on data of the form that it names, cut short.
func TestDocumentedCommandsRun(t *testing.T) {
	if testing.Short() {
		t.Skip("trains two dozen networks")
	}
	for path, lines := range documents(t) {
		t.Run(path, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for _, line := range lines {
				args, ok := argumentsIn(line)
				if !ok || elsewhere.MatchString(strings.Join(args, " ")) {
					continue
				}
				prepare(t, lines, line, args)
				out := runShortened(t, args)
				if _, file, ok := strings.Cut(line, " > "); ok {
					write(t, strings.Fields(file)[0], out)
				}
			}
		})
	}
}

// runShortened runs a command of a document in little time, and returns what it printed.
func runShortened(t *testing.T, args []string) string {
	t.Helper()
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "/data/", "data/")
	}
	cmd, rest, err := newRoot().Find(args)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(cmd.CommandPath(), "broadside ")
	if more := shortened[name]; !slices.Contains(rest, "--resume") {
		args = append(args, strings.Fields(more)...)
	}
	ctx := t.Context()
	if name == "serve" { // until it is stopped
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, 300*time.Millisecond)
		defer stop()
	}
	var out, errors bytes.Buffer
	if status := run(ctx, args, &out, &errors); status != 0 {
		t.Errorf("%s: status %d, %s", strings.Join(args, " "), status, &errors)
	}
	return strings.ReplaceAll(out.String(), "/data/", "data/")
}

// prepare makes what a reader has when the command's turn comes.
func prepare(t *testing.T, document []string, line string, args []string) {
	t.Helper()
	have := func(path string) bool { _, err := os.Stat(path); return err == nil }
	if (strings.Contains(line, "cifar") || strings.Contains(line, "my.yaml")) && !have("data") {
		for _, file := range []string{"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"} {
			sized(t, "data/cifar-10-batches-bin/"+file+".bin", 10000*3073, records(256)...)
		}
	}
	if strings.Contains(line, "my-images") && !have("my-images") {
		pixels := records(1)[:64]
		for _, class := range []string{"cat", "dog"} {
			for i := range 40 {
				picture(t, fmt.Sprintf("my-images/%s/%d.jpg", class, i), pixels, 4)
			}
		}
	}
	for _, a := range args {
		switch {
		case strings.HasSuffix(a, "photo.jpg") && !have(a):
			picture(t, a, records(1)[:64], 4)
		case a == "my-images.yaml" && !have(a):
			from := slices.Index(document, "name: my-images")
			write(t, a, strings.Join(document[from:from+7], "\n"))
		case a == "my.yaml" && !have(a):
			write(t, a, runShortened(t, []string{"recipe", "show", "cifar10-bl"}))
		case strings.HasPrefix(a, "runs") && !strings.Contains(line, "--run "+a) && !have(a):
			if a == "runs" {
				a = "runs/any"
			}
			must(t, append([]string{"train", "quickstart", "--run", a}, strings.Fields(shortened["train"])...)...)
		}
	}
}

// records are so many of CIFAR-10, of every class in turn.
func records(n int) []byte {
	out := make([]byte, 0, n*3073)
	for i := range n {
		out = append(out, byte(i%10))
		for j := range 3072 {
			out = append(out, byte(i*31+j*7+i*j))
		}
	}
	return out
}
