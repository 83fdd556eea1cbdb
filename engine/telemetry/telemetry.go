// Package telemetry is what a run shows and leaves behind: a live view of its progress, events.jsonl
// with one JSON object per event, summary.json with its result, and report.html to look at.
package telemetry

import (
	"broadside/engine/internal/durable"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"
)

// The files of a run directory that this package writes or reads.
const (
	EventsFile  = "events.jsonl"
	SummaryFile = "summary.json"
	RecipeFile  = "recipe.yaml"
	ReportFile  = "report.html"
)

// The types of events.
const (
	TypeStart      = "start"
	TypeResume     = "resume"
	TypeUpdate     = "update" // one of several in an epoch
	TypeEpoch      = "epoch"
	TypeGrowth     = "growth"
	TypeRate       = "rate"
	TypeProbe      = "probe"
	TypePhase      = "phase" // a phase has ended
	TypeData       = "data"  // something about the data is worth saying
	TypeCheckpoint = "checkpoint"
	TypeAnomaly    = "anomaly"    // an update was left out
	TypeEarlyStop  = "early_stop" // a method has ended training before its time
	TypeEnd        = "end"
	TypeWarning    = "warning" // told to who watches, not recorded
)

// Step is the state of training after an update. It feeds the live view and is not recorded.
type Step struct {
	Epoch, Epochs int     // completed epochs, and the number wanted
	EpochFraction float64 // how much of the current epoch is done, 0 to 1
	Updates       int     // since the start of the run
	Samples       int     // of this update
	SamplesSeen   int64   // since the start of the run
	Batch         int
	LR            float64
	Loss          float64 // mean of the current epoch so far
	UpdateLoss    float64 // mean of this update
	Accuracy      float64 // of the current epoch so far, 0 to 1
	Streamed      bool    // data are decoded while training goes on
	DataWait      float64 // share of the current epoch's time so far that went into waiting for them
}

// Epoch is the record of a completed epoch. Counts are totals since the start of the run. Test values
// are absent where the epoch was not evaluated, the eigenvalue where none was measured.
type Epoch struct {
	Epoch           int                `json:"epoch"` // completed epochs, so the first record has 1
	Updates         int                `json:"updates"`
	SamplesSeen     int64              `json:"samples_seen"`
	TrainLoss       float64            `json:"train_loss"`
	TrainAccuracy   float64            `json:"train_accuracy"` // 0 to 1
	TestLoss        *float64           `json:"test_loss,omitempty"`
	TestAccuracy    *float64           `json:"test_accuracy,omitempty"`
	Batch           int                `json:"batch"`
	LR              float64            `json:"lr"`
	Eigenvalue      *float64           `json:"eigenvalue,omitempty"`
	AttackFraction  float64            `json:"attack_fraction"`
	GradPasses      int64              `json:"grad_passes"` // samples through a forward and backward pass
	HVPs            int                `json:"hvps"`        // Hessian-vector products
	ImagesPerSecond float64            `json:"images_per_second"`
	DataWait        *float64           `json:"data_wait,omitempty"` // share of the time that went into waiting for data decoded meanwhile
	WallSeconds     float64            `json:"wall_seconds"`
	Values          map[string]float64 `json:"values,omitempty"` // what methods report beyond these
}

// Set stores the values that a method reports: "eigenvalue" and "attack_fraction" in their fields,
// others in Values.
func (e *Epoch) Set(values map[string]float64) {
	for key, v := range values {
		switch key {
		case "eigenvalue":
			e.Eigenvalue = &v
		case "attack_fraction":
			e.AttackFraction = v
		default:
			if e.Values == nil {
				e.Values = map[string]float64{}
			}
			e.Values[key] = v
		}
	}
}

// Event is something that happened in a run. Fields that do not belong to its type are zero. The events
// "epoch" and "update" also carry a record, whose keys stand beside the others in the file.
type Event struct {
	Type        string    `json:"type"`
	Time        time.Time `json:"time"`
	WallSeconds float64   `json:"wall_seconds"` // training time since the start of the run
	Epoch       int       `json:"epoch"`        // completed epochs
	Updates     int       `json:"updates"`
	Trigger     string    `json:"trigger,omitempty"`    // growth: eig, duration, gg, gns, cabs, bigbatch; anomaly: skip, rollback
	From        int       `json:"from,omitempty"`       // growth: batch before
	To          int       `json:"to,omitempty"`         // growth: batch after
	LRScale     float64   `json:"lr_scale,omitempty"`   // rate: product of all methods' changes of the learning rate
	Eigenvalue  *float64  `json:"eigenvalue,omitempty"` // probe
	Iterations  int       `json:"iterations,omitempty"` // probe: power iterations used
	Phase       string    `json:"phase,omitempty"`      // phase: recipe, replica 1, ..., average
	Accuracy    *float64  `json:"accuracy,omitempty"`   // phase, early_stop: on the test set
	Path        string    `json:"path,omitempty"`       // checkpoint, resume: the file
	Message     string    `json:"message,omitempty"`    // anything worth saying in words
	Record      *Epoch    `json:"-"`                    // epoch
	Update      Update    `json:"-"`                    // update
}

