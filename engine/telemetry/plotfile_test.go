package telemetry

import (
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func rangeTest() RangeTest {
	r := RangeTest{Title: "Learning rates of x", Suggested: new(1e-3)}
	for i := range 50 {
		rate := 1e-5
		for range i {
			rate *= 1.3
		}
		r.Rates, r.Losses, r.Smoothed = append(r.Rates, rate), append(r.Losses, 3-float64(i)/20), append(r.Smoothed, 3-float64(i)/25)
	}
	r.Losses[40] = 1e6 // out of range
	return r
}

func TestPlotAsSVG(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.svg")
	if err := rangeTest().WritePlot(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"#0B62B8", "#C2500B", "#1F2933", "suggested: 0.001", ">0.0001<", ">learning rate<", "Learning rates of x"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in the drawing", want)
		}
	}
	if strings.Contains(string(text), "#1111") {
		t.Error("a stand-in for a colour is left")
	}
	d := xml.NewDecoder(strings.NewReader(string(text)))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not XML: %v", err)
		}
	}
}

func TestPlotAsPNG(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.PNG")
	if err := rangeTest().WritePlot(path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	drawn, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	count := colours(drawn)
	for c, least := range map[color.RGBA]int{rgb(0xffffff): 300000, rgb(0x0b62b8): 500, rgb(0xc2500b): 300, rgb(0x0a7a55): 100} {
		if count[c] < least {
			t.Errorf("%d pixels of %v; want %d", count[c], c, least)
		}
	}
}

func colours(m image.Image) map[color.RGBA]int {
	out := map[color.RGBA]int{}
	b := m.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			out[color.RGBAModel.Convert(m.At(x, y)).(color.RGBA)]++
		}
	}
	return out
}

func TestPlotFileMistakes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "a.jpg", "svg"} {
		if err := rangeTest().WritePlot(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), "ends in .svg or .png") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (RangeTest{Title: "x"}).WritePlot(filepath.Join(dir, "a.svg")); err == nil || !strings.Contains(err.Error(), "nothing to draw") {
		t.Errorf("no points: %v", err)
	}
	if err := rangeTest().WritePlot(filepath.Join(dir, "none", "a.svg")); err == nil {
		t.Error("a folder that does not exist was written to")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// Files are drawn in the colours of pages.
func TestPaperIsThePagesLight(t *testing.T) {
	style, err := pageFiles.ReadFile("style.html.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	light, _, _ := strings.Cut(string(style), "@media")
	for i, name := range append([]string{"ink", "grid"}, seriesNames...) {
		c := paper[themeColor(i)].(color.RGBA)
		if want := fmt.Sprintf("--%s: #%02x%02x%02x;", name, c.R, c.G, c.B); !strings.Contains(light, want) {
			t.Errorf("the pages' style has no %s", want)
		}
	}
}
