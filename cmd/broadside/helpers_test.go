package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// commandVariable has the test binary be the command: a process of its own, as mpirun and signals need it.
const commandVariable = "BROADSIDE_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandVariable) != "" {
		os.Exit(command(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// result is what a command line did.
type result struct {
	status      int
	out, errors string
}

// broadside runs a command line in this process.
func broadside(args ...string) result {
	var out, errors bytes.Buffer
	status := run(context.Background(), args, &out, &errors)
	return result{status, out.String(), errors.String()}
}

// must runs a command line that has to succeed, and returns what it printed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	r := broadside(args...)
	if r.status != 0 {
		t.Fatalf("broadside %s: status %d, %s", strings.Join(args, " "), r.status, r.errors)
	}
	return r.out
}

// The tiny data set: 8x8 images in the files of MNIST.
const tinyTrain, tinyTest = 96, 20

// tinyFolder makes a folder with the tiny data set and a recipe for it, and changes to it.
// The recipe makes six updates in each of three epochs, with a checkpoint after every fourth.
func tinyFolder(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.Mkdir("data", 0o755); err != nil {
		t.Fatal(err)
	}
	writeIDX(t, "data/train", tinyTrain)
	writeIDX(t, "data/t10k", tinyTest)
	write(t, "tiny.yaml", `
data: {name: mnist, path: data}
model: {name: resnet8}
train: {epochs: 3}
batch: {size: 16, leaf: 16, ghost: 8}
optimizer: {lr: 0.05}
schedule: {name: step, at: [1, 2]}
checkpoint: {every_updates: 4, keep: 2}
`)
}

// writeIDX writes n images whose pixels depend on their labels.
func writeIDX(t *testing.T, stem string, n int) {
	t.Helper()
	images := header(0x803, n, 8, 8)
	labels := header(0x801, n)
	for i := range n {
		label := i * 7 % 10
		labels = append(labels, byte(label))
		for p := range 64 {
			images = append(images, byte(20*label+(i*31+p*17)%50))
		}
	}
	write(t, stem+"-images-idx3-ubyte", string(images))
	write(t, stem+"-labels-idx1-ubyte", string(labels))
}

func header(magic int, dims ...int) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(magic))
	for _, d := range dims {
		out = binary.BigEndian.AppendUint32(out, uint32(d))
	}
	return out
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// flip changes one byte in the middle of a file.
func flip(t *testing.T, path string) {
	t.Helper()
	content := []byte(read(t, path))
	content[len(content)/2] ^= 0x10
	write(t, path, string(content))
}

// contents lists every file and folder below the working directory, with sizes and times of change.
func contents(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			fmt.Fprintln(&out, path)
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&out, path, info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}
