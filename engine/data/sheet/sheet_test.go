package sheet

import (
	"fmt"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"broadside/engine/data"
)

// set has images of one colour, which tells the class and how many of it came before.
func set(h, w, c, classes, each int) *data.Set {
	s := &data.Set{H: h, W: w, C: c, Classes: classes}
	for n := range each {
		for y := range classes {
			s.Labels = append(s.Labels, int32(y))
			for p := range h * w * c {
				s.Images = append(s.Images, [3]byte{byte(10 * y), byte(20 * n), 99}[p%c%3])
			}
		}
	}
	return s
}

func TestDraw(t *testing.T) {
	for _, c := range []struct {
		h, w, c, classes, each int
		drawn, cw, ch          int // images of a class, and their size on the sheet
	}{
		{28, 28, 1, 10, 12, 10, 56, 56}, {32, 32, 3, 10, 4, 4, 64, 64}, {100, 50, 3, 3, 10, 10, 32, 64}, {1, 2, 3, 25, 7, 6, 64, 32},
		{8, 8, 5, 2, 1, 1, 64, 64}, {4, 4, 1, 250, 4, 3, 64, 64}, {1, 300, 3, 2, 3, 3, 64, 1},
	} {
		t.Run(fmt.Sprintf("%dx%dx%d of %d", c.h, c.w, c.c, c.classes), func(t *testing.T) {
			s := set(c.h, c.w, c.c, c.classes, c.each)
			sheet, l := Draw(s), plan(s)
			if l.w != c.cw || l.h != c.ch {
				t.Fatalf("images of %dx%d, want %dx%d", l.w, l.h, c.cw, c.ch)
			}
			for y := range c.classes {
				for n := range l.each {
					at := l.corner(y)
					got := sheet.RGBAAt(at.X+l.label+n*(l.w+gap)+l.w/2, at.Y+l.h/2)
					want := color.RGBA{byte(10 * y), byte(20 * n), 99, 255}
					switch {
					case n >= c.drawn:
						want = color.RGBA{255, 255, 255, 255}
					case c.c != 3:
						want.G, want.B = want.R, want.R
					}
					if got != want {
						t.Fatalf("class %d image %d is %v, want %v", y, n, got, want)
					}
				}
			}
			if b := sheet.Bounds(); b.Dx() > 4000 || b.Dy() > 4000 {
				t.Errorf("a sheet of %v", b)
			}
		})
	}
}

func TestNames(t *testing.T) {
	s := set(8, 8, 1, 3, 2)
	bare := Draw(s).Bounds().Dx()
	s.ClassNames = []string{"dog", strings.Repeat("long", 20), "ü"}
	if got := Draw(s).Bounds().Dx(); got != bare+(maxLabel-1)*face.Advance {
		t.Errorf("%d pixels wide, %d without names", got, bare)
	}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sheet.png")
	s := set(8, 8, 3, 2, 2)
	if err := Write(path, s); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := png.Decode(f)
	if err != nil || got.Bounds() != Draw(s).Bounds() {
		t.Errorf("%v, %v", got, err)
	}
	if err := Write(filepath.Join(path, "x.png"), s); err == nil || !strings.Contains(err.Error(), "contact sheet") {
		t.Errorf("%v", err)
	}
}
