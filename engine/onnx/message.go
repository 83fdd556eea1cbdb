package onnx

import (
	"encoding/binary"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The numbers of the fields that are written, as onnx.proto has them.
const (
	modelIRVersion, modelProducer, modelDoc, modelGraph, modelOpset, modelMeta = 1, 2, 6, 7, 8, 14

	opsetVersion       = 2
	metaKey, metaValue = 1, 2

	graphNode, graphName, graphInitializer, graphInput, graphOutput = 1, 2, 5, 11, 12

	nodeInput, nodeOutput, nodeName, nodeOp, nodeAttribute = 1, 2, 3, 4, 5

	attributeName, attributeFloat, attributeInt, attributeInts, attributeType = 1, 2, 3, 8, 20

	tensorDims, tensorType, tensorName, tensorRaw = 1, 2, 8, 9

	infoName, infoType             = 1, 2
	typeTensor                     = 1
	tensorElem, tensorShape        = 1, 2
	shapeDim, dimValue, dimByNames = 1, 1, 2
)

// The values of enumerations.
const (
	isFloat, isInt, isInts = 1, 2, 7 // of AttributeProto.type
	float32Elements        = 1       // of TensorProto.data_type
)

// message is a protobuf message under construction.
type message []byte

func (m *message) integer(field protowire.Number, v int64) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), uint64(v))
}

func (m *message) text(field protowire.Number, v string) {
	*m = protowire.AppendString(protowire.AppendTag(*m, field, protowire.BytesType), v)
}

func (m *message) float(field protowire.Number, v float32) {
	*m = protowire.AppendFixed32(protowire.AppendTag(*m, field, protowire.Fixed32Type), math.Float32bits(v))
}

func (m *message) part(field protowire.Number, v message) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), v)
}

// tensor is a constant of the graph. Its elements are made when they are written: a large network is not held twice.
type tensor struct {
	name     string
	dims     []int
	elements func() []float32
}

func (t tensor) bytes() int {
	n := 4
	for _, d := range t.dims {
		n *= d
	}
	return n
}

// head is all of the TensorProto but its elements, which come last.
func (t tensor) head() (m message) {
	for _, d := range t.dims {
		m.integer(tensorDims, int64(d))
	}
	m.integer(tensorType, float32Elements)
	m.text(tensorName, t.name)
	m = protowire.AppendTag(m, tensorRaw, protowire.BytesType)
	return protowire.AppendVarint(m, uint64(t.bytes()))
}

// opening is what comes before the elements of a tensor as a part of the graph.
func (t tensor) opening() message {
	head := t.head()
	var m message
	m = protowire.AppendTag(m, graphInitializer, protowire.BytesType)
	m = protowire.AppendVarint(m, uint64(len(head)+t.bytes()))
	return append(m, head...)
}

func (t tensor) write(w io.Writer) error {
	if _, err := w.Write(t.opening()); err != nil {
		return err
	}
	return binary.Write(w, binary.LittleEndian, t.elements())
}
