package telemetry

import (
	"bytes"
	"io"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// svg is an SVG canvas whose images fill their place, as those of other formats do.
type svg struct{ *vgsvg.Canvas }

func newSVG(w, h vg.Length) vg.CanvasWriterTo { return svg{vgsvg.New(w, h)} }

// WriteTo writes the drawing.
func (s svg) WriteTo(w io.Writer) (int64, error) {
	var out bytes.Buffer
	if _, err := s.Canvas.WriteTo(&out); err != nil {
		return 0, err
	}
	n, err := w.Write(bytes.ReplaceAll(out.Bytes(), []byte("<image "), []byte(`<image preserveAspectRatio="none" `)))
	return int64(n), err
}
