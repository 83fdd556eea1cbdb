package onnx_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// fields are those of a protobuf message, in order: integers, or bytes.
type fields map[protowire.Number][]field

type field struct {
	number uint64
	bytes  []byte
}

// walk splits a message.
func walk(t *testing.T, raw []byte) fields {
	t.Helper()
	out := fields{}
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			t.Fatalf("a broken tag: %v", protowire.ParseError(n))
		}
		raw = raw[n:]
		var f field
		switch kind {
		case protowire.VarintType:
			f.number, n = protowire.ConsumeVarint(raw)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(raw)
			f.number = uint64(v)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(raw)
		default:
			t.Fatalf("field %d has the wire type %d", number, kind)
		}
		if n < 0 {
			t.Fatalf("field %d: %v", number, protowire.ParseError(n))
		}
		out[number] = append(out[number], f)
		raw = raw[n:]
	}
	return out
}

func (f fields) text(n protowire.Number) string {
	if len(f[n]) == 0 {
		return ""
	}
	return string(f[n][0].bytes)
}

func (f fields) texts(n protowire.Number) (out []string) {
	for _, v := range f[n] {
		out = append(out, string(v.bytes))
	}
	return out
}

// array is a value of the graph.
type array struct {
	shape  []int
	values []float64
}

// operator is a node of the graph.
type operator struct {
	op, name string
	in, out  []string
	ints     map[string][]int
	float    map[string]float64
}

// model is what a file says.
type model struct {
	meta          map[string]string
	doc           string
	nodes         []operator
	constants     map[string]array
	input, output string
	dims          []string // of the input
}

// parse reads a model; the numbers of the fields are those of onnx.proto.
func parse(t *testing.T, raw []byte) *model {
	t.Helper()
	top := walk(t, raw)
	if opset := walk(t, top[8][0].bytes); top[1][0].number != 8 || opset[2][0].number != 17 || len(opset[1]) != 0 {
		t.Errorf("IR version %d, opset %v", top[1][0].number, opset)
	}
	m := &model{meta: map[string]string{}, constants: map[string]array{}}
	for _, entry := range top[14] {
		e := walk(t, entry.bytes)
		m.meta[e.text(1)] = e.text(2)
	}
	m.doc = top.text(6)
	graph := walk(t, top[7][0].bytes)
	for _, f := range graph[1] {
		m.nodes = append(m.nodes, node(t, walk(t, f.bytes)))
	}
	for _, f := range graph[5] {
		tensor := walk(t, f.bytes)
		m.constants[tensor.text(8)] = constant(t, tensor)
	}
	in := walk(t, graph[11][0].bytes)
	m.input, m.output = in.text(1), walk(t, graph[12][0].bytes).text(1)
	shape := walk(t, walk(t, walk(t, in[2][0].bytes)[1][0].bytes)[2][0].bytes)
	for _, f := range shape[1] {
		d := walk(t, f.bytes)
		if name := d.text(2); name != "" {
			m.dims = append(m.dims, name)
		} else {
			m.dims = append(m.dims, fmt.Sprint(d[1][0].number))
		}
	}
	return m
}

func node(t *testing.T, f fields) operator {
	o := operator{op: f.text(4), name: f.text(3), in: f.texts(1), out: f.texts(2), ints: map[string][]int{}, float: map[string]float64{}}
	for _, raw := range f[5] {
		a := walk(t, raw.bytes)
		switch name := a.text(1); a[20][0].number {
		case 1:
			o.float[name] = float64(math.Float32frombits(uint32(a[2][0].number)))
		case 2:
			o.ints[name] = []int{int(a[3][0].number)}
		case 7:
			for _, v := range a[8] {
				o.ints[name] = append(o.ints[name], int(v.number))
			}
		default:
			t.Errorf("attribute %s of %s has the type %d", name, o.name, a[20][0].number)
		}
	}
	return o
}

func constant(t *testing.T, f fields) array {
	a, raw := array{shape: []int{}}, f[9][0].bytes
	size := 1
	for _, d := range f[1] {
		a.shape = append(a.shape, int(d.number))
		size *= int(d.number)
	}
	if f[2][0].number != 1 || len(raw) != 4*size {
		t.Fatalf("tensor %s: type %d, %d bytes for the shape %v", f.text(8), f[2][0].number, len(raw), a.shape)
	}
	for i := range size {
		a.values = append(a.values, float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))))
	}
	return a
}
