// Command make_fashion_mnist_small makes the bundled subset of Fashion-MNIST from the full set:
//
//	go run ./testdata/make_fashion_mnist_small FULL_FOLDER testdata/fashion_mnist_small
//
// FULL_FOLDER has the four IDX files of Fashion-MNIST. The subset is the first 800 training and the
// first 200 test images of each class, in the order of the full set.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"broadside/engine/data"
)

const trainImages, testImages = 8000, 2000

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: make_fashion_mnist_small FULL_FOLDER OUT_FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "make_fashion_mnist_small:", err)
		os.Exit(1)
	}
}

func run(full, out string) error {
	pair, err := data.Open(data.Spec{Name: "fashion-mnist", Path: full, TrainLimit: trainImages, TestLimit: testImages})
	if err != nil {
		return err
	}
	if err := write(pair.Train, out, "train"); err != nil {
		return err
	}
	return write(pair.Test, out, "t10k")
}

// write writes a set as an image and a label file in IDX format (magic number, dimensions, bytes).
func write(s *data.Set, out, stem string) error {
	labels := make([]byte, s.Len())
	for i, y := range s.Labels {
		labels[i] = byte(y)
	}
	images := header(0x00000803, s.Len(), s.H, s.W)
	if err := compress(filepath.Join(out, stem+"-images-idx3-ubyte.gz"), append(images, s.Images...)); err != nil {
		return err
	}
	return compress(filepath.Join(out, stem+"-labels-idx1-ubyte.gz"), append(header(0x00000801, s.Len()), labels...))
}

func header(words ...int) []byte {
	var b []byte
	for _, w := range words {
		b = binary.BigEndian.AppendUint32(b, uint32(w))
	}
	return b
}

// compress writes a gzip file without name or time, so that the same bytes give the same file.
func compress(path string, content []byte) error {
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(content); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o644)
}
