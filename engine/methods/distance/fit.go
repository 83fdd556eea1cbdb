package distance

import (
	"math"

	"broadside/engine/internal/portable"
)

// line is a least-squares line y = slope x + offset.
type line struct{ slope, offset float64 }

// fitLine fits a line to points of which two differ in x at least.
func fitLine(x, y []float64) line {
	n := float64(len(x))
	var mx, my, sxx, sxy float64
	for i := range x {
		mx += x[i] / n
		my += y[i] / n
	}
	for i := range x {
		sxx += (x[i] - mx) * (x[i] - mx)
		sxy += (x[i] - mx) * (y[i] - my)
	}
	slope := sxy / sxx
	return line{slope, my - slope*mx}
}

// r2 is the share of the variance of y that a model explains.
func r2(y, model []float64) float64 {
	mean, left, all := 0.0, 0.0, 0.0
	for _, v := range y {
		mean += v / float64(len(y))
	}
	for i, v := range y {
		left += (v - model[i]) * (v - model[i])
		all += (v - mean) * (v - mean)
	}
	return 1 - left/all
}

// fits are both laws of a distance d after t updates.
type fits struct {
	log          line    // d = slope log t + offset
	logR2        float64 // of d
	power        line    // log d = slope log t + offset
	powerR2      float64 // of d too, so that the two can be compared
	measurements int
}

// fitBoth fits both laws to the points that have left the start; it needs three.
func fitBoth(points []point) (f fits, ok bool) {
	var x, y, logs []float64
	for _, p := range points {
		if p.Distance > 0 {
			x, y, logs = append(x, math.Log(float64(p.Update))), append(y, p.Distance), append(logs, math.Log(p.Distance))
		}
	}
	if len(x) < 3 {
		return f, false
	}
	f = fits{log: fitLine(x, y), power: fitLine(x, logs), measurements: len(x)}
	model := make([]float64, len(x))
	for i := range x {
		model[i] = f.log.slope*x[i] + f.log.offset
	}
	f.logR2 = r2(y, model)
	for i := range x {
		model[i] = portable.Exp(f.power.slope*x[i] + f.power.offset)
	}
	f.powerR2 = r2(y, model)
	return f, true
}
