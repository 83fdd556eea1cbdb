package bench

import (
	"time"

	"broadside/kernels"
	"broadside/kernels/ref"
)

// layerTimer times single calls on a device.
type layerTimer struct {
	dev    kernels.Device
	part   time.Duration // of a round
	rounds int
}

// A call that is shorter than a launch may take is queued so many times as one pass, which a GPU replays as one graph.
const (
	shortCall  = time.Millisecond
	shortCalls = 20
)

// seconds returns the time that one run of a call takes in each round. The call's arguments get memory of their own,
// full of random numbers, but for those that are None. A round queues all its runs and waits once.
func (t layerTimer) seconds(call kernels.Call) ([]float64, error) {
	call, memory, err := t.furnish(call)
	if err != nil {
		return nil, err
	}
	defer memory.Free()
	bases := &[kernels.MaxBases]kernels.Memory{memory}
	pass, err := t.prepare(call, 1, bases)
	if err != nil {
		return nil, err
	}
	took, err := t.run(pass, bases, 1)
	calls := 1
	if err == nil && took < shortCall {
		calls = shortCalls
		pass.Free()
		if pass, err = t.prepare(call, calls, bases); err != nil {
			return nil, err
		}
		took, err = t.run(pass, bases, 1)
	}
	defer pass.Free()
	if err != nil {
		return nil, err
	}
	runs := int(max(1, t.part/max(took, 1)))
	out := make([]float64, t.rounds)
	for i := range out {
		took, err := t.run(pass, bases, runs)
		if err != nil {
			return nil, err
		}
		out[i] = took.Seconds() / float64(runs*calls)
	}
	return out, nil
}

// prepare readies a pass of a call so many times over, and runs it twice: the first run touches all memory, and the
// second makes a GPU's graph.
func (t layerTimer) prepare(call kernels.Call, times int, bases *[kernels.MaxBases]kernels.Memory) (kernels.Pass, error) {
	calls := make([]kernels.Call, times)
	for i := range calls {
		calls[i] = call
	}
	pass, err := t.dev.Prepare(calls)
	if err != nil {
		return nil, err
	}
	if _, err := t.run(pass, bases, 2); err != nil {
		pass.Free()
		return nil, err
	}
	return pass, nil
}

// run queues so many runs of a pass on an idle device and returns how long it is until all are done.
func (t layerTimer) run(pass kernels.Pass, bases *[kernels.MaxBases]kernels.Memory, runs int) (time.Duration, error) {
	start := time.Now()
	for range runs {
		if err := pass.Run(bases); err != nil {
			return 0, err
		}
	}
	err := kernels.Sync(t.dev)
	return time.Since(start), err
}

// lineCells are the cells between whose multiples an argument begins, as the arenas of Programs have it.
const lineCells = 64

// furnish puts a call's arguments and its workspace into one memory, at base 0.
func (t layerTimer) furnish(call kernels.Call) (kernels.Call, kernels.Memory, error) {
	args, err := ref.Layout(call.Kernel, call.Shape, 1)
	if err != nil {
		return call, nil, err
	}
	scratch, err := t.dev.Workspace(call.Kernel, call.Shape)
	if err != nil {
		return call, nil, err
	}
	places, cells := []kernels.Ref{}, 0
	place := func(n int) {
		places = append(places, kernels.Ref{Offset: int64(cells)})
		cells += (n + lineCells - 1) / lineCells * lineCells
	}
	for i, a := range args {
		if call.Args[i].IsNone() {
			places = append(places, kernels.None)
		} else {
			place(a.Cells)
		}
	}
	filled := cells
	if scratch > 0 {
		place(scratch)
	}
	call.Args = places
	memory, err := t.dev.Alloc(cells)
	if err != nil {
		return call, nil, err
	}
	if err := t.fill(memory, filled); err != nil {
		memory.Free()
		return call, nil, err
	}
	return call, memory, nil
}

// fill writes normally distributed numbers to the first cells of a memory.
func (t layerTimer) fill(memory kernels.Memory, cells int) error {
	pass, err := t.dev.Prepare([]kernels.Call{{Kernel: kernels.Philox,
		Shape: kernels.PhiloxShape{Count: int64(cells), Distribution: kernels.Normal, Key0: 1}, Args: make([]kernels.Ref, 1)}})
	if err != nil {
		return err
	}
	defer pass.Free()
	if err := pass.Run(&[kernels.MaxBases]kernels.Memory{memory}); err != nil {
		return err
	}
	return kernels.Sync(t.dev)
}
