//go:build unix

// Package turbojpeg decodes JPEG files with libjpeg-turbo, through its library libturbojpeg, which is loaded when it is
// first asked for. A program built with this package needs it neither to be built nor to start. The variable
// BROADSIDE_LIBTURBOJPEG names a library in another place.
package turbojpeg

// #cgo linux LDFLAGS: -ldl
// #include "library.h"
import "C"

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"
)

// Library returns the file of the library, without its folder, or why there is none.
func Library() (string, error) {
	if why := C.bs_jpeg_load(); why != nil {
		return "", fmt.Errorf("no libjpeg-turbo: %s", C.GoString(why))
	}
	path := C.GoString(C.bs_jpeg_path())
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // whose name has the version
	}
	return filepath.Base(path), nil
}

// Decoder decodes JPEG files, one after the other. It belongs to one goroutine at a time.
type Decoder struct {
	handle             unsafe.Pointer
	width, height, rgb C.int
}

// New returns a decoder, or why there is none. It frees itself.
func New() (*Decoder, error) {
	if _, err := Library(); err != nil {
		return nil, err
	}
	d := &Decoder{}
	if err := d.open(); err != nil {
		return nil, err
	}
	runtime.SetFinalizer(d, (*Decoder).close)
	return d, nil
}

func (d *Decoder) open() error {
	if d.handle = C.bs_jpeg_open(); d.handle == nil {
		return errors.New("libjpeg-turbo: out of memory")
	}
	return nil
}

func (d *Decoder) close() {
	if d.handle != nil {
		C.bs_jpeg_close(d.handle)
	}
}

// Header returns the size of a file's image, and whether Decode knows its colours.
func (d *Decoder) Header(file []byte) (width, height int, rgb bool, err error) {
	if len(file) == 0 {
		return 0, 0, false, errors.New("the file is empty")
	}
	if err := d.ready(); err != nil {
		return 0, 0, false, err
	}
	defer runtime.KeepAlive(d)
	d.width, d.height = 0, 0
	if C.bs_jpeg_header(d.handle, at(file), C.ulong(len(file)), &d.width, &d.height, &d.rgb) != 0 {
		return 0, 0, false, d.failure()
	}
	return int(d.width), int(d.height), d.rgb != 0, nil
}

// Decode fills pixels with the file's image, [height][width][3]: its size, or its size divided by 2, 4 or 8, rounded up.
func (d *Decoder) Decode(file []byte, width, height int, pixels []byte) error {
	if len(file) == 0 || width <= 0 || height <= 0 || len(pixels) < 3*width*height {
		return fmt.Errorf("internal error: %d bytes to decode to %dx%d in %d", len(file), width, height, len(pixels))
	}
	if err := d.ready(); err != nil {
		return err
	}
	defer runtime.KeepAlive(d)
	switch C.bs_jpeg_decode(d.handle, at(file), C.ulong(len(file)), C.int(width), C.int(height), at(pixels)) {
	case 0:
		return nil
	case 1: // extra bytes and the like leave the image whole
		if why := C.GoString(C.bs_jpeg_message(d.handle)); strings.Contains(why, "remature end") {
			return errors.New(why)
		}
		return nil
	}
	return d.failure()
}

// ready opens the library's decoder again after a failure.
func (d *Decoder) ready() error {
	if d.handle == nil {
		return d.open()
	}
	return nil
}

// failure says why the last call failed. The library's decoder may be left in the middle of the file: it is replaced.
func (d *Decoder) failure() error {
	err := errors.New(C.GoString(C.bs_jpeg_message(d.handle)))
	d.close()
	d.handle = nil
	return err
}

func at(b []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(unsafe.SliceData(b))) }
