package pixels

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"slices"
	"strings"
	"testing"
)

// whole takes a square image as it is.
func whole(w, h int) Window { return Window{W: w, H: h, OutW: w, OutH: h} }

func encode(t testing.TB, m image.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := png.Encode(&out, m); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Images of every kind become RGB: grey is three equal colours, alpha is dropped, the upper 8 bits of 16 are kept.
func TestKindsOfImages(t *testing.T) {
	const n = 4
	square := image.Rect(0, 0, n, n)
	see := color.NRGBA{200, 100, 50, 90}
	kinds := map[string]struct {
		m    image.Image
		want [3]byte
	}{
		"nrgba":    {fill(image.NewNRGBA(square), see), [3]byte{200, 100, 50}},
		"rgba":     {fill(image.NewRGBA(square), color.NRGBA{1, 2, 3, 255}), [3]byte{1, 2, 3}},
		"grey":     {fill(image.NewGray(square), color.Gray{77}), [3]byte{77, 77, 77}},
		"grey 16":  {fill(image.NewGray16(square), color.Gray16{0x4dff}), [3]byte{0x4d, 0x4d, 0x4d}},
		"nrgba 16": {fill(image.NewNRGBA64(square), color.NRGBA64{0xc8ff, 0x6400, 0x3280, 0x8000}), [3]byte{0xc8, 0x64, 0x32}},
		"rgba 16":  {fill(image.NewRGBA64(square), color.NRGBA64{0xc8ff, 0x6400, 0x3280, 0xffff}), [3]byte{0xc8, 0x64, 0x32}},
		"palette":  {fill(image.NewPaletted(square, color.Palette{color.NRGBA{9, 9, 9, 255}, see}), see), [3]byte{200, 100, 50}},
	}
	d := &Decoder{}
	for name, k := range kinds {
		got := decode(t, d, encode(t, k.m), n, whole)
		for i := range n * n {
			if [3]byte(got[3*i:]) != k.want {
				t.Errorf("%s: pixel %d is %v; want %v", name, i, got[3*i:3*i+3], k.want)
				break
			}
		}
	}
}

func fill[T interface {
	image.Image
	Set(x, y int, c color.Color)
}](m T, c color.Color) image.Image {
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			m.Set(x, y, c)
		}
	}
	return m
}

// stripes is a JPEG file of smooth waves.
func stripes(t testing.TB, w, h int) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.Set(x, y, color.RGBA{byte(x * 200 / w), byte(y * 200 / h), byte((x + y) * 100 / (w + h)), 255})
		}
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, m, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A large image that is decoded at a part of its size gives what it gives at full size, but for a few levels.
func TestShrunkDecodingIsClose(t *testing.T) {
	d := decoders(t)[Turbo]
	if d == nil {
		t.Skip("no libjpeg-turbo")
	}
	file := stripes(t, 803, 601)
	for _, w := range []Window{{W: 803, H: 601, OutW: 48, OutH: 36, Left: 8, Top: 2}, {X: 37, Y: 55, W: 402, H: 399, OutW: 32, OutH: 32}, {X: 799, W: 4, H: 601, OutW: 32, OutH: 32}} {
		got := decode(t, d, file, 32, func(int, int) Window { return w })
		want := decode(t, &Decoder{}, file, 32, func(int, int) Window { return w })
		if off := apart(got, want); off > 4 {
			t.Errorf("%+v, shrunk by %d: %d levels off", w, w.shrink(), off)
		}
	}
	for want, w := range map[int]Window{8: {W: 801, H: 601, OutW: 50, OutH: 37}, 4: {W: 801, H: 601, OutW: 51, OutH: 37}, 1: {W: 63, H: 64, OutW: 16, OutH: 16}} {
		if w.shrink() != want {
			t.Errorf("%+v is shrunk by %d; want %d", w, w.shrink(), want)
		}
	}
}

func TestMirror(t *testing.T) {
	d := &Decoder{}
	for _, n := range []int{4, 5} {
		file := picture(t, n, n, false)
		got := decode(t, d, file, n, func(w, h int) Window { out := whole(w, h); out.Mirror = true; return out })
		plain := decode(t, d, file, n, whole)
		for y := range n {
			for x := range n {
				if [3]byte(got[3*(y*n+x):]) != [3]byte(plain[3*(y*n+n-1-x):]) {
					t.Fatalf("%dx%d: row %d is not mirrored", n, n, y)
				}
			}
		}
	}
}

