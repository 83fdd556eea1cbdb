package curvature

import (
	"fmt"
	"math"
)

// LandscapeOptions steer the sampling of the loss around the parameters.
type LandscapeOptions struct {
	Dimensions int     // 1: along the first eigenvector; 2: over the plane of the first two
	Points     int     // along each axis, at least 2
	Span       float64 // offsets go from -Span to Span; the directions have length 1
}

// Landscape is the loss around the parameters w along unit directions.
type Landscape struct {
	Offsets []float64   `json:"offsets"`
	Losses  [][]float64 `json:"losses"` // [j][i]: at w + Offsets[i] first + Offsets[j] second; in one dimension a single row, at w + Offsets[i] first
}

// SampleLandscape asks for the loss at every point of the grid.
func SampleLandscape(loss func(offsets ...float64) (float64, error), o LandscapeOptions) (*Landscape, error) {
	if o.Dimensions < 1 || o.Dimensions > 2 || o.Points < 2 || !(o.Span > 0) {
		return nil, fmt.Errorf("loss landscape: want 1 or 2 dimensions, at least 2 points and a span above 0, got %d, %d and %g", o.Dimensions, o.Points, o.Span)
	}
	l := &Landscape{Offsets: make([]float64, o.Points)}
	for i := range l.Offsets {
		l.Offsets[i] = o.Span * float64(2*i-(o.Points-1)) / float64(o.Points-1) // the middle is exactly 0
	}
	if o.Dimensions == 1 {
		row, err := l.row(loss)
		l.Losses = [][]float64{row}
		return l, err
	}
	for _, second := range l.Offsets {
		row, err := l.row(loss, second)
		if err != nil {
			return nil, err
		}
		l.Losses = append(l.Losses, row)
	}
	return l, nil
}

// row samples the loss along the first direction; rest are the offsets along the others.
func (l *Landscape) row(loss func(offsets ...float64) (float64, error), rest ...float64) ([]float64, error) {
	row := make([]float64, len(l.Offsets))
	for i, first := range l.Offsets {
		at := append([]float64{first}, rest...)
		v, err := loss(at...)
		if err != nil {
			return nil, fmt.Errorf("loss landscape at %v: %w", at, err)
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("loss landscape at %v: the loss is %g: a smaller span may help", at, v)
		}
		row[i] = v
	}
	return row, nil
}
