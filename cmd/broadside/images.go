package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"broadside/engine"
	"broadside/engine/data/pixels"
	"broadside/engine/npy"
)

// preparation says how image files become samples.
type preparation struct {
	resize  int
	decoder string
}

func (p *preparation) add(flags *pflag.FlagSet) {
	flags.IntVar(&p.resize, "resize", 0, "what the shorter side of an image file is resized to, in pixels; 0: 8/7 of the model's size, and nothing for files of that size")
	flags.StringVar(&p.decoder, "decoder", pixels.Auto, "of JPEG files: libjpeg-turbo, go, or auto, which is the first of them that is present; they differ in the last bits")
}

// feeder collects samples and hands them on, some at a time.
type feeder struct {
	network *engine.Network
	most    int
	do      func(names []string, pixels []byte) error

	names   []string
	samples []byte
}

// sampleBytes is the size of a sample.
func (f *feeder) sampleBytes() int {
	h, w, c := f.network.Input()
	return h * w * c
}

func (f *feeder) add(name string, sample []byte) error {
	f.names, f.samples = append(f.names, name), append(f.samples, sample...)
	if len(f.names) < f.most {
		return nil
	}
	return f.flush()
}

func (f *feeder) flush() error {
	if len(f.names) == 0 {
		return nil
	}
	err := f.do(f.names, f.samples)
	f.names, f.samples = f.names[:0], f.samples[:0]
	return err
}

// images hands the samples of files to do, at most so many at a time. Mistakes of the files are found as they come.
func (p *preparation) images(n *engine.Network, files []string, most int, do func(names []string, pixels []byte) error) error {
	f := &feeder{network: n, most: most, do: do}
	var decoder *pixels.Decoder
	for _, path := range files {
		if strings.EqualFold(filepath.Ext(path), ".npy") {
			if err := f.array(path); err != nil {
				return fmt.Errorf("%s %w", path, err)
			}
			continue
		}
		if decoder == nil {
			kind, _, err := pixels.Resolve(p.decoder)
			if err == nil {
				decoder, err = pixels.NewDecoder(kind)
			}
			if err != nil {
				return err
			}
		}
		sample, err := p.decode(decoder, n, path)
		if err != nil {
			return fmt.Errorf("%s %w", path, err)
		}
		if err := f.add(path, sample); err != nil {
			return err
		}
	}
	return f.flush()
}

// maxFile bounds the size of an image file.
const maxFile = 1 << 28

// decode makes a sample of an image file. Errors continue a sentence that begins with its name.
func (p *preparation) decode(d *pixels.Decoder, n *engine.Network, path string) ([]byte, error) {
	h, w, c := n.Input()
	if h != w || c != 1 && c != 3 {
		return nil, fmt.Errorf("cannot become an image of %dx%dx%d: image files are for models that take squares of 1 or 3 colours; give .npy files", h, w, c)
	}
	shorter := p.resize
	if shorter == 0 {
		shorter = h * 8 / 7
	}
	if shorter < h {
		return nil, fmt.Errorf("cannot be resized to %d: the model takes %d pixels", shorter, h)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	case info.Size() > maxFile || !info.Mode().IsRegular():
		return nil, fmt.Errorf("is no file of at most %d bytes", maxFile)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	}
	rgb := make([]byte, h*h*3)
	err = d.Decode(rgb, file, h, func(width, height int) pixels.Window {
		if p.resize == 0 && width == h && height == h {
			return pixels.Middle(width, height, h, h)
		}
		return pixels.Middle(width, height, shorter, h)
	})
	if err != nil || c == 3 {
		return rgb, err
	}
	return grey(rgb), nil
}

// grey is the brightness of RGB pixels, as Pillow computes it.
func grey(rgb []byte) []byte {
	out := make([]byte, 0, len(rgb)/3)
	for p := range slices.Chunk(rgb, 3) {
		out = append(out, byte((19595*uint32(p[0])+38470*uint32(p[1])+7471*uint32(p[2])+0x8000)>>16))
	}
	return out
}

// array reads the images of a .npy file. Errors continue a sentence that begins with its name.
func (f *feeder) array(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("cannot be read: %w", errors.Unwrap(err))
	}
	header, err := npy.Read(file, info.Size())
	if err != nil {
		return err
	}
	h, w, c := f.network.Input()
	shape := header.Shape
	if len(shape) == 3 {
		shape = append(slices.Clone(shape), 1)
	}
	if header.Type != "u1" || len(shape) != 4 || !slices.Equal(shape[1:], []int{h, w, c}) {
		return fmt.Errorf("has type %s and shape %v; the model takes bytes (u1) of [N, %d, %d, %d]", header.Type, header.Shape, h, w, c)
	}
	sample := make([]byte, f.sampleBytes())
	for i := range shape[0] {
		if _, err := io.ReadFull(file, sample); err != nil {
			return fmt.Errorf("is cut off: %w", err)
		}
		if err := f.add(fmt.Sprintf("%s[%d]", path, i), sample); err != nil {
			return err
		}
	}
	return nil
}
