package onnx_test

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// evaluate runs a model in float64, as the ONNX specification defines its operators. A value must be there before it is
// read, and be made once.
func (m *model) evaluate(t *testing.T, x array) array {
	t.Helper()
	values := map[string]array{m.input: x}
	for name, c := range m.constants {
		if _, ok := values[name]; ok {
			t.Fatalf("%s is there twice", name)
		}
		values[name] = c
	}
	read := map[string]bool{m.output: true}
	for _, o := range m.nodes {
		var in []array
		for _, name := range o.in {
			v, ok := values[name]
			if !ok {
				t.Fatalf("%s reads %s before it is there", o.name, name)
			}
			in, read[name] = append(in, v), true
		}
		if _, ok := values[o.out[0]]; ok || len(o.out) != 1 || o.out[0] != o.name {
			t.Fatalf("%s makes %v", o.name, o.out)
		}
		values[o.name] = apply(t, o, in)
	}
	for name := range values {
		if !read[name] {
			t.Errorf("nobody reads %s", name)
		}
	}
	return values[m.output]
}

func apply(t *testing.T, o operator, in []array) array {
	x := in[0]
	switch o.op {
	case "Conv":
		return conv(o, in)
	case "Gemm":
		return gemm(o, in)
	case "Flatten":
		return array{[]int{x.shape[0], len(x.values) / x.shape[0]}, x.values}
	case "BatchNormalization":
		return each(x, func(i int, v float64) float64 {
			c := i / (len(x.values) / (x.shape[0] * x.shape[1])) % x.shape[1]
			return (v-in[3].values[c])/math.Sqrt(in[4].values[c]+o.float["epsilon"])*in[1].values[c] + in[2].values[c]
		})
	case "Relu":
		return each(x, func(_ int, v float64) float64 { return max(v, 0) })
	case "Log":
		return each(x, func(_ int, v float64) float64 { return math.Log(v) })
	case "Identity":
		return x
	case "Add":
		return broadcast(t, x, in[1], func(a, b float64) float64 { return a + b })
	case "Mul":
		return broadcast(t, x, in[1], func(a, b float64) float64 { return a * b })
	case "Max":
		return broadcast(t, x, in[1], math.Max)
	case "Mean":
		return each(x, func(i int, v float64) float64 {
			for _, y := range in[1:] {
				v += y.values[i]
			}
			return v / float64(len(in))
		})
	case "Softmax":
		return softmax(x)
	case "GlobalMaxPool", "GlobalAveragePool":
		o.ints = map[string][]int{"kernel_shape": x.shape[2:], "strides": {1, 1}, "pads": {0, 0, 0, 0}, "count_include_pad": {1}}
		return pool(o, x)
	case "MaxPool", "AveragePool":
		return pool(o, x)
	}
	t.Fatalf("%s: operator %s is not known", o.name, o.op)
	return array{}
}

func each(x array, f func(i int, v float64) float64) array {
	out := array{x.shape, make([]float64, len(x.values))}
	for i, v := range x.values {
		out.values[i] = f(i, v)
	}
	return out
}

// broadcast takes a second operand of the same shape, of one element, or of one for each channel.
func broadcast(t *testing.T, x, y array, f func(a, b float64) float64) array {
	per := 1
	switch {
	case len(y.values) == 1:
		per = len(x.values)
	case slices.Equal(x.shape, y.shape):
	case slices.Equal(y.shape, []int{1, x.shape[1], 1, 1}):
		per = x.shape[2] * x.shape[3]
	default:
		t.Fatalf("shapes %v and %v", x.shape, y.shape)
	}
	return each(x, func(i int, v float64) float64 { return f(v, y.values[i/per%len(y.values)]) })
}

func softmax(x array) array {
	classes := x.shape[1]
	out := each(x, func(_ int, v float64) float64 { return math.Exp(v) })
	for row := range slices.Chunk(out.values, classes) {
		sum := 0.0
		for _, v := range row {
			sum += v
		}
		for i := range row {
			row[i] /= sum
		}
	}
	return out
}

func gemm(o operator, in []array) array {
	x, w := in[0], in[1]
	n, c, k := x.shape[0], x.shape[1], w.shape[0]
	out := array{[]int{n, k}, make([]float64, n*k)}
	for i := range n {
		for j := range k {
			sum := 0.0
			if len(in) > 2 {
				sum = in[2].values[j]
			}
			for l, v := range x.values[i*c : i*c+c] {
				sum += v * w.values[j*c+l]
			}
			out.values[i*k+j] = sum
		}
	}
	return out
}

// windows calls f for every result of a sliding window and every pixel that it covers; a pixel of the padding has the place -1.
func windows(o operator, x array, f func(result, y, x int)) (h, w int) {
	kernel, stride, pad := o.ints["kernel_shape"], o.ints["strides"], o.ints["pads"]
	h, w = (x.shape[2]+pad[0]+pad[2]-kernel[0])/stride[0]+1, (x.shape[3]+pad[1]+pad[3]-kernel[1])/stride[1]+1
	for at := range h * w {
		for r := range kernel[0] * kernel[1] {
			y, x0 := at/w*stride[0]-pad[0]+r/kernel[1], at%w*stride[1]-pad[1]+r%kernel[1]
			if y < 0 || y >= x.shape[2] || x0 < 0 || x0 >= x.shape[3] {
				y = -1
			}
			f(at, y, x0)
		}
	}
	return h, w
}

func pool(o operator, x array) array {
	planes, size := x.shape[0]*x.shape[1], x.shape[2]*x.shape[3]
	var values []float64
	var h, w int
	for p := range planes {
		plane := x.values[p*size : (p+1)*size]
		most, sum := map[int]float64{}, map[int]float64{}
		h, w = windows(o, x, func(at, y, x0 int) {
			if y < 0 { // in the padding, which counts as 0 in a mean
				return
			}
			v := plane[y*x.shape[3]+x0]
			sum[at] += v / float64(o.ints["kernel_shape"][0]*o.ints["kernel_shape"][1])
			if before, ok := most[at]; !ok || v > before {
				most[at] = v
			}
		})
		out := most
		if strings.HasSuffix(o.op, "AveragePool") {
			out = sum
		}
		for at := range h * w {
			values = append(values, out[at])
		}
	}
	return array{[]int{x.shape[0], x.shape[1], h, w}, values}
}

func conv(o operator, in []array) array {
	x, w := in[0], in[1]
	n, c, k, perGroup := x.shape[0], x.shape[1], w.shape[0], w.shape[1]
	groups, size := o.ints["group"][0], x.shape[2]*x.shape[3]
	taps := w.shape[2] * w.shape[3]
	type cell struct{ at, tap, pixel int }
	var cells []cell
	seen := map[int]int{}
	h, wide := windows(o, x, func(at, y, x0 int) {
		if y >= 0 {
			cells = append(cells, cell{at, seen[at], y*x.shape[3] + x0})
		}
		seen[at]++
	})
	out := array{[]int{n, k, h, wide}, make([]float64, n*k*h*wide)}
	for i := range n * k {
		to := out.values[i*h*wide : (i+1)*h*wide]
		for at := range to {
			if len(in) > 2 {
				to[at] = in[2].values[i%k]
			}
		}
		for g := range perGroup {
			channel := i%k/(k/groups)*perGroup + g
			from := x.values[(i/k*c+channel)*size : (i/k*c+channel+1)*size]
			weights := w.values[(i%k*perGroup+g)*taps : (i%k*perGroup+g+1)*taps]
			for _, e := range cells {
				to[e.at] += from[e.pixel] * weights[e.tap]
			}
		}
	}
	return out
}
