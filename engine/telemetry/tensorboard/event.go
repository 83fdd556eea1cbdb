package tensorboard

import (
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of TensorBoard's messages.
const (
	eventWallTime, eventStep, eventFileVersion, eventSummary, eventSessionLog, eventSource = 1, 2, 3, 5, 7, 10

	sourceWriter     = 1
	sessionLogStatus = 1

	summaryValue                                         = 1
	valueTag, valueSimple, valueTensor, valueMetadata    = 1, 2, 8, 9
	metadataPlugin, metadataDataClass                    = 1, 4
	pluginName, pluginContent                            = 1, 2
	tensorType, tensorShape, tensorFloats, tensorStrings = 1, 2, 5, 8
	shapeDim, dimSize                                    = 2, 1

	hparamsStart, hparamsEnd            = 3, 4
	startHparams, startTime             = 1, 5
	endStatus, endTime                  = 1, 2
	mapKey, mapValue                    = 1, 2
	valueNumber, valueString, valueBool = 2, 3, 4
)

// Values of TensorBoard's enumerations.
const (
	sessionStart    = 1
	dataClassTensor = 2
	typeFloat       = 1
	typeString      = 7
	statusSuccess   = 1
)

// encoder builds events. It keeps its memory.
type encoder struct {
	event, summary, value []byte
}

func appendBytes(out []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(out, field, protowire.BytesType), v)
}

func appendString(out []byte, field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(out, field, protowire.BytesType), v)
}

func appendInt(out []byte, field protowire.Number, v int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(out, field, protowire.VarintType), uint64(v))
}

func appendDouble(out []byte, field protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(out, field, protowire.Fixed64Type), math.Float64bits(v))
}

// seconds is a time as TensorBoard counts it.
func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

// head begins an event.
func (e *encoder) head(at time.Time, step int) {
	e.event = appendInt(appendDouble(e.event[:0], eventWallTime, seconds(at)), eventStep, step)
	e.summary = e.summary[:0]
}

// version is the first event of a file.
func (e *encoder) version(at time.Time) []byte {
	e.head(at, 0)
	e.event = appendString(e.event, eventFileVersion, "brain.Event:2")
	e.event = appendBytes(e.event, eventSource, appendString(nil, sourceWriter, "broadside"))
	return e.event
}

// start says that what earlier files hold of this step and later ones is void.
func (e *encoder) start(at time.Time, step int) []byte {
	e.head(at, step)
	e.event = appendBytes(e.event, eventSessionLog, appendInt(nil, sessionLogStatus, sessionStart))
	return e.event
}

// scalar adds a value to the event.
func (e *encoder) scalar(tag string, v float64) {
	e.value = appendString(e.value[:0], valueTag, tag)
	e.value = protowire.AppendFixed32(protowire.AppendTag(e.value, valueSimple, protowire.Fixed32Type), math.Float32bits(float32(v)))
	e.summary = appendBytes(e.summary, summaryValue, e.value)
}

// text adds a text, which the page shows as Markdown.
func (e *encoder) text(tag, text string) {
	tensor := appendInt(nil, tensorType, typeString)
	tensor = appendBytes(tensor, tensorShape, appendBytes(nil, shapeDim, appendInt(nil, dimSize, 1)))
	e.tensor(tag, "text", nil, appendString(tensor, tensorStrings, text))
}

// tensor adds a tensor for a plugin of the page.
func (e *encoder) tensor(tag, plugin string, content, tensor []byte) {
	metadata := appendBytes(nil, metadataPlugin, appendBytes(appendString(nil, pluginName, plugin), pluginContent, content))
	metadata = appendInt(metadata, metadataDataClass, dataClassTensor)
	e.value = appendString(e.value[:0], valueTag, tag)
	e.value = appendBytes(appendBytes(e.value, valueTensor, tensor), valueMetadata, metadata)
	e.summary = appendBytes(e.summary, summaryValue, e.value)
}

// none is the value of a series that is there for its plugin's content alone.
var none = appendBytes(appendBytes(appendInt(nil, tensorType, typeFloat), tensorShape, nil), tensorFloats, nil)

// begun adds the recipe's keys as hyperparameters: as numbers and switches where they are.
func (e *encoder) begun(keys map[string]string, at time.Time) {
	var info []byte
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		info = appendBytes(info, startHparams, appendBytes(appendString(nil, mapKey, key), mapValue, hyperparameter(keys[key])))
	}
	info = appendDouble(info, startTime, seconds(at))
	e.tensor("_hparams_/session_start_info", "hparams", appendBytes(nil, hparamsStart, info), none)
}

// ended adds that the run has come to its end.
func (e *encoder) ended(at time.Time) {
	info := appendDouble(appendInt(nil, endStatus, statusSuccess), endTime, seconds(at))
	e.tensor("_hparams_/session_end_info", "hparams", appendBytes(nil, hparamsEnd, info), none)
}

func hyperparameter(text string) []byte {
	if v, err := strconv.ParseFloat(text, 64); err == nil {
		return appendDouble(nil, valueNumber, v)
	}
	if text == "true" || text == "false" {
		return appendInt(nil, valueBool, len("false")-len(text))
	}
	return appendString(nil, valueString, text)
}

// finish returns the event with what was added to it; nil if nothing was. It is good until the next one begins.
func (e *encoder) finish() []byte {
	if len(e.summary) == 0 {
		return nil
	}
	e.event = appendBytes(e.event, eventSummary, e.summary)
	return e.event
}
