package engine

import (
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"broadside/engine/data"
	"broadside/engine/methods"
)

// stream decodes or paints the leaves of a data set on the host, ahead of the workers that want them. What a leaf holds
// depends on its samples and on its draw alone, so it does not matter to the result what was decoded ahead, by whom, or
// in which order: a worker that wants another leaf waits for that one.
//
// Before a job the fleet tells the stream which leaves every worker is going to gather. Each worker has a few slots,
// which are filled in that order and filled again as it takes them.
type stream struct {
	set  *data.Set
	mean []float32 // what pixels are normalised with, or nil

	mu       sync.Mutex
	work     sync.Cond // there may be something to decode
	decoded  sync.Cond // a leaf is complete, or has failed
	feeds    []*feed   // of each worker
	closed   bool
	decoders sync.WaitGroup
	images   int64 // decoded so far
}

// feed is what one worker is going to gather.
type feed struct {
	coming leafPlan // being made
	plan   leafPlan // of leaves without a slot yet
	slots  []*slot  // of the leaves before, those that were not taken yet, in order
	spare  []*slot
	extra  *slot // for leaves that were not planned
	wanted *slot // of a leaf that the worker waits for
	waited time.Duration
}

// leafPlan is leaves in the order in which they will be gathered.
type leafPlan struct {
	views   []data.View
	sizes   []int   // samples of each
	indices []int32 // samples of all
}

func (p *leafPlan) clear() { p.views, p.sizes, p.indices = p.views[:0], p.sizes[:0], p.indices[:0] }

func (p *leafPlan) add(v data.View, indices []int32) {
	p.views, p.sizes = append(p.views, v), append(p.sizes, len(indices))
	p.indices = append(p.indices, indices...)
}

// first is the first leaf of a plan that has one.
func (p *leafPlan) first() (data.View, []int32) { return p.views[0], p.indices[:p.sizes[0]] }

// pop takes the first leaf out.
func (p *leafPlan) pop() {
	p.indices = slices.Delete(p.indices, 0, p.sizes[0])
	p.views, p.sizes = slices.Delete(p.views, 0, 1), slices.Delete(p.sizes, 0, 1)
}

// slot is memory for the images of a leaf.
type slot struct {
	feed    *feed
	view    data.View
	indices []int32
	cells   []int32 // its memory, as devices take it
	bytes   []byte  // the same, as decoders do
	begun   int     // samples that were given to decoders
	busy    int     // of those, how many are being decoded
	err     error
}

// slotsAhead is how many leaves are decoded ahead for a worker.
const slotsAhead = 2

// newStream starts to decode for so many workers, with leaves of so many samples.
func newStream(set *data.Set, mean []float32, workers, leaf int) *stream {
	s := &stream{set: set, mean: mean}
	s.work.L, s.decoded.L = &s.mu, &s.mu
	for range workers {
		f := &feed{}
		for range slotsAhead {
			f.spare = append(f.spare, newSlot(f, set, leaf))
		}
		f.extra = newSlot(f, set, leaf)
		s.feeds = append(s.feeds, f)
	}
	for range runtime.GOMAXPROCS(0) {
		s.decoders.Go(s.decode)
	}
	return s
}

func newSlot(f *feed, set *data.Set, leaf int) *slot {
	n := leaf * set.ImageBytes()
	s := &slot{feed: f, cells: make([]int32, ceilDiv(n, 4))}
	s.bytes = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s.cells))), n)
	return s
}

// holds reports whether a slot is of a leaf.
func (s *slot) holds(v data.View, indices []int32) bool {
	return s.view == v && slices.Equal(s.indices, indices)
}

// begin gives a slot a leaf to decode.
func (s *slot) begin(v data.View, indices []int32) {
	s.view, s.indices, s.begun, s.err = v, append(s.indices[:0], indices...), 0, nil
}

// drop keeps what of a slot was not given to decoders from being decoded.
func (s *slot) drop() { s.begun = len(s.indices) }

// complete reports whether a slot's leaf is decoded.
func (s *slot) complete() bool { return s.begun == len(s.indices) && s.busy == 0 }

