// Package pixels turns image files into pixels for training: it decodes JPEG and PNG, cuts a part out, and resizes it as
// Pillow and torchvision do.
package pixels

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"

	"broadside/engine/data/turbojpeg"
	"broadside/engine/suggest"
)

// The decoders of JPEG files by name; auto takes libjpeg-turbo where it is present.
const (
	Auto  = "auto"
	Turbo = "libjpeg-turbo"
	Go    = "go"
)

// MaxPixels bounds what an image may hold, whatever its header says. A file that declares more is refused before any of
// it is decoded.
const MaxPixels = 1 << 26

// Resolve returns what a decoder's name stands for here, and what it is in words: images decoded by two decoders may
// differ in the last bits. No name is auto.
func Resolve(name string) (kind, words string, err error) {
	name = cmp.Or(name, Auto)
	library, missing := turbojpeg.Library()
	switch {
	case name == Go, name == Auto && missing != nil:
		return Go, "Go's image/jpeg", nil
	case name != Auto && name != Turbo:
		return "", "", suggest.Unknown("image decoder", name, []string{Auto, Turbo, Go})
	case missing != nil:
		return "", "", missing
	}
	return Turbo, "libjpeg-turbo (" + library + ")", nil
}

// Decoder decodes images, one after the other, in memory that it keeps. It belongs to one goroutine at a time.
type Decoder struct {
	turbo  *turbojpeg.Decoder // nil: JPEG files go to the standard library
	raster raster
	resize resizer
}

// raster is an image, or a part of one, of rows of RGB pixels.
type raster struct {
	w, h   int
	pixels []byte
}

// resize makes it w x h, with any pixels.
func (r *raster) resize(w, h int) {
	r.w, r.h = w, h
	if n := 3 * w * h; cap(r.pixels) < n {
		r.pixels = make([]byte, n)
	} else {
		r.pixels = r.pixels[:n]
	}
}

// NewDecoder returns a decoder of a kind that Resolve returns.
func NewDecoder(kind string) (d *Decoder, err error) {
	d = &Decoder{}
	if kind == Turbo {
		d.turbo, err = turbojpeg.New()
	}
	return d, err
}

// Decode fills dst, size x size RGB pixels, with what choose takes of a file's image of a given size. An error says what
// is wrong with the file.
func (d *Decoder) Decode(dst, file []byte, size int, choose func(w, h int) Window) (err error) {
	defer func() { // no file may end the program
		if r := recover(); r != nil {
			err = fmt.Errorf("cannot be decoded: %v", r)
		}
	}()
	switch {
	case bytes.HasPrefix(file, []byte("\xff\xd8\xff")):
		return d.jpeg(dst, file, size, choose)
	case isPNG(file):
		return d.standard(dst, file, size, choose, png.DecodeConfig, png.Decode)
	case len(file) == 0:
		return errors.New("is empty")
	}
	return fmt.Errorf("is neither a JPEG nor a PNG file: it begins with %q", file[:min(len(file), 8)])
}

// What a byte of a file can stand for. JPEG has at least a bit for each block of 8x8 pixels; DEFLATE, which packs PNG's
// rows, codes at most 258 bytes in 2 bits.
const (
	jpegPixelsOfByte = 512
	pngBytesOfByte   = 1032
)

// check refuses sizes that no image should have, and those of which a file cannot hold the pixels.
func check(w, h int, file []byte) error {
	if w < 1 || h < 1 || int64(w)*int64(h) > MaxPixels {
		return fmt.Errorf("declares an image of %dx%d pixels; it may have up to %d", w, h, MaxPixels)
	}
	full := int64(w)*int64(h) > jpegPixelsOfByte*int64(len(file))
	if isPNG(file) {
		row := (int64(w)*pngBits(file) + 7) / 8
		full = row*int64(h) > pngBytesOfByte*int64(len(file))
	}
	if full {
		return fmt.Errorf("declares an image of %dx%d pixels, more than its %d bytes can hold", w, h, len(file))
	}
	return nil
}

func isPNG(file []byte) bool { return bytes.HasPrefix(file, []byte("\x89PNG\r\n\x1a\n")) }

// pngBits are the bits of a pixel of a PNG file whose header is good.
func pngBits(file []byte) int64 {
	channels := map[byte]int64{0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[file[25]]
	return channels * int64(file[24])
}

func (d *Decoder) jpeg(dst, file []byte, size int, choose func(w, h int) Window) error {
	if d.turbo == nil {
		return d.standard(dst, file, size, choose, jpeg.DecodeConfig, jpeg.Decode)
	}
	w, h, rgb, err := d.turbo.Header(file)
	if err == nil {
		err = check(w, h, file)
	}
	if err != nil {
		return err
	}
	if !rgb { // four colours
		return d.standard(dst, file, size, choose, jpeg.DecodeConfig, jpeg.Decode)
	}
	window := choose(w, h)
	shrink := window.shrink()
	d.raster.resize((w+shrink-1)/shrink, (h+shrink-1)/shrink)
	if err := d.turbo.Decode(file, d.raster.w, d.raster.h, d.raster.pixels); err != nil {
		return err
	}
	x := func(at int) float64 { return float64(at*d.raster.w) / float64(w) } // where the smaller image has it
	y := func(at int) float64 { return float64(at*d.raster.h) / float64(h) }
	d.resize.run(dst, size, &d.raster, window, box{x(window.X), y(window.Y), x(window.X + window.W), y(window.Y + window.H)})
	return nil
}

// standard decodes by the standard library.
func (d *Decoder) standard(dst, file []byte, size int, choose func(w, h int) Window, header func(io.Reader) (image.Config, error), decode func(io.Reader) (image.Image, error)) error {
	c, err := header(bytes.NewReader(file))
	if err == nil {
		err = check(c.Width, c.Height, file)
	}
	if err != nil {
		return err
	}
	img, err := decode(bytes.NewReader(file))
	if err != nil {
		return err
	}
	window := choose(c.Width, c.Height)
	d.raster.take(img, window)
	d.resize.run(dst, size, &d.raster, window, box{0, 0, float64(window.W), float64(window.H)})
	return nil
}
