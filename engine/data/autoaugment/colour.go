package autoaugment

// blend goes from one byte towards another, by a share of the way that may be more than 1.
func blend(from, to byte, share float32) byte {
	v := float32(from) + float32(share*float32(int(to)-int(from)))
	return byte(min(max(v, 0), 255))
}

// grey is the luma of a colour.
func grey(r, g, b byte) byte {
	return byte((19595*uint32(r) + 38470*uint32(g) + 7471*uint32(b) + 1<<15) >> 16)
}

// each changes every byte by a function of it.
func (e *Editor) each(image []byte, f func(byte) byte) {
	table := &e.tables[0]
	for v := range table {
		table[v] = f(byte(v))
	}
	for i, v := range image {
		image[i] = table[v]
	}
}

// count counts the bytes of every channel.
func (e *Editor) count(image []byte) {
	clear(e.counts[:])
	if e.c == 1 {
		for _, v := range image {
			e.counts[0][v]++
		}
		return
	}
	for i := 0; i+2 < len(image); i += 3 {
		e.counts[0][image[i]]++
		e.counts[1][image[i+1]]++
		e.counts[2][image[i+2]]++
	}
}

// channels changes every byte by a table of its channel, made from the channel's counts.
func (e *Editor) channels(image []byte, fill func(table *[256]byte, counts *[256]int)) {
	for k := range e.c {
		fill(&e.tables[k], &e.counts[k])
	}
	if e.c == 1 {
		for i, v := range image {
			image[i] = e.tables[0][v]
		}
		return
	}
	for i := 0; i+2 < len(image); i += 3 {
		image[i], image[i+1], image[i+2] = e.tables[0][image[i]], e.tables[1][image[i+1]], e.tables[2][image[i+2]]
	}
}

// stretched makes the darkest byte 0 and the lightest 255.
func stretched(table *[256]byte, counts *[256]int) {
	low, high := 0, 255
	for low < 255 && counts[low] == 0 {
		low++
	}
	for high > 0 && counts[high] == 0 {
		high--
	}
	scale := 255 / float64(max(high-low, 1))
	offset := -float64(float64(low) * scale)
	for v := range table {
		switch {
		case high <= low:
			table[v] = byte(v)
		default:
			table[v] = byte(min(max(float64(float64(v)*scale)+offset, 0), 255))
		}
	}
}

// equalized spreads the bytes so that about as many images' pixels lie in every part of the range.
func equalized(table *[256]byte, counts *[256]int) {
	sum, last := 0, 0
	for _, n := range counts {
		if n > 0 {
			sum, last = sum+n, n
		}
	}
	step := (sum - last) / 255
	n := step / 2
	for v := range table {
		if step == 0 {
			table[v] = byte(v)
			continue
		}
		table[v] = byte(min(n/step, 255))
		n += counts[v]
	}
}

// mean is the mean luma of an image, rounded.
func (e *Editor) mean(image []byte) byte {
	sum := 0
	if e.c == 1 {
		for _, v := range image {
			sum += int(v)
		}
	} else {
		for i := 0; i+2 < len(image); i += 3 {
			sum += int(grey(image[i], image[i+1], image[i+2]))
		}
	}
	pixels := e.h * e.w
	return byte((2*sum + pixels) / (2 * pixels))
}

// color goes from grey towards the colours. Grey images stay.
func (e *Editor) color(image []byte, share float32) {
	if e.c == 1 {
		return
	}
	for i := 0; i+2 < len(image); i += 3 {
		p := image[i : i+3 : i+3]
		from := grey(p[0], p[1], p[2])
		p[0], p[1], p[2] = blend(from, p[0], share), blend(from, p[1], share), blend(from, p[2], share)
	}
}

// sharpen goes from a smoothed image towards the image. Pixels of the edge stay.
func (e *Editor) sharpen(image []byte, share float32) {
	copy(e.before, image)
	row, c := e.w*e.c, e.c
	for y := 1; y < e.h-1; y++ {
		above, line, below := e.before[(y-1)*row:][:row], e.before[y*row:][:row], e.before[(y+1)*row:][:row]
		to := image[y*row:][:row]
		for x := c; x < row-c; x++ {
			sum := int(above[x-c]) + int(above[x]) + int(above[x+c]) + int(line[x-c]) + 5*int(line[x]) + int(line[x+c]) +
				int(below[x-c]) + int(below[x]) + int(below[x+c])
			to[x] = blend(byte((2*sum+13)/26), line[x], share)
		}
	}
}