// Random crops lie in their images and cover areas and ratios as they should: their means over many draws.
func TestRandomCropsCover(t *testing.T) {
	const n = 4000
	area, ratios, flips := 0., 0, 0
	for i := range uint32(n) {
		d := Draw{Seed: 5, Epoch: i % 7, Sample: i, Copy: i % 3}
		w := RandomCrop(400, 400, 32, 0.08, d)
		if w.X < 0 || w.Y < 0 || w.W < 1 || w.H < 1 || w.X+w.W > 400 || w.Y+w.H > 400 {
			t.Fatalf("%+v is outside", w)
		}
		area += float64(w.W*w.H) / (400 * 400)
		if w.W > w.H {
			ratios++
		}
		if d.Mirrored() {
			flips++
		}
	}
	// Areas above 3/4 fit only with some of the ratios, which makes the mean less than (0.08+1)/2.
	if mean := area / n; mean < 0.47 || mean > 0.55 {
		t.Errorf("a mean area of %g", mean)
	}
	for what, count := range map[string]int{"wider than high": ratios, "mirrored": flips} {
		if count < n*46/100 || count > n*54/100 {
			t.Errorf("%d of %d are %s", count, n, what)
		}
	}
}

// bomb is the header of a PNG file of a size, and of a JPEG file.
func bombs(t testing.TB, w, h uint32) map[string][]byte {
	t.Helper()
	ihdr := binary.BigEndian.AppendUint32([]byte("IHDR"), w)
	ihdr = append(binary.BigEndian.AppendUint32(ihdr, h), 8, 2, 0, 0, 0)
	out := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\r"), ihdr...)
	files := map[string][]byte{"png": binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(ihdr))}
	file := stripes(t, 16, 16)
	at := bytes.Index(file, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(file[at+5:], uint16(min(h, 65535)))
	binary.BigEndian.PutUint16(file[at+7:], uint16(min(w, 65535)))
	files["jpeg"] = file
	return files
}

func TestBadFilesAreRefused(t *testing.T) {
	good := stripes(t, 64, 48)
	pngFile := picture(t, 20, 20, false)
	files := map[string]struct {
		file []byte
		want []string // one of them
	}{
		"empty":           {nil, []string{"is empty"}},
		"text":            {[]byte("hello there"), []string{`neither a JPEG nor a PNG file: it begins with "hello th"`}},
		"cut JPEG":        {good[:len(good)*9/10], []string{"remature end", "unexpected EOF", "short Huffman data"}},
		"JPEG header":     {good[:30], []string{"remature end", "unexpected EOF", "DQT"}},
		"JPEG mark":       {good[:3], []string{"remature end", "unexpected EOF", "Insufficient", "no image", "SOF"}},
		"cut PNG":         {pngFile[:len(pngFile)/2], []string{"not enough pixel data", "unexpected EOF"}},
		"changed PNG":     {append(slices.Clone(pngFile[:60]), append([]byte{pngFile[60] ^ 1}, pngFile[61:]...)...), []string{"invalid checksum", "flate", "zlib"}},
		"large JPEG":      {bombs(t, 60000, 60000)["jpeg"], []string{"60000x60000 pixels; it may have up to 67108864"}},
		"large PNG":       {bombs(t, 1<<30, 1<<20)["png"], []string{"1073741824x1048576 pixels", "dimension overflow"}},
		"JPEG of much":    {bombs(t, 8000, 8000)["jpeg"], []string{"8000x8000 pixels, more than its 6"}},
		"PNG of much":     {bombs(t, 8000, 8000)["png"], []string{"8000x8000 pixels, more than its 33 bytes can hold"}},
		"JPEG of nothing": {bombs(t, 0, 16)["jpeg"], []string{"Empty", "0x16 pixels", "zero"}},
	}
	for decoder, d := range decoders(t) {
		for name, f := range files {
			err := d.Decode(make([]byte, 3*8*8), f.file, 8, func(w, h int) Window { return Middle(w, h, 8, 8) })
			if err == nil {
				t.Errorf("%s: %s is accepted", decoder, name)
				continue
			}
			if !slices.ContainsFunc(f.want, func(s string) bool { return strings.Contains(err.Error(), s) }) {
				t.Errorf("%s: %s: %q has none of %q", decoder, name, err, f.want)
			}
			if err := d.Decode(make([]byte, 3*8*8), good, 8, func(w, h int) Window { return Middle(w, h, 8, 8) }); err != nil {
				t.Errorf("%s: a good file behind %s: %v", decoder, name, err)
			}
		}
	}
}

