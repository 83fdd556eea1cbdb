package conformance

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"broadside/cgo/cpu"
	"broadside/kernels"
	_ "broadside/kernels/cpu/wide" // one more table
	"broadside/kernels/ref"
)

// The oracle conforms to itself: the problems and their bounds are consistent.
func TestRef(t *testing.T) { Run(t, ref.New()) }

func TestCPU(t *testing.T) {
	for _, isa := range cpu.Available() {
		t.Run(isa, func(t *testing.T) {
			dev, err := cpu.New(isa)
			if err != nil {
				t.Fatal(err)
			}
			Run(t, dev)
			if err := dev.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A recorder ends the suite at the first failure it reports.
type recorder struct{ failure string }

// failed is what a recorder panics with.
type failed struct{}

func (*recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	panic(failed{})
}

// firstFailure returns the first failure that the suite reports for a kernel, "" if there is none.
func firstFailure(dev kernels.Device, k kernels.Kernel) string {
	r := &recorder{}
	func() {
		defer func() {
			if v := recover(); v != nil && v != (failed{}) {
				panic(v)
			}
		}()
		Kernel(r, dev, k)
	}()
	return r.failure
}

// broken is the oracle with one fault in one kernel.
type broken struct {
	*ref.Device
	kernel kernels.Kernel
	fault  func(p *brokenPass, call kernels.Call, bases *[kernels.MaxBases]kernels.Memory) error
}

type brokenPass struct {
	kernels.Pass
	broken *broken
	calls  []kernels.Call
}

func (b *broken) Prepare(calls []kernels.Call) (kernels.Pass, error) {
	pass, err := b.Device.Prepare(calls)
	return &brokenPass{pass, b, calls}, err
}

func (p *brokenPass) Run(bases *[kernels.MaxBases]kernels.Memory) error {
	if call := p.calls[0]; call.Kernel == p.broken.kernel {
		return p.broken.fault(p, call, bases)
	}
	return p.Pass.Run(bases)
}

// mustFail runs the suite on a kernel with a fault and requires it to report a failure.
func mustFail(t *testing.T, k kernels.Kernel, what string, fault func(p *brokenPass, call kernels.Call, bases *[kernels.MaxBases]kernels.Memory) error) {
	t.Helper()
	if firstFailure(&broken{ref.New(), k, fault}, k) == "" {
		t.Errorf("%s: the suite does not see %s", k, what)
	}
}

// forAll runs a test for every kernel and each of its arguments. Its layout is that of a problem with
// every output.
func forAll(t *testing.T, f func(t *testing.T, k kernels.Kernel, arg int, a ref.Arg)) {
	for k := range kernels.KernelCount {
		t.Run(k.String(), func(t *testing.T) {
			p := refusalProblem(k)
			layout, err := ref.Layout(k, p.shape, max(1, p.sets))
			if err != nil {
				t.Fatal(err)
			}
			for i, a := range layout {
				f(t, k, i, a)
			}
		})
	}
}

// cellsOf returns an argument's cells, for batch norm those of its first parameter set; nil if it has none.
func cellsOf(call kernels.Call, bases *[kernels.MaxBases]kernels.Memory, arg int) []float64 {
	layout, err := ref.Layout(call.Kernel, call.Shape, 1)
	if err != nil || call.Args[arg].IsNone() || layout[arg].Kind == ref.Byte {
		return nil
	}
	m := bases[call.Args[arg].Base].(*ref.Memory)
	return m.Floats()[call.Args[arg].Offset:][:layout[arg].Cells]
}

// One cell of one output is off by a thousandth: every output of every kernel, in its first cell and
// in its last.
func TestSuiteSeesAWrongCell(t *testing.T) {
	forAll(t, func(t *testing.T, k kernels.Kernel, arg int, a ref.Arg) {
		if a.Role == ref.In {
			return
		}
		for _, last := range []bool{false, true} {
			mustFail(t, k, fmt.Sprintf("a wrong cell of %s (last %t)", a.Name, last), func(p *brokenPass, call kernels.Call, bases *[kernels.MaxBases]kernels.Memory) error {
				err := p.Pass.Run(bases)
				if cells := cellsOf(call, bases, arg); cells != nil && err == nil {
					at := 0
					if last && a.Kind != ref.Double {
						at = len(cells) - 1
					}
					if a.Kind == ref.Int {
						cells[at]++
					} else {
						cells[at] += 1e-3 * max(1, cells[at], -cells[at])
					}
				}
				return err
			})
		}
	})
}

// The kernel leaves an output as it was.
func TestSuiteSeesASkippedOutput(t *testing.T) {
	forAll(t, func(t *testing.T, k kernels.Kernel, arg int, a ref.Arg) {
		if a.Role == ref.In {
			return
		}
		mustFail(t, k, "that "+a.Name+" is not written", func(p *brokenPass, call kernels.Call, bases *[kernels.MaxBases]kernels.Memory) error {
			cells := cellsOf(call, bases, arg)
			before := append([]float64(nil), cells...)
			err := p.Pass.Run(bases)
			copy(cells, before)
			return err
		})
	})
}

// The kernel writes one cell in front of or behind an argument.
func TestSuiteSeesAWriteOutside(t *testing.T) {
	forAll(t, func(t *testing.T, k kernels.Kernel, arg int, a ref.Arg) {
		if a.Kind == ref.Byte {
			return
		}
		for _, behind := range []bool{false, true} {
			mustFail(t, k, fmt.Sprintf("a write outside %s (behind %t)", a.Name, behind), func(p *brokenPass, call kernels.Call, bases *[kernels.MaxBases]kernels.Memory) error {
				err := p.Pass.Run(bases)
				if at := call.Args[arg]; !at.IsNone() && err == nil {
					memory := bases[at.Base].(*ref.Memory).Floats()
					offset := int(at.Offset) - 1
					for behind && (offset < int(at.Offset) || memory[offset] != guardValue) {
						offset++
					}
					memory[offset] = 0
				}
				return err
			})
		}
	})
}

// The kernel changes an input.
func TestSuiteSeesAChangedInput(t *testing.T) {
	forAll(t, func(t *testing.T, k kernels.Kernel, arg int, a ref.Arg) {
		if a.Role != ref.In || a.Kind == ref.Byte {
			return
		}
		mustFail(t, k, "that input "+a.Name+" changes", func(p *brokenPass, call kernels.Call, bases *[kernels.MaxBases]kernels.Memory) error {
			err := p.Pass.Run(bases)
			if cells := cellsOf(call, bases, arg); cells != nil && err == nil {
				cells[0]++
			}
			return err
		})
	})
}

// The kernel runs what it should refuse, without a word.
func TestSuiteSeesAMissingRefusal(t *testing.T) {
	for k := range kernels.KernelCount {
		mustFail(t, k, "that bad calls are not refused", func(p *brokenPass, call kernels.Call, bases *[kernels.MaxBases]kernels.Memory) error {
			_ = p.Pass.Run(bases) // the fault: the error is lost
			return nil
		})
	}
}

// The kernel does not round factors, truncates them, rounds ties the wrong way, or rounds what only enters sums.
func TestSuiteSeesWrongRounding(t *testing.T) {
	factor := map[string]bool{"x": true, "w": true, "dy": true}
	summed := map[string]bool{"bias": true, "y": true, "dx": true, "dw": true, "dbias": true}
	bits := func(dropped int, up func(uint32) uint32) func(float64) float64 { // add, then truncate
		return func(v float64) float64 {
			b := math.Float32bits(float32(v))
			return float64(math.Float32frombits((b + up(b)) >> dropped << dropped))
		}
	}
	none := func(uint32) uint32 { return 0 }
	type fault struct {
		what    string
		wrong   kernels.Precision // where it shows
		of      map[string]bool
		round   func(float64) float64
		instead kernels.Precision // what the kernel goes on to do
	}
	for _, f := range []fault{
		{"bf16 without rounding", kernels.BF16, factor, func(v float64) float64 { return v }, kernels.F32},
		{"truncation to bf16", kernels.BF16, factor, bits(16, none), kernels.F32},
		{"ties of bf16 away from zero", kernels.BF16, factor, bits(16, func(uint32) uint32 { return 0x8000 }), kernels.F32},
		{"sums rounded to bf16", kernels.BF16, summed, ref.BFloat16, kernels.BF16},
		{"tf32 without rounding", kernels.TF32, factor, func(v float64) float64 { return v }, kernels.F32},
		{"truncation to tf32", kernels.TF32, factor, bits(13, none), kernels.F32},
		{"ties of tf32 to even", kernels.TF32, factor, bits(13, func(b uint32) uint32 { return 0xfff + b>>13&1 }), kernels.F32},
		{"sums rounded to tf32", kernels.TF32, summed, ref.TF32, kernels.TF32},
	} {
		for k := kernels.Conv2DForward; k <= kernels.Conv2DBackwardWeight; k++ {
			mustFail(t, k, f.what, func(p *brokenPass, call kernels.Call, bases *[kernels.MaxBases]kernels.Memory) error {
				s := call.Shape.(kernels.Conv2D)
				if s.Precision != f.wrong {
					return p.Pass.Run(bases)
				}
				restore := changed(call, bases, f.of, f.round)
				s.Precision = f.instead
				call.Shape = s
				pass, err := p.broken.Device.Prepare([]kernels.Call{call})
				if err == nil {
					err = pass.Run(bases)
				}
				restore()
				return err
			})
		}
	}
}

// changed applies f to every cell of the named arguments. It returns what puts the inputs among them back.
func changed(call kernels.Call, bases *[kernels.MaxBases]kernels.Memory, names map[string]bool, f func(float64) float64) (restore func()) {
	layout, err := ref.Layout(call.Kernel, call.Shape, 1)
	if err != nil {
		return func() {}
	}
	kept := map[int][]float64{}
	for i, a := range layout {
		cells := cellsOf(call, bases, i)
		if !names[a.Name] || a.Role == ref.Out {
			continue
		}
		if a.Role == ref.In {
			kept[i] = slices.Clone(cells)
		}
		for j, v := range cells {
			cells[j] = f(v)
		}
	}
	return func() {
		for i, cells := range kept {
			copy(cellsOf(call, bases, i), cells)
		}
	}
}
