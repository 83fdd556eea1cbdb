package pixels

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"os"
	"slices"
	"testing"

	"broadside/engine/data/turbojpeg"
)

// vector is what make_images.py writes.
type vector struct {
	Width, Height int
	Crops         []struct {
		Top, Left, Height, Width, Size int
		Pixels                         []byte
	}
	Middles []struct {
		Shorter, Size int
		Turned        bool
		Pixels        []byte
	}
	Random []struct {
		Width, Height int
		Least         float64
		Words         []uint32
		Window        [4]int // left, top, width, height
	}
	Files []struct {
		Name         string
		File, Pixels []byte
	}
}

func golden(t *testing.T) (v vector) {
	t.Helper()
	text, err := os.ReadFile("../../../testdata/golden/images.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// picture is the image of make_images.py as a PNG file.
func picture(t testing.TB, w, h int, turned bool) []byte {
	t.Helper()
	width, height := w, h
	if turned {
		width, height = h, w
	}
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range h {
		for x := range w {
			at := m.PixOffset(x, y)
			if turned {
				at = m.PixOffset(y, x)
			}
			for c := range 3 {
				m.Pix[at+c] = byte(x*(3+2*c) + y*(5-c) + x*y*(c+1)/7)
			}
			m.Pix[at+3] = 255
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, m); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// decoders are those that this machine has.
func decoders(t testing.TB) map[string]*Decoder {
	t.Helper()
	out := map[string]*Decoder{Go: {}}
	if _, err := turbojpeg.Library(); err != nil {
		t.Log(err)
		return out
	}
	d, err := NewDecoder(Turbo)
	if err != nil {
		t.Fatal(err)
	}
	out[Turbo] = d
	return out
}

func decode(t *testing.T, d *Decoder, file []byte, size int, choose func(w, h int) Window) []byte {
	t.Helper()
	out := make([]byte, 3*size*size)
	if err := d.Decode(out, file, size, choose); err != nil {
		t.Fatal(err)
	}
	return out
}

// Crops and resized images are those of torchvision on Pillow's images: to the bit, but for crops higher than wide. Pillow
// 13 takes the columns of some of them first, which rounds some pixels to the level next to it.
func TestResizeIsTorchvisions(t *testing.T) {
	v := golden(t)
	d := &Decoder{}
	for _, c := range v.Crops {
		got := decode(t, d, picture(t, v.Width, v.Height, false), c.Size, func(int, int) Window {
			return Window{X: c.Left, Y: c.Top, W: c.Width, H: c.Height, OutW: c.Size, OutH: c.Size}
		})
		most := 0
		if c.Height > c.Width {
			most = 1
		}
		if apart(got, c.Pixels) > most {
			t.Errorf("crop of %dx%d at %d, %d to %d: %d levels off", c.Width, c.Height, c.Left, c.Top, c.Size, apart(got, c.Pixels))
		}
	}
	for _, m := range v.Middles {
		got := decode(t, d, picture(t, v.Width, v.Height, m.Turned), m.Size, func(w, h int) Window { return Middle(w, h, m.Shorter, m.Size) })
		if !slices.Equal(got, m.Pixels) {
			t.Errorf("middle %d of %d, turned %t: %d levels off", m.Size, m.Shorter, m.Turned, apart(got, m.Pixels))
		}
	}
}

// Random crops are torchvision's where they draw the same numbers, also where no try fits.
func TestRandomCropsAreTorchvisions(t *testing.T) {
	for _, c := range golden(t).Random {
		w := randomCrop(c.Width, c.Height, 8, c.Least, func(try uint32) [4]uint32 { return [4]uint32(c.Words[4*try:]) })
		if got := [4]int{w.X, w.Y, w.W, w.H}; got != c.Window || w.OutW != 8 || w.OutH != 8 || w.Left != 0 || w.Top != 0 {
			t.Errorf("of %dx%d, at least %g: %v; want %v", c.Width, c.Height, c.Least, got, c.Window)
		}
	}
}

// apart is the largest difference of two images.
func apart(a, b []byte) (most int) {
	for i := range a {
		most = max(most, int(a[i])-int(b[i]), int(b[i])-int(a[i]))
	}
	return most
}

// libjpeg-turbo decodes to Pillow's bits. The standard library rounds otherwise, by up to 3 levels, and does not smooth
// between the pixels of subsampled colours, which may be far off where colours change.
func TestDecodersAgreeWithPillow(t *testing.T) {
	v := golden(t)
	most := map[string]map[string]int{
		Turbo: {"4:2:0": 0, "4:4:4": 0, "progressive": 0, "grey": 0},
		Go:    {"4:2:0": 16, "4:4:4": 3, "progressive": 16, "grey": 1},
	}
	for name, d := range decoders(t) {
		for _, f := range v.Files {
			for _, corner := range [][2]int{{0, 0}, {v.Width - v.Height, 0}} { // squares that cover the image
				window := Window{X: corner[0], Y: corner[1], W: v.Height, H: v.Height, OutW: v.Height, OutH: v.Height}
				got := decode(t, d, f.File, v.Height, func(w, h int) Window {
					if w != v.Width || h != v.Height {
						t.Errorf("%s of %s: %dx%d", f.Name, name, w, h)
					}
					return window
				})
				var want []byte
				for y := range v.Height {
					at := 3 * ((corner[1]+y)*v.Width + corner[0])
					want = append(want, f.Pixels[at:at+3*v.Height]...)
				}
				off := apart(got, want)
				t.Logf("%s, %s: %d levels", f.Name, name, off)
				if off > most[name][f.Name] {
					t.Errorf("%s by %s is up to %d levels off Pillow's; want at most %d", f.Name, name, off, most[name][f.Name])
				}
			}
		}
	}
}