// viewOf is what an augmentation and a draw make of images. Where nothing is random the draw makes no difference.
func viewOf(a augmentation, d methods.Draw) data.View {
	if a == (augmentation{}) {
		return data.View{}
	}
	return data.View{Crop: a.cropArea > 0, MinArea: a.cropArea, Flip: a.flip, Pad: a.pad, Policy: a.policy, Cutout: a.cutout,
		Seed: d.Seed, Epoch: d.Epoch, Copy: d.Copy}
}

// planned reports whether a plan was made since the last that was followed.
func (s *stream) planned() bool {
	return slices.ContainsFunc(s.feeds, func(f *feed) bool { return len(f.coming.views) > 0 })
}

// follow makes the decoders follow the plans that were made. Leaves at hand with which a plan begins stay.
func (s *stream) follow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds {
		f.plan, f.coming = f.coming, f.plan
		f.coming.clear()
		kept := 0
		for kept < len(f.slots) && len(f.plan.views) > 0 && f.slots[kept].holds(f.plan.first()) {
			f.plan.pop()
			kept++
		}
		for _, slot := range f.slots[kept:] {
			slot.drop()
			f.spare = append(f.spare, slot)
		}
		f.slots = f.slots[:kept]
		s.refill(f)
	}
}

// refill gives a feed's spare slots the next leaves of its plan.
func (s *stream) refill(f *feed) {
	for len(f.plan.views) > 0 {
		i := slices.IndexFunc(f.spare, func(s *slot) bool { return s.busy == 0 })
		if i < 0 {
			return // until a decoder is done with one
		}
		slot := f.spare[i]
		f.spare = slices.Delete(f.spare, i, i+1)
		slot.begin(f.plan.first())
		f.plan.pop()
		f.slots = append(f.slots, slot)
		s.work.Broadcast()
	}
}

// take returns a worker's leaf once it is decoded. The worker gives it back.
func (s *stream) take(worker int, v data.View, indices []int32) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.feeds[worker]
	slot := f.extra
	if len(f.slots) > 0 && f.slots[0].holds(v, indices) {
		slot = f.slots[0]
		f.slots = slices.Delete(f.slots, 0, 1)
	} else {
		for slot.busy > 0 { // after a failure
			s.decoded.Wait()
		}
		slot.begin(v, indices)
	}
	if !slot.complete() {
		start := time.Now()
		f.wanted = slot
		s.work.Broadcast()
		for !slot.complete() && slot.err == nil {
			s.decoded.Wait()
		}
		f.wanted = nil
		f.waited += time.Since(start)
	}
	return slot, slot.err
}

// give takes a leaf back.
func (s *stream) give(slot *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot.drop()
	if f := slot.feed; slot != f.extra {
		f.spare = append(f.spare, slot)
		s.refill(f)
	}
}

// decode is a decoder: it decodes one image after the other.
func (s *stream) decode() {
	painter := data.NewPainter(s.set, s.mean)
	s.mu.Lock()
	defer s.mu.Unlock()
	size := s.set.ImageBytes()
	for {
		slot := s.urgent()
		if slot == nil {
			if s.closed {
				return
			}
			s.work.Wait()
			continue
		}
		at := slot.begun
		slot.begun++
		slot.busy++
		view, sample := slot.view, int(slot.indices[at])
		s.mu.Unlock()
		err := painter.Paint(slot.bytes[at*size:(at+1)*size:(at+1)*size], sample, view)
		s.mu.Lock()
		slot.busy--
		s.images++
		if err != nil && slot.err == nil {
			slot.err = err
			slot.drop()
		}
		if slot.complete() || slot.err != nil {
			s.decoded.Broadcast()
			s.refill(slot.feed) // a slot that was dropped may be of use now
		}
	}
}

// urgent returns a slot with something to decode: the first that a worker waits for, or will.
func (s *stream) urgent() *slot {
	if s.closed {
		return nil
	}
	for _, f := range s.feeds {
		if f.wanted != nil && f.wanted.begun < len(f.wanted.indices) {
			return f.wanted
		}
	}
	for depth := range slotsAhead {
		for _, f := range s.feeds {
			if depth < len(f.slots) && f.slots[depth].begun < len(f.slots[depth].indices) {
				return f.slots[depth]
			}
		}
	}
	return nil
}

// close ends the decoders.
func (s *stream) close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.closed = true
	s.work.Broadcast()
	s.mu.Unlock()
	s.decoders.Wait()
}
