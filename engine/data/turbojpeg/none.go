//go:build !unix

package turbojpeg

import "errors"

var errNone = errors.New("no libjpeg-turbo: it is not loaded on this system")

// Library returns why there is no library.
func Library() (string, error) { return "", errNone }

// Decoder decodes nothing here.
type Decoder struct{}

// New returns why there is no decoder.
func New() (*Decoder, error) { return nil, errNone }

// Header fails.
func (*Decoder) Header([]byte) (width, height int, rgb bool, err error) { return 0, 0, false, errNone }

// Decode fails.
func (*Decoder) Decode([]byte, int, int, []byte) error { return errNone }
