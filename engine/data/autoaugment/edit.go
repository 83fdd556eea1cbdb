package autoaugment

import "math"

// Editor edits images of one shape, one at a time.
type Editor struct {
	h, w, c int
	before  []byte // the image, as it was
	tables  [3][256]byte
	counts  [3][256]int
}

// NewEditor returns an editor of images [h][w][c], of one channel or of red, green and blue.
func NewEditor(h, w, c int) *Editor { return &Editor{h: h, w: w, c: c, before: make([]byte, h*w*c)} }

// edit does an operation.
func (e *Editor) edit(image []byte, op Op, m float64) {
	switch op {
	case ShearX:
		e.affine(image, [6]float64{1, m, 0, 0, 1, 0})
	case ShearY:
		e.affine(image, [6]float64{1, 0, 0, m, 1, 0})
	case TranslateX:
		e.shift(image, 0, int(m))
	case TranslateY:
		e.shift(image, int(m), 0)
	case Rotate:
		e.rotate(image, m)
	case Brightness:
		e.each(image, func(v byte) byte { return blend(0, v, float32(1+m)) })
	case Color:
		e.color(image, float32(1+m))
	case Contrast:
		mean := e.mean(image)
		e.each(image, func(v byte) byte { return blend(mean, v, float32(1+m)) })
	case Sharpness:
		e.sharpen(image, float32(1+m))
	case Posterize:
		mask := byte(0xff << (8 - int(m)))
		e.each(image, func(v byte) byte { return v & mask })
	case Solarize:
		e.each(image, func(v byte) byte {
			if float64(v) < m {
				return v
			}
			return 255 - v
		})
	case AutoContrast:
		e.count(image)
		e.channels(image, stretched)
	case Equalize:
		e.count(image)
		e.channels(image, equalized)
	case Invert:
		e.each(image, func(v byte) byte { return 255 - v })
	}
}

// shift moves an image down and to the right.
func (e *Editor) shift(image []byte, down, right int) {
	copy(e.before, image)
	clear(image)
	row := e.w * e.c
	to, from := max(right, 0)*e.c, max(-right, 0)*e.c
	if n := row - max(to, from); n > 0 {
		for y := max(down, 0); y < e.h+min(down, 0); y++ {
			copy(image[y*row+to:][:n], e.before[(y-down)*row+from:])
		}
	}
}

// rotate turns an image against the clock around its middle.
func (e *Editor) rotate(image []byte, degrees float64) {
	if degrees == 0 {
		return
	}
	sin, cos := math.Sincos(-degrees * math.Pi / 180)
	sin, cos = math.Round(sin*1e15)/1e15, math.Round(cos*1e15)/1e15
	x, y := float64(e.w)/2, float64(e.h)/2
	e.affine(image, [6]float64{cos, sin, x - (float64(cos*x) + float64(sin*y)), -sin, cos, y - (float64(cos*y) - float64(sin*x))})
}

// affine takes pixel (x, y) from (a0 x + a1 y + a2, a3 x + a4 y + a5), by fixed-point numbers with 16 bits behind the point.
func (e *Editor) affine(image []byte, a [6]float64) {
	copy(e.before, image)
	var steps [6]int
	for i, v := range a {
		if i%3 == 2 { // from the middle of a pixel
			v += float64(a[i-2]*0.5) + float64(a[i-1]*0.5)
		}
		steps[i] = int(math.Floor(float64(v*65536) + 0.5))
	}
	at := 0
	for range e.h {
		x, y := steps[2], steps[5]
		for range e.w {
			column, row := x>>16, y>>16
			if column >= 0 && column < e.w && row >= 0 && row < e.h {
				from := (row*e.w + column) * e.c
				for k := range e.c {
					image[at+k] = e.before[from+k]
				}
			} else {
				clear(image[at : at+e.c])
			}
			at += e.c
			x += steps[0]
			y += steps[3]
		}
		steps[2] += steps[1]
		steps[5] += steps[4]
	}
}
