package tensorboard

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"broadside/engine/telemetry"
)

// bitwise is CRC-32C as its definition has it, bit by bit.
func bitwise(data []byte) uint32 {
	crc := ^uint32(0)
	for _, b := range data {
		crc ^= uint32(b)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78*(crc&1)
		}
	}
	return ^crc
}

func TestChecksum(t *testing.T) {
	// The check value of the catalogue of CRCs, and RFC 3720 B.4: 32 bytes of zeros, of ones, and counting up.
	up := make([]byte, 32)
	for i := range up {
		up[i] = byte(i)
	}
	for _, known := range []struct {
		data []byte
		crc  uint32
	}{{[]byte("123456789"), 0xe3069283}, {make([]byte, 32), 0x8a9136aa}, {[]byte(strings.Repeat("\xff", 32)), 0x62a8ab43}, {up, 0x46dd794e}} {
		if got := bitwise(known.data); got != known.crc {
			t.Errorf("the test's CRC of %x is %x; want %x", known.data, got, known.crc)
		}
		unmasked := masked(known.data) - 0xa282ead8
		if got := unmasked>>17 | unmasked<<15; got != known.crc {
			t.Errorf("CRC of %x is %x; want %x", known.data, got, known.crc)
		}
	}
}

// message is a protobuf message by its field numbers: float64 for fixed numbers, uint64 and []byte.
type message map[protowire.Number][]any

func decode(t *testing.T, data []byte) message {
	t.Helper()
	m := message{}
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		data = data[n:]
		var v any
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			v, n = protowire.ConsumeBytes(data)
		case protowire.Fixed32Type:
			var bits uint32
			bits, n = protowire.ConsumeFixed32(data)
			v = float64(math.Float32frombits(bits))
		case protowire.Fixed64Type:
			var bits uint64
			bits, n = protowire.ConsumeFixed64(data)
			v = math.Float64frombits(bits)
		default:
			t.Fatalf("field %d is of kind %d", field, kind)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		data = data[n:]
		m[field] = append(m[field], v)
	}
	return m
}

// at follows field numbers down to a message.
func (m message) at(t *testing.T, path ...protowire.Number) message {
	t.Helper()
	for _, field := range path {
		if len(m[field]) != 1 {
			t.Fatalf("field %d is there %d times", field, len(m[field]))
		}
		m = decode(t, m[field][0].([]byte))
	}
	return m
}

// records are the events of a file, whose framing they check.
func records(t *testing.T, path string) (events []message) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mask := func(crc uint32) uint32 { return (crc>>15 | crc<<17) + 0xa282ead8 }
	for len(data) > 0 {
		n := binary.LittleEndian.Uint64(data)
		body := data[12 : 12+n]
		if got := binary.LittleEndian.Uint32(data[8:]); got != mask(bitwise(data[:8])) {
			t.Fatalf("event %d: checksum %x of the length", len(events), got)
		}
		if got := binary.LittleEndian.Uint32(data[12+n:]); got != mask(bitwise(body)) {
			t.Fatalf("event %d: checksum %x of the data", len(events), got)
		}
		events = append(events, decode(t, body))
		data = data[16+n:]
	}
	return events
}

// step is an event's; a protobuf may leave out a zero.
func step(m message) int {
	if len(m[2]) == 0 {
		return 0
	}
	return int(m[2][0].(uint64))
}

type point struct {
	step  int
	value float64
}

// shown are the curves of a folder's files by TensorBoard's rules: a session's start voids what came before from its step on.
func shown(t *testing.T, dir string) map[string][]point {
	t.Helper()
	names, err := eventFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	curves := map[string][]point{}
	for _, name := range names {
		for i, e := range records(t, filepath.Join(dir, name)) {
			if version := string(bytesOf(e, 3)); (i == 0) != (version == "brain.Event:2") {
				t.Errorf("%s, event %d: version %q", name, i, version)
			}
			if len(e[7]) > 0 {
				if status := e.at(t, 7)[1][0]; status != uint64(1) {
					t.Errorf("status %v", status)
				}
				for tag, points := range curves {
					curves[tag] = slices.DeleteFunc(points, func(p point) bool { return p.step >= step(e) })
				}
			}
			if len(e[5]) == 0 {
				continue
			}
			for _, v := range e.at(t, 5)[1] {
				value := decode(t, v.([]byte))
				if len(value[2]) > 0 {
					tag := string(bytesOf(value, 1))
					curves[tag] = append(curves[tag], point{step(e), value[2][0].(float64)})
				}
			}
		}
	}
	return curves
}

