// Package sheet draws a data set's contact sheet: a row of images of every class.
package sheet

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"strconv"

	"golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"

	"broadside/engine/data"
	"broadside/engine/internal/durable"
)

const (
	cell       = 64 // pixels of the larger side of an image, at most
	gap        = 4
	margin     = 12
	maxClasses = 1000
	maxLabel   = 22 // letters
)

var face = basicfont.Face7x13

// layout is where things are on a sheet.
type layout struct {
	w, h           int // of an image as it is drawn
	each           int // images of a class
	label          int // width of the names
	classes, rows  int
	columns, block int // blocks of classes side by side, and the width of one
}

// Write writes the sheet of a set as PNG.
func Write(path string, s *data.Set) error {
	err := durable.Replace(path, func(w io.Writer) error { return png.Encode(w, Draw(s)) })
	if err != nil {
		return fmt.Errorf("writing the contact sheet: %w", err)
	}
	return nil
}

// Draw draws the first images of each class, one class a row; many classes stand in several columns.
func Draw(s *data.Set) *image.RGBA {
	l := plan(s)
	size := image.Rect(0, 0, l.columns*l.block+margin, l.rows*(l.h+gap)+2*margin-gap)
	sheet := image.NewRGBA(size)
	draw.Draw(sheet, size, image.White, image.Point{}, draw.Src)
	for y := range l.classes {
		l.text(sheet, y, name(s, y))
	}
	seen := make([]int, s.Classes)
	for i, y := range s.Labels {
		if int(y) < l.classes && seen[y] < l.each {
			at := l.corner(int(y)).Add(image.Pt(l.label+seen[y]*(l.w+gap), 0))
			place(sheet, image.Rectangle{at, at.Add(image.Pt(l.w, l.h))}, picture(s, i))
			seen[y]++
		}
	}
	return sheet
}

// plan lays a sheet out: the more classes, the fewer images of each, in as many columns as make it about square.
func plan(s *data.Set) layout {
	l := layout{classes: min(s.Classes, maxClasses), each: 10}
	switch {
	case l.classes > 200:
		l.each = 3
	case l.classes > 20:
		l.each = 6
	}
	side := max(s.H, s.W)
	if scale := cell / side; scale > 0 { // small images grow by whole factors, so that their pixels stay square
		l.w, l.h = s.W*scale, s.H*scale
	} else {
		l.w, l.h = max(s.W*cell/side, 1), max(s.H*cell/side, 1)
	}
	for y := range l.classes {
		l.label = max(l.label, len([]rune(name(s, y)))*face.Advance+2*gap)
	}
	l.block = margin + l.label + l.each*(l.w+gap)
	for l.columns = 1; ; l.columns++ {
		l.rows = (l.classes + l.columns - 1) / l.columns
		if l.columns*l.block >= l.rows*(l.h+gap) || l.columns == l.classes {
			return l
		}
	}
}

// corner is the upper left corner of a class's row.
func (l *layout) corner(class int) image.Point {
	return image.Pt(margin+class/l.rows*l.block, margin+class%l.rows*(l.h+gap))
}

// name is what a class is called, shortened.
func name(s *data.Set, class int) string {
	if s.ClassNames == nil {
		return strconv.Itoa(class)
	}
	letters := []rune(s.ClassNames[class])
	if len(letters) > maxLabel {
		return string(letters[:maxLabel-2]) + ".."
	}
	return string(letters)
}

// text writes the name of a class beside its row.
func (l *layout) text(sheet *image.RGBA, class int, name string) {
	at := l.corner(class)
	d := font.Drawer{Dst: sheet, Src: image.NewUniform(color.Gray{0x30}), Face: face,
		Dot: fixed.P(at.X, at.Y+(l.h+face.Ascent-face.Descent)/2)}
	d.DrawString(name)
}

// place draws an image into a rectangle, each pixel a square where it grows.
func place(sheet *image.RGBA, to image.Rectangle, from image.Image) {
	scaler := draw.Interpolator(draw.NearestNeighbor)
	if to.Dx() < from.Bounds().Dx() || to.Dy() < from.Bounds().Dy() {
		scaler = draw.CatmullRom
	}
	scaler.Scale(sheet, to, from, from.Bounds(), draw.Src, nil)
}

// picture is an image of the set. Where it has neither one nor three channels, the first is shown.
func picture(s *data.Set, i int) image.Image {
	pixels, box := s.Image(i), image.Rect(0, 0, s.W, s.H)
	if s.C != 3 {
		grey := image.NewGray(box)
		for p := range grey.Pix {
			grey.Pix[p] = pixels[p*s.C]
		}
		return grey
	}
	rgba := image.NewRGBA(box)
	for p := range s.W * s.H {
		copy(rgba.Pix[4*p:], pixels[3*p:3*p+3])
		rgba.Pix[4*p+3] = 0xff
	}
	return rgba
}