// A header that declares a huge image is refused before memory for it is allocated.
func TestBombsAllocateLittle(t *testing.T) {
	for decoder, d := range decoders(t) {
		for name, file := range bombs(t, 8000, 8000) { // as many pixels as an image may have
			r := testing.Benchmark(func(b *testing.B) {
				for b.Loop() {
					if err := d.Decode(make([]byte, 3*8*8), file, 8, func(w, h int) Window { return Middle(w, h, 8, 8) }); err == nil {
						b.Fatal("accepted")
					}
				}
			})
			if r.AllocedBytesPerOp() > 1<<20 {
				t.Errorf("%s: a %s file of 8000x8000 pixels takes %d bytes to refuse", decoder, name, r.AllocedBytesPerOp())
			}
		}
	}
}

// Files that hold as much as they can are good: an image of one colour, and one of one bit a pixel.
func TestEmptyImagesAreNoBombs(t *testing.T) {
	one := image.NewPaletted(image.Rect(0, 0, 1600, 1200), color.Palette{color.Black, color.White})
	var flat bytes.Buffer
	if err := jpeg.Encode(&flat, image.NewGray(one.Rect), &jpeg.Options{Quality: 1}); err != nil {
		t.Fatal(err)
	}
	for decoder, d := range decoders(t) {
		for kind, file := range map[string][]byte{"png": encode(t, one), "jpeg": flat.Bytes()} {
			t.Logf("%s: %d bytes", kind, len(file))
			if err := d.Decode(make([]byte, 3*8*8), file, 8, func(w, h int) Window { return Middle(w, h, 8, 8) }); err != nil {
				t.Errorf("%s: %s: %v", decoder, kind, err)
			}
		}
	}
}

func TestResolve(t *testing.T) {
	if kind, words, err := Resolve(Go); kind != Go || words != "Go's image/jpeg" || err != nil {
		t.Errorf("go: %q, %q, %v", kind, words, err)
	}
	if kind, words, err := Resolve(Auto); err != nil || kind == Turbo != strings.HasPrefix(words, "libjpeg-turbo (libturbojpeg") {
		t.Errorf("auto: %q, %q, %v", kind, words, err)
	}
	if _, _, err := Resolve("turbo"); err == nil || !strings.Contains(err.Error(), "image decoder") {
		t.Errorf("turbo: %v", err)
	}
}

// FuzzDecode feeds files to both decoders: they may refuse them, but not fail otherwise, and an image's size is what its
// header said.
func FuzzDecode(f *testing.F) {
	f.Add(stripes(f, 40, 30))
	f.Add(picture(f, 12, 9, false))
	f.Add(encode(f, image.NewGray16(image.Rect(0, 0, 3, 3))))
	for _, file := range bombs(f, 70000, 70000) {
		f.Add(file)
	}
	f.Add([]byte{})
	all := decoders(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		for name, d := range all {
			for _, shorter := range []int{8, 70} {
				err := d.Decode(make([]byte, 3*8*8), file, 8, func(w, h int) Window {
					if w < 1 || h < 1 || w*h > MaxPixels {
						t.Errorf("%s: an image of %dx%d", name, w, h)
					}
					return Middle(w, h, shorter, 8)
				})
				if err != nil && (err.Error() == "" || strings.Contains(err.Error(), "runtime error")) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	})
}

// BenchmarkDecode is a photograph's size, cropped at random to what training sees: a core's images a second.
func BenchmarkDecode(b *testing.B) {
	for _, kind := range []struct {
		name       string
		w, h, size int
	}{{"500x375 to 224", 500, 375, 224}, {"213x160 to 64", 213, 160, 64}, {"1600x1200 to 224", 1600, 1200, 224}} {
		file := stripes(b, kind.w, kind.h)
		for name, d := range decoders(b) {
			b.Run(kind.name+"/"+name, func(b *testing.B) {
				dst := make([]byte, 3*kind.size*kind.size)
				b.ReportAllocs()
				for i := range uint32(b.N) {
					if err := d.Decode(dst, file, kind.size, func(w, h int) Window { return RandomCrop(w, h, kind.size, 0.08, Draw{Sample: i}) }); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
			})
		}
	}
}