func bytesOf(m message, field protowire.Number) []byte {
	if len(m[field]) == 0 {
		return nil
	}
	return m[field][0].([]byte)
}

// run makes a run directory and returns it with its log of events.
func run(t *testing.T) (string, *telemetry.EventLog) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, telemetry.RecipeFile), []byte("name: n\noptimizer: {lr: 0.25, nesterov: true}\nmethods:\n  - absa: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	events, err := telemetry.OpenEventLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { events.Close() })
	return dir, events
}

func open(t *testing.T, dir string, updates int) *Log {
	t.Helper()
	return Open(dir, updates, func(err error) { t.Error(err) })
}

func TestRecipe(t *testing.T) {
	dir, _ := run(t)
	open(t, dir, 0).Close()
	names, _ := eventFiles(dir)
	events := records(t, filepath.Join(dir, names[0]))
	if len(events) != 3 {
		t.Fatalf("%d events; want the version, the start and the recipe", len(events))
	}
	wall := events[2][1][0].(float64)
	if now := float64(time.Now().Unix()); wall < now-60 || wall > now+60 {
		t.Errorf("wall time %f; it is %f", wall, now)
	}
	values := events[2].at(t, 5)[1]
	text, start := decode(t, values[0].([]byte)), decode(t, values[1].([]byte))
	if got := string(text.at(t, 8)[8][0].([]byte)); !strings.Contains(got, "lr: 0.25") {
		t.Errorf("the text is %q", got)
	}
	if plugin := string(bytesOf(text.at(t, 9, 1), 1)); plugin != "text" {
		t.Errorf("the text is for %q", plugin)
	}
	if plugin, tag := string(bytesOf(start.at(t, 9, 1), 1)), string(bytesOf(start, 1)); plugin != "hparams" || tag != "_hparams_/session_start_info" {
		t.Errorf("the hyperparameters are %q for %q", tag, plugin)
	}
	got := map[string]any{}
	for _, entry := range start.at(t, 9, 1, 2, 3)[1] {
		e := decode(t, entry.([]byte))
		for field, v := range e.at(t, 2) {
			if text, is := v[0].([]byte); is {
				v[0] = string(text)
			}
			got[string(bytesOf(e, 1))] = [2]any{field, v[0]}
		}
	}
	want := map[string]any{"name": [2]any{protowire.Number(3), "n"}, "optimizer.lr": [2]any{protowire.Number(2), 0.25},
		"optimizer.nesterov": [2]any{protowire.Number(4), uint64(1)}, "methods.absa": [2]any{protowire.Number(3), "on"}}
	for key, v := range want {
		if got[key] != v {
			t.Errorf("%s is %v; want %v", key, got[key], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("hyperparameters %v", got)
	}
}

// A run that is killed and resumed twice shows every update once, with what was done last.
func TestResume(t *testing.T) {
	dir, events := run(t)
	train := func(l *Log, from, to int, loss float64) {
		for u := from; u <= to; u++ {
			if u%3 == 1 {
				e := telemetry.Event{Type: telemetry.TypeUpdate, Updates: u, Update: telemetry.Update{Loss: loss, LR: 0.5, Batch: 8, ImagesPerSecond: 9}}
				l.Event(e)
				if err := events.Append(e); err != nil {
					t.Fatal(err)
				}
			}
			if u%4 == 0 { // an epoch's end
				e := telemetry.Epoch{Epoch: u / 4, Updates: u, TrainLoss: loss, TestAccuracy: &loss, Values: map[string]float64{"gns": loss}}
				l.Epoch(e)
				if err := events.Epoch(e); err != nil {
					t.Fatal(err)
				}
			}
			if u == 8 || u == 22 {
				e := telemetry.Event{Type: telemetry.TypeCheckpoint, Updates: u}
				if err := events.Append(e); err != nil {
					t.Fatal(err)
				}
			}
		}
		l.flush() // and killed
	}
	resume := func(at int) *Log {
		if err := events.TruncateAfter(at); err != nil {
			t.Fatal(err)
		}
		return open(t, dir, at)
	}
	train(open(t, dir, 0), 1, 13, 1)
	train(resume(8), 9, 25, 2) // the epoch at update 8 was recorded before the checkpoint
	last := resume(22)
	train(last, 23, 31, 3)
	last.Event(telemetry.Event{Type: telemetry.TypeEnd, Updates: 31})
	last.Close()
	names, _ := eventFiles(dir)
	if len(names) != 3 || !slices.IsSorted(names) {
		t.Errorf("files %v", names)
	}
	curves := shown(t, dir)
	want := map[string][]point{
		"update/loss": {{1, 1}, {4, 1}, {7, 1}, {10, 2}, {13, 2}, {16, 2}, {19, 2}, {22, 2}, {25, 3}, {28, 3}, {31, 3}}, // 22 was told before the checkpoint
		"loss/train":  {{4, 1}, {8, 1}, {12, 2}, {16, 2}, {20, 2}, {24, 3}, {28, 3}},
		"methods/gns": {{4, 1}, {8, 1}, {12, 2}, {16, 2}, {20, 2}, {24, 3}, {28, 3}},
	}
	for tag, points := range want {
		if !slices.Equal(curves[tag], points) {
			t.Errorf("%s: %v; want %v", tag, curves[tag], points)
		}
	}
	for _, tag := range []string{"loss/test", "probe/eigenvalue", "update/gradient_norm"} {
		if len(curves[tag]) > 0 {
			t.Errorf("%s was not measured, but is drawn: %v", tag, curves[tag])
		}
	}
}

// A run that had no event file so far is drawn as a whole.
func TestLateStart(t *testing.T) {
	dir, events := run(t)
	eigen := 2.5
	for _, e := range []telemetry.Event{{Type: telemetry.TypeEpoch, Record: &telemetry.Epoch{Epoch: 1, Updates: 5, TrainLoss: 4}},
		{Type: telemetry.TypeUpdate, Updates: 4, Update: telemetry.Update{Loss: 5, GradientNorm: 6}},
		{Type: telemetry.TypeProbe, Updates: 5, Eigenvalue: &eigen}, {Type: telemetry.TypePhase, Phase: "average", Updates: 6, Accuracy: &eigen}, {Type: telemetry.TypeGrowth, Updates: 5, To: 64}} {
		if err := events.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, 9).Close()
	curves := shown(t, dir)
	for tag, want := range map[string]point{"loss/train": {5, 4}, "update/loss": {4, 5}, "update/gradient_norm": {4, 6}, "probe/eigenvalue": {5, 2.5}, "phase/average": {6, 2.5}, "growth/batch": {5, 64}} {
		if got := curves[tag]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v; want %v", tag, got, want)
		}
	}
}

// Whatever keeps it from writing is said once, and the run goes on.
func TestFailures(t *testing.T) {
	dir, _ := run(t)
	use := func(l *Log) {
		for u := range 30 {
			l.Event(telemetry.Event{Type: telemetry.TypeUpdate, Updates: u})
			l.Epoch(telemetry.Epoch{Updates: u})
			l.Event(telemetry.Event{Type: telemetry.TypeGrowth, Updates: u})
		}
		l.Close()
	}
	var told []error
	warn := func(err error) { told = append(told, err) }
	use(Open(filepath.Join(dir, "none"), 0, warn))
	if len(told) != 1 || !errors.Is(told[0], os.ErrNotExist) {
		t.Errorf("no folder: told %v", told)
	}
	told = nil
	l := Open(dir, 0, warn)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	l.file.Close()
	l.file = full
	use(l)
	if len(told) != 1 || !errors.Is(told[0], syscall.ENOSPC) {
		t.Errorf("a full disk: told %v", told)
	}
}

// Files of a clock that ran ahead are read first nevertheless.
func TestOrder(t *testing.T) {
	dir, _ := run(t)
	ahead := prefix + "4000000000.elsewhere"
	if err := os.WriteFile(filepath.Join(dir, ahead), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, dir, 3).Close()
	if names, _ := eventFiles(dir); len(names) != 2 || names[0] != ahead || !strings.HasPrefix(names[1], prefix+"4000000001.") {
		t.Errorf("files %v", names)
	}
}

func TestUpdateAllocatesNothing(t *testing.T) {
	dir, _ := run(t)
	l := open(t, dir, 0)
	defer l.Close()
	e := telemetry.Event{Type: telemetry.TypeUpdate, Updates: 1, Update: telemetry.Update{Loss: 1, GradientNorm: 2}}
	if n := testing.AllocsPerRun(1000, func() { l.Event(e); e.Updates++ }); n != 0 {
		t.Errorf("%v allocations per update", n)
	}
}
