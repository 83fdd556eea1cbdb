package telemetry

import (
	"fmt"
	"image/color"
	"strings"

	"gonum.org/v1/plot/vg"
)

// theme is the colours of a plot.
type theme struct {
	ink, grid, contour color.RGBA // contour: lines on the plane
	series             []color.RGBA
}

// seriesColor is the colour of a line; they repeat.
func (t *theme) seriesColor(index int) color.RGBA { return t.series[index%len(t.series)] }

// The colours that pages are drawn with stand for CSS variables, by which the page makes them light
// or dark. Their values only have to differ. Files have the colours of the light page.
var (
	// seriesNames are the variables of the lines' colours.
	seriesNames = []string{"first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"}
	pageTheme   = newTheme(func(number int) color.RGBA { return color.RGBA{R: 0x11, G: 0x11, B: uint8(number + 1), A: 0xff} })
	paperTheme  = newTheme(func(number int) color.RGBA {
		rgb := []uint32{0x1f2933, 0xe1e5ea, 0xffffff, 0x0b62b8, 0xc2500b, 0x0a7a55, 0xa3337f, 0x7a6000, 0x5546c8, 0x4d5866, 0xb3261e}[number]
		return color.RGBA{R: uint8(rgb >> 16), G: uint8(rgb >> 8), B: uint8(rgb), A: 0xff}
	})
	pageColors = newReplacer()
)

func newTheme(number func(int) color.RGBA) *theme {
	t := &theme{ink: number(0), grid: number(1), contour: number(2)}
	for i := range seriesNames {
		t.series = append(t.series, number(3+i))
	}
	return t
}

// variables are the theme's colours by the names that a page has for them.
func (t *theme) variables() map[string]color.RGBA {
	out := map[string]color.RGBA{"ink": t.ink, "grid": t.grid, "contour": t.contour}
	for i, name := range seriesNames {
		out[name] = t.series[i]
	}
	return out
}

// newReplacer puts CSS variables in the place of colours.
func newReplacer() *strings.Replacer {
	// Any font of Arial's widths fits the layout, which is computed with Liberation Sans.
	pairs := []string{"font-family:Liberation Sans;", "font-family:Arial,'Liberation Sans',Helvetica,sans-serif;", "font-variant:none;", ""}
	for name, c := range pageTheme.variables() {
		pairs = append(pairs, fmt.Sprintf("#%02X%02X%02X", c.R, c.G, c.B), "var(--"+name+")")
	}
	return strings.NewReplacer(pairs...)
}

// seriesDashes tells lines apart without their colour, and those of one colour; nil is a line without gaps.
func seriesDashes(index int) []vg.Length {
	patterns := [][]vg.Length{nil, {5, 3}, {1.5, 2}, {7, 2, 1.5, 2}}
	return patterns[(index+index/len(seriesNames))%len(patterns)]
}
