package telemetry

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// Update is the record of an update: what its event carries beside time, epoch and number.
type Update struct {
	EpochFraction   float64 `json:"epoch_fraction"` // how much of the current epoch is done, 0 to 1
	SamplesSeen     int64   `json:"samples_seen"`   // since the start of the run
	Loss            float64 `json:"loss"`           // mean over the update's samples, before it
	Batch           int     `json:"batch"`
	LR              float64 `json:"lr"`
	ImagesPerSecond float64 `json:"images_per_second"`       // since the record before it, or the start of the epoch
	GradientNorm    float64 `json:"gradient_norm,omitempty"` // of the mean gradient as backward leaves it; 0: not measured
}

// UnmarshalJSON reads null as NaN.
func (u *Update) UnmarshalJSON(text []byte) error {
	type plain Update
	p := plain{Loss: math.NaN(), LR: math.NaN(), ImagesPerSecond: math.NaN()}
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	*u = Update(p)
	return nil
}

// appendUpdate writes the event of an update as Event.MarshalJSON does others, but for the memory that this takes: it comes
// in the middle of training.
func appendUpdate(out []byte, e *Event) []byte {
	u := &e.Update
	out = append(out, `{"type":"update","time":"`...)
	out = e.Time.AppendFormat(out, time.RFC3339Nano)
	out = append(out, '"')
	out = appendNumber(out, "wall_seconds", e.WallSeconds)
	out = appendCount(out, "epoch", int64(e.Epoch))
	out = appendCount(out, "updates", int64(e.Updates))
	out = appendNumber(out, "epoch_fraction", u.EpochFraction)
	out = appendCount(out, "samples_seen", u.SamplesSeen)
	out = appendNumber(out, "loss", u.Loss)
	out = appendCount(out, "batch", int64(u.Batch))
	out = appendNumber(out, "lr", u.LR)
	out = appendNumber(out, "images_per_second", u.ImagesPerSecond)
	if u.GradientNorm != 0 {
		out = appendNumber(out, "gradient_norm", u.GradientNorm)
	}
	return append(out, '}')
}

func appendKey(out []byte, key string) []byte {
	out = append(out, `,"`...)
	out = append(out, key...)
	return append(out, `":`...)
}

func appendCount(out []byte, key string, v int64) []byte {
	return strconv.AppendInt(appendKey(out, key), v, 10)
}

// appendNumber writes what is not finite as null.
func appendNumber(out []byte, key string, v float64) []byte {
	out = appendKey(out, key)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(out, "null"...)
	}
	return strconv.AppendFloat(out, v, 'g', -1, 64)
}
