// Package onnx writes networks as ONNX models (https://onnx.ai), for inference elsewhere: in onnxruntime, browsers, or
// whatever else reads them.
package onnx

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"broadside/engine/graph"
)

// Opset is the version of the operators that a model uses; IRVersion that of the file format.
const (
	Opset     = 17
	IRVersion = 8
)

// The names of a model's input [batch, C, H, W] and output [batch, classes], and of the dimension that may have any size.
const (
	Input  = "images"
	Output = "logits"
	Batch  = "batch"
)

// maxBytes is the largest protobuf message that its readers take.
const maxBytes = math.MaxInt32

// Model is a network with its parameters, as [graph.Network] lays them out.
type Model struct {
	Net           *graph.Network
	Params, State []float32
	// Mean and Std are what pixels from 0 to 1 are normalised with. With Pixels the model does it itself, to inputs from 0
	// to 255; without, its inputs are normalised already. None means that inputs are from 0 to 1.
	Mean, Std []float32
	Pixels    bool
	Meta      map[string]string // further metadata
}

// Write writes the model. The batch may have any size. A network with local losses gives the logarithms of its mean
// probabilities as logits.
func (m *Model) Write(w io.Writer) error {
	if len(m.Mean) != len(m.Std) || m.Mean != nil && len(m.Mean) != m.Net.Input.C {
		return fmt.Errorf("model %s: %d means and %d standard deviations for %d channels", m.Net.Name, len(m.Mean), len(m.Std), m.Net.Input.C)
	}
	b := &builder{Model: m, names: map[graph.Value]string{m.Net.In(): Input}, flat: map[graph.Value]bool{}, used: map[string]bool{Input: true, Output: true}}
	if err := b.build(); err != nil {
		return err
	}
	if b.size() > maxBytes {
		return fmt.Errorf("model %s needs %d bytes as ONNX; its files hold at most %d", m.Net.Name, b.size(), maxBytes)
	}
	out := bufio.NewWriterSize(w, 1<<20)
	if err := b.write(out); err != nil {
		return err
	}
	return out.Flush()
}

// builder collects the parts of a graph.
type builder struct {
	*Model
	graph   message // nodes, then input and output
	tensors []tensor
	names   map[graph.Value]string // of the ONNX values
	flat    map[graph.Value]bool   // [batch, C], not [batch, C, H, W]
	used    map[string]bool
}

func (b *builder) build() error {
	layers, err := b.Net.Operations()
	if err != nil {
		return err
	}
	if b.Pixels {
		b.names[b.Net.In()] = b.normalize()
	}
	for _, l := range layers {
		if err := b.layer(l); err != nil {
			return fmt.Errorf("model %s: %w", b.Net.Name, err)
		}
	}
	b.output()
	b.graph.text(graphName, b.Net.Name)
	in := b.Net.Input
	b.graph.part(graphInput, valueInfo(Input, in.C, in.H, in.W))
	b.graph.part(graphOutput, valueInfo(Output, b.Net.Classes))
	return nil
}

// valueInfo describes a value of so many elements in each dimension behind that of the batch.
func valueInfo(name string, dims ...int) (m message) {
	var shape, batch, tensor, kind message
	batch.text(dimByNames, Batch)
	shape.part(shapeDim, batch)
	for _, d := range dims {
		var dim message
		dim.integer(dimValue, int64(d))
		shape.part(shapeDim, dim)
	}
	tensor.integer(tensorElem, float32Elements)
	tensor.part(tensorShape, shape)
	kind.part(typeTensor, tensor)
	m.text(infoName, name)
	m.part(infoType, kind)
	return m
}

// size is that of the graph in bytes.
func (b *builder) size() int {
	n := len(b.graph)
	for _, t := range b.tensors {
		n += len(t.opening()) + t.bytes()
	}
	return n
}

// write writes the model. The graph comes last, and in it the tensors: they need not be in memory all at once.
func (b *builder) write(w io.Writer) error {
	var m, opset message
	m.integer(modelIRVersion, IRVersion)
	m.text(modelProducer, "broadside")
	m.text(modelDoc, b.doc())
	opset.integer(opsetVersion, Opset)
	m.part(modelOpset, opset)
	for _, key := range slices.Sorted(maps.Keys(b.Meta)) {
		var entry message
		entry.text(metaKey, key)
		entry.text(metaValue, b.Meta[key])
		m.part(modelMeta, entry)
	}
	m = protowire.AppendTag(m, modelGraph, protowire.BytesType)
	m = protowire.AppendVarint(m, uint64(b.size()))
	if _, err := w.Write(append(m, b.graph...)); err != nil {
		return err
	}
	for _, t := range b.tensors {
		if err := t.write(w); err != nil {
			return err
		}
	}
	return nil
}

// doc says what the model takes.
func (b *builder) doc() string {
	switch {
	case b.Pixels:
		return "images: RGB or grey pixels from 0 to 255"
	case b.Mean == nil:
		return "images: RGB or grey pixels from 0 to 1"
	}
	return fmt.Sprintf("images: (pixel/255 - mean)/std in each channel, with mean %v and std %v", b.Mean, b.Std)
}

// unique returns a name that no other value of the graph has.
func (b *builder) unique(name string) string {
	for i, base := 1, name; b.used[name]; i++ {
		name = fmt.Sprintf("%s_%d", base, i)
	}
	b.used[name] = true
	return name
}

// constant adds a tensor and returns its name.
func (b *builder) constant(name string, elements func() []float32, dims ...int) string {
	name = b.unique(name)
	b.tensors = append(b.tensors, tensor{name, dims, elements})
	return name
}

// node adds an operator and returns the name of its result, which is its own.
func (b *builder) node(op, name string, in []string, attributes ...message) string {
	name = b.unique(name)
	b.operator(op, name, in, attributes...)
	return name
}

// operator adds an operator with a result of a given name.
func (b *builder) operator(op, name string, in []string, attributes ...message) {
	var m message
	for _, v := range in {
		m.text(nodeInput, v)
	}
	m.text(nodeOutput, name)
	m.text(nodeName, name)
	m.text(nodeOp, op)
	for _, a := range attributes {
		m.part(nodeAttribute, a)
	}
	b.graph.part(graphNode, m)
}

func ints(name string, values ...int) (m message) {
	m.text(attributeName, name)
	for _, v := range values {
		m.integer(attributeInts, int64(v))
	}
	m.integer(attributeType, isInts)
	return m
}

func integer(name string, v int) (m message) {
	m.text(attributeName, name)
	m.integer(attributeInt, int64(v))
	m.integer(attributeType, isInt)
	return m
}

func float(name string, v float32) (m message) {
	m.text(attributeName, name)
	m.float(attributeFloat, v)
	m.integer(attributeType, isFloat)
	return m
}

// base is the name of a layer by that of its first parameter.
func (b *builder) base(param int) string {
	name := b.Net.Params[param].Name
	return name[:strings.LastIndex(name, ".")]
}
