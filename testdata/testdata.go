// Package testdata holds the real images that Broadside carries in its binary: a small subset of
// Fashion-MNIST, for the quick start and for tests. README.md has its licence and how it was made.
package testdata

import (
	"embed"
	"io/fs"
)

//go:embed fashion_mnist_small
var files embed.FS

// FashionMNISTSmall returns a folder of gzip IDX files under the names of Fashion-MNIST's own:
// train-images-idx3-ubyte.gz (8,000 images), train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz
// (2,000 images), t10k-labels-idx1-ubyte.gz. Each class has as many images as any other.
func FashionMNISTSmall() fs.FS {
	sub, err := fs.Sub(files, "fashion_mnist_small")
	if err != nil { // only for an invalid path, and this one is constant
		panic(err)
	}
	return sub
}
