package pixels

import (
	"image"
	"image/color"
)

// take fills the raster with a window's part of an image. Alpha is dropped, of 16 bits the upper 8 are kept, grey is
// three equal colours.
func (r *raster) take(img image.Image, w Window) {
	r.resize(w.W, w.H)
	origin := img.Bounds().Min.Add(image.Pt(w.X, w.Y))
	for y := range w.H {
		row := r.pixels[3*w.W*y : 3*w.W*(y+1)]
		takeRow(row, img, origin.X, origin.Y+y)
	}
}

// takeRow fills a row of RGB pixels with those of an image from (x, y) on.
func takeRow(row []byte, img image.Image, x, y int) {
	switch m := img.(type) {
	case *image.YCbCr:
		for i := 0; i < len(row); i += 3 {
			at, c := m.YOffset(x+i/3, y), m.COffset(x+i/3, y)
			row[i], row[i+1], row[i+2] = color.YCbCrToRGB(m.Y[at], m.Cb[c], m.Cr[c])
		}
	case *image.Gray:
		spread(row, m.Pix[m.PixOffset(x, y):], 1, 0, 0)
	case *image.Gray16:
		spread(row, m.Pix[m.PixOffset(x, y):], 2, 0, 0)
	case *image.RGBA: // without alpha, as PNG decodes it
		spread(row, m.Pix[m.PixOffset(x, y):], 4, 1, 2)
	case *image.NRGBA:
		spread(row, m.Pix[m.PixOffset(x, y):], 4, 1, 2)
	case *image.RGBA64:
		spread(row, m.Pix[m.PixOffset(x, y):], 8, 2, 4)
	case *image.NRGBA64:
		spread(row, m.Pix[m.PixOffset(x, y):], 8, 2, 4)
	case *image.CMYK:
		for i, p := 0, m.Pix[m.PixOffset(x, y):]; i < len(row); i, p = i+3, p[4:] {
			row[i], row[i+1], row[i+2] = color.CMYKToRGB(p[0], p[1], p[2], p[3])
		}
	case *image.Paletted:
		for i, p := range m.Pix[m.PixOffset(x, y):][:len(row)/3] {
			c := color.NRGBAModel.Convert(m.Palette[p]).(color.NRGBA)
			row[3*i], row[3*i+1], row[3*i+2] = c.R, c.G, c.B
		}
	default:
		for i := 0; i < len(row); i += 3 {
			c := color.NRGBAModel.Convert(img.At(x+i/3, y)).(color.NRGBA)
			row[i], row[i+1], row[i+2] = c.R, c.G, c.B
		}
	}
}

// spread copies red and, so many bytes behind it, green and blue of pixels that lie step bytes apart.
func spread(row, from []byte, step, green, blue int) {
	for i := 0; i < len(row); i += 3 {
		p := from[i/3*step:]
		row[i], row[i+1], row[i+2] = p[0], p[green], p[blue]
	}
}
