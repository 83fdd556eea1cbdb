package data

import "broadside/engine/data/autoaugment"

// Painter makes views of a set's images on the host, one at a time: crops and flips, AutoAugment, cutout. Where they
// draw the same things, views are those of the augmentation kernel.
type Painter struct {
	set    *Set
	erased []byte // what cutout leaves, of each channel
	editor *autoaugment.Editor
}

// NewPainter returns a painter of a set's images. mean is what pixels in [0, 1] are normalised with, or nil: cutout leaves
// the byte next to it, and so about 0 behind normalisation.
func NewPainter(s *Set, mean []float32) *Painter {
	p := &Painter{set: s, erased: make([]byte, s.C), editor: autoaugment.NewEditor(s.H, s.W, s.C)}
	for k := range mean {
		p.erased[k] = byte(255*mean[k] + 0.5)
	}
	return p
}

// Paint fills dst, [H][W][C] bytes, with a view of an image.
func (p *Painter) Paint(dst []byte, image int, v View) error {
	if !p.set.Streamed() {
		p.place(dst, image, v)
	} else if err := p.set.Source.Decode(dst, image, v); err != nil {
		return err
	}
	if v.Policy != nil {
		p.editor.Apply(dst, v.Policy, v.draw(image).Policy())
	}
	if v.Cutout > 0 {
		p.cut(dst, image, v)
	}
	return nil
}

// place fills dst with an image in memory, moved and flipped. What comes from outside of it is black.
func (p *Painter) place(dst []byte, image int, v View) {
	from, c, row := p.set.Image(image), p.set.C, p.set.W*p.set.C
	up, left := v.draw(image).Shift(v.Pad)
	flip := v.Flip && v.draw(image).Mirrored()
	if up == 0 && left == 0 && !flip {
		copy(dst, from)
		return
	}
	clear(dst)
	for y := max(-up, 0); y < p.set.H-max(up, 0); y++ {
		line, to := from[(y+up)*row:][:row], dst[y*row:][:row]
		if !flip {
			if n := row - max(left, -left)*c; n > 0 {
				copy(to[max(-left, 0)*c:][:n], line[max(left, 0)*c:])
			}
			continue
		}
		for x := range p.set.W {
			if at := p.set.W - 1 - x + left; at >= 0 && at < p.set.W {
				copy(to[x*c:(x+1)*c], line[at*c:])
			}
		}
	}
}

// cut erases a square of an image.
func (p *Painter) cut(dst []byte, image int, v View) {
	h, w, c := p.set.H, p.set.W, p.set.C
	top, left := v.draw(image).Cut(h, w, v.Cutout)
	for y := max(top, 0); y < min(top+v.Cutout, h); y++ {
		for x := max(left, 0); x < min(left+v.Cutout, w); x++ {
			copy(dst[(y*w+x)*c:], p.erased)
		}
	}
}