// accuracy is the event's, or NaN.
func (e *Event) accuracy() float64 {
	if e.Accuracy == nil {
		return math.NaN()
	}
	return *e.Accuracy
}

// Summary is the result of a run: the content of summary.json and of the commands' JSON output.
type Summary struct {
	Name             string  `json:"name"`
	Model            string  `json:"model"`
	Data             string  `json:"data"`
	Seed             uint64  `json:"seed"`
	Device           string  `json:"device"`  // what computed, such as "cpu avx2"
	Devices          int     `json:"devices"` // how many
	TestAccuracy     float64 `json:"test_accuracy"`
	BestTestAccuracy float64 `json:"best_test_accuracy"`
	TestLoss         float64 `json:"test_loss"`
	Updates          int     `json:"updates"`
	SamplesSeen      int64   `json:"samples_seen"`
	Epochs           int     `json:"epochs"`
	FinalBatch       int     `json:"final_batch"`
	HVPs             int     `json:"hvps"`
	GradPasses       int64   `json:"grad_passes"`
	WallSeconds      float64 `json:"wall_seconds"`
	ImagesPerSecond  float64 `json:"images_per_second"`
	PeakMemoryBytes  int64   `json:"peak_memory_bytes"`
	Anomalies        int     `json:"anomalies,omitempty"` // updates left out by train.on_anomaly
	Stopped          string  `json:"stopped,omitempty"`   // why training has ended before its epochs were done
	// DataWait is the share of the wall time that the devices of the first process waited for data decoded meanwhile.
	DataWait     *float64 `json:"data_wait,omitempty"`
	ImageDecoder string   `json:"image_decoder,omitempty"` // what decoded image files, whose bits depend on it
	BadImages    int      `json:"bad_images,omitempty"`    // files that could not be decoded
	// Values are what methods reported of the last epoch; none after a resume that had nothing left to train.
	Values map[string]float64 `json:"values,omitempty"`
}

// MarshalJSON writes values that are not finite, as a diverged run has them, as null.
func (s Summary) MarshalJSON() ([]byte, error) { return marshalFinite(reflect.ValueOf(s)) }

// UnmarshalJSON reads null as NaN.
func (s *Summary) UnmarshalJSON(text []byte) error {
	type plain Summary
	p := plain{TestAccuracy: math.NaN(), BestTestAccuracy: math.NaN(), TestLoss: math.NaN(), ImagesPerSecond: math.NaN()}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	*s = Summary(p)
	return nil
}

// MarshalJSON writes values that are not finite as null.
func (e Epoch) MarshalJSON() ([]byte, error) { return marshalFinite(reflect.ValueOf(e)) }

// UnmarshalJSON reads null as NaN.
func (e *Epoch) UnmarshalJSON(text []byte) error {
	type plain Epoch
	p := plain{TrainLoss: math.NaN(), TrainAccuracy: math.NaN(), LR: math.NaN(), ImagesPerSecond: math.NaN()}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	*e = Epoch(p)
	return nil
}

// marshalFinite writes a flat struct by its json tags. It differs from encoding/json in one thing: a
// number that JSON cannot carry is null, not an error, since a diverged run must still be recorded.
func marshalFinite(v reflect.Value) ([]byte, error) {
	out := []byte{'{'}
	for i := range v.NumField() {
		key, option, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if key == "-" || option == "omitempty" && v.Field(i).IsZero() {
			continue
		}
		text, err := json.Marshal(finite(v.Field(i)))
		if err != nil {
			return nil, fmt.Errorf("writing %s as JSON: %w", key, err)
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, '"')
		out = append(out, key...)
		out = append(out, '"', ':')
		out = append(out, text...)
	}
	return append(out, '}'), nil
}

// finite returns the value of a field with everything that is not finite replaced by nil.
func finite(v reflect.Value) any {
	switch value := v.Interface().(type) {
	case float64:
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return nil
		}
	case *float64:
		if value != nil {
			return finite(reflect.ValueOf(*value))
		}
	case map[string]float64:
		out := make(map[string]any, len(value))
		for key, f := range value {
			out[key] = finite(reflect.ValueOf(f))
		}
		return out
	}
	return v.Interface()
}

// WriteSummary writes summary.json of a run directory: completely or not at all.
func WriteSummary(runDir string, s Summary) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the summary of %s: %w", runDir, err)
	}
	return WriteFile(filepath.Join(runDir, SummaryFile), append(text, '\n'))
}

// ReadSummary reads summary.json of a run directory. The error wraps os.ErrNotExist for a run that
// has not ended.
func ReadSummary(runDir string) (Summary, error) {
	var s Summary
	text, err := os.ReadFile(filepath.Join(runDir, SummaryFile))
	if err != nil {
		return s, fmt.Errorf("reading the summary of a run: %w", err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("reading %s: %w", filepath.Join(runDir, SummaryFile), err)
	}
	return s, nil
}

// WriteFile writes a file so that a reader sees the old content or the new, also after a crash.
func WriteFile(path string, content []byte) error {
	err := durable.Replace(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
