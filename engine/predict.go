package engine

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"broadside/cgo/device"
	"broadside/engine/collective"
	"broadside/engine/collective/join"
	"broadside/engine/data"
	"broadside/engine/methods"
	"broadside/kernels"
)

// The leaves and lanes of a prediction, which have no effect on its result.
const (
	predictLeaf  = 32
	predictLanes = 8
)

// Predictor runs a network on devices. Close it after use.
type Predictor struct {
	network *Network
	fleet   *fleet
}

// Predictor opens the network on devices.
func (n *Network) Predictor(o Options) (*Predictor, error) {
	if _, size := join.Processes(); size > 1 {
		return nil, errors.New("predictions are made by one process: leave out mpirun")
	}
	devices, err := device.Open(deviceOf(o), o.Devices, predictLanes)
	if err != nil {
		return nil, err
	}
	f, err := newFleet(n.net, devices, fleetConfig{leaf: predictLeaf, ghost: predictLeaf, lanes: predictLanes, join: joinHomes(o), bucket: defaultBucket / 4, timeout: cmp.Or(o.Timeout, collective.DefaultTimeout)})
	if err != nil {
		return nil, err
	}
	f.params.WriteFloats(0, n.params)
	f.state.WriteFloats(0, n.state)
	return &Predictor{n, f}, nil
}

// Close frees the predictor.
func (p *Predictor) Close() { p.fleet.close() }

// Logits returns the logits [n][classes] of n images [n][H][W][C] of bytes. Of a network with local losses they are the
// logarithms of its mean probabilities.
func (p *Predictor) Logits(images []byte) ([]float32, error) {
	in, f := p.network.net.Input, p.fleet
	if len(images) == 0 || len(images)%in.Elems() != 0 {
		return nil, fmt.Errorf("%d bytes are not images of %v", len(images), in)
	}
	n := len(images) / in.Elems()
	set := &data.Set{Name: "images", Images: images, Labels: make([]int32, n), H: in.H, W: in.W, C: in.C, Classes: p.network.net.Classes}
	on, err := newResident(f.dev, set, p.network.Mean, p.network.Std)
	if err != nil {
		return nil, err
	}
	defer on.free()
	j := &prediction{on: on, logits: make([][]float32, len(p.network.net.Logits())), classes: p.network.net.Classes}
	for i := range j.logits {
		j.logits[i] = make([]float32, n*j.classes)
	}
	if err := f.do(j); err != nil {
		return nil, err
	}
	return j.vote(), nil
}

// prediction is the job of computing the logits of all images.
type prediction struct {
	on      *resident
	logits  [][]float32 // of each loss, the output's first
	classes int
}

func (j *prediction) leaves() int { return ceilDiv(j.on.set.Len(), predictLeaf) }

func (j *prediction) busy(w *worker) bool { return w.id < j.leaves() }

func (j *prediction) run(w *worker) error {
	for i := w.id; i < j.leaves(); i += len(w.fleet.workers) {
		indices := firstSamples(min((i+1)*predictLeaf, j.on.set.Len()))[i*predictLeaf:]
		if err := w.gather(j.on, augmentation{}, methods.Draw{}, indices); err != nil {
			return err
		}
		p, err := w.program(programKey{kind: evalProgram, n: len(indices)})
		if err != nil {
			return err
		}
		w.bind(j.on)
		if err := w.runMain(p); err != nil {
			return err
		}
		for k, from := range append([]kernels.Ref{p.Logits}, p.Locals...) {
			first := i * predictLeaf * j.classes
			kernels.ReadFloatsLater(w.arena, int(from.Offset), j.logits[k][first:first+len(indices)*j.classes])
		}
	}
	return kernels.Sync(w.dev)
}

// vote returns the logits; those of several losses become one by the mean of their probabilities.
func (j *prediction) vote() []float32 {
	if len(j.logits) == 1 {
		return j.logits[0]
	}
	out := make([]float32, len(j.logits[0]))
	mean := make([]float64, j.classes)
	for at := 0; at < len(out); at += j.classes {
		clear(mean)
		for _, l := range j.logits {
			for c, v := range Probabilities(l[at : at+j.classes]) {
				mean[c] += v / float64(len(j.logits))
			}
		}
		for c, v := range mean {
			out[at+c] = float32(math.Log(max(v, 0x1p-126)))
		}
	}
	return out
}

// Probabilities are the softmax of a sample's logits.
func Probabilities(logits []float32) []float64 {
	largest, sum := math.Inf(-1), 0.0
	for _, v := range logits {
		largest = max(largest, float64(v))
	}
	out := make([]float64, len(logits))
	for i, v := range logits {
		out[i] = math.Exp(float64(v) - largest)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}
