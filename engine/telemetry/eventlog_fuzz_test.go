package telemetry

import (
	"bytes"
	"strings"
	"testing"
)

// Any text is a log or an error that names the line; what was read can be written and read again, and drawn.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"type":"start","time":"2025-03-01T12:00:00Z"}` + "\n" + `{"type":"growth","epoch":1,"updates":3,"from":64,"to":128,"trigger":"eig"}` + "\n" + `{"type":"end"`))
	f.Add([]byte(`{"type":"epoch","epoch":1,"updates":7,"train_loss":"NaN","test_accuracy":0.5,"batch":64,"lr":1e-300,"my_value":1e308}` + "\n"))
	f.Add([]byte("{\"type\":\"anomaly\",\"message\":\"\\u0000<script>\"}\r\n[]\n"))
	f.Add([]byte("\n\n{}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines, err := parseLines("log", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "log:") {
				t.Fatalf("error %v names no line", err)
			}
			return
		}
		var events []Event
		var again bytes.Buffer
		for i, l := range lines {
			if i > 0 && l.end <= lines[i-1].end || l.end > int64(len(text)) || text[l.end-1] != '\n' {
				t.Fatalf("line %d ends at %d", i, l.end)
			}
			line, err := l.event.MarshalJSON()
			if err != nil {
				t.Fatalf("writing line %d: %v", i, err)
			}
			again.Write(append(line, '\n'))
			events = append(events, l.event)
		}
		if back, err := parseLines("log", again.Bytes()); err != nil || len(back) != len(lines) {
			t.Fatalf("%d events, of %d: %v\n%s", len(back), len(lines), err, again.Bytes())
		}
		p, err := newPage(events, summaryOf(epochsOf(events)), true)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range p.Charts {
			if strings.Contains(string(c.SVG), "NaN") || strings.Contains(string(c.SVG), "Inf") {
				t.Errorf("%s has coordinates that are not numbers", c.Title)
			}
		}
	})
}
