package autowu

import "math"

// history keeps the losses of the warm-up, no more than a number of points: when it is full, every two neighbours become
// their mean, and from then on a point is the mean of twice as many updates. So all points are equally noisy.
type history struct {
	Width int       `json:"width"` // updates in a point
	Place []float64 `json:"place"` // of each point, in epochs
	Loss  []float64 `json:"loss"`

	Updates  int     `json:"updates"` // of the point under way, and their sums
	SumPlace float64 `json:"sum_place"`
	SumLoss  float64 `json:"sum_loss"`
}

// mostPoints is even.
const mostPoints = 1024

// add adds the loss of an update; losses that are no numbers are left out.
func (h *history) add(place, loss float64) {
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return
	}
	h.Updates, h.SumPlace, h.SumLoss = h.Updates+1, h.SumPlace+place, h.SumLoss+loss
	if h.Updates < h.Width {
		return
	}
	n := float64(h.Updates)
	h.Place, h.Loss = append(h.Place, h.SumPlace/n), append(h.Loss, h.SumLoss/n)
	h.Updates, h.SumPlace, h.SumLoss = 0, 0, 0
	if len(h.Loss) == mostPoints {
		h.merge()
	}
}

func (h *history) merge() {
	for i := range mostPoints / 2 {
		h.Place[i], h.Loss[i] = (h.Place[2*i]+h.Place[2*i+1])/2, (h.Loss[2*i]+h.Loss[2*i+1])/2
	}
	h.Place, h.Loss, h.Width = h.Place[:mostPoints/2], h.Loss[:mostPoints/2], 2*h.Width
}

// pick returns at most so many of the points, evenly spread, as x and y: x is the place as a fraction of now. The shift
// between 0 and 1 gives other points, where there are more.
func (h *history) pick(most int, shift, now float64) (x, y []float64) {
	n := len(h.Loss)
	k := min(n, most)
	for i := range k {
		at := i
		if n > most {
			at = int((float64(i) + shift) * float64(n) / float64(k))
		}
		x, y = append(x, h.Place[at]/now), append(y, h.Loss[at])
	}
	return x, y
}
