package cpu

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"broadside/cgo/table"
	"broadside/kernels"
	_ "broadside/kernels/cpu/wide" // one more table
	"broadside/kernels/philox"
)

func TestNewChoosesKernels(t *testing.T) {
	t.Setenv(ISAVariable, "")
	best, err := New("")
	check(t, err)
	if want := "cpu (" + Available()[0] + ")"; best.Name() != want {
		t.Errorf("best device is %q, want %q", best.Name(), want)
	}
	base := "scalar"
	if runtime.GOARCH == "arm64" {
		base = "neon"
	}
	if !slices.Contains(Available(), base) {
		t.Errorf("%s is not among %v", base, Available())
	}
	for _, isa := range Available() {
		d, err := New(isa)
		check(t, err)
		if d.Name() != "cpu ("+isa+")" || d.Space() != "host" {
			t.Errorf("New(%q) is %q in space %q", isa, d.Name(), d.Space())
		}
	}
	t.Setenv(ISAVariable, base)
	d, err := New("")
	check(t, err)
	if d.Name() != "cpu ("+base+")" {
		t.Errorf("BROADSIDE_ISA=%s gives %q", base, d.Name())
	}
	if _, err := New("z80"); err == nil || !strings.Contains(err.Error(), `"z80"`) || !strings.Contains(err.Error(), base) {
		t.Errorf("New(z80): %v, want an error with the name and what there is", err)
	}
}

func TestPhiloxIsTheReferenceGenerator(t *testing.T) {
	const count = 1000
	s := kernels.PhiloxShape{Count: count, Key0: 0xa4093822, Key1: 0x299f31d0, Ctr1: 0x85a308d3, Ctr2: 0x13198a2e, Ctr3: 0x03707344}
	for _, isa := range Available() {
		d, err := New(isa)
		check(t, err)
		for _, shape := range []kernels.PhiloxShape{{Count: count}, s} {
			m, err := d.Alloc(count)
			check(t, err)
			check(t, runOn(d, kernels.Call{Kernel: kernels.Philox, Shape: shape, Args: []kernels.Ref{{}}}, &[kernels.MaxBases]kernels.Memory{m}))
			words := make([]int32, count)
			m.ReadInts(0, words)
			for i, word := range words {
				block := philox.Philox4x32([2]uint32{shape.Key0, shape.Key1}, [4]uint32{uint32(i / 4), shape.Ctr1, shape.Ctr2, shape.Ctr3})
				if uint32(word) != block[i%4] {
					t.Fatalf("%s: word %d is %x, want %x", isa, i, uint32(word), block[i%4])
				}
			}
			m.Free()
		}
	}
}

// device returns the best device and a memory of the given cells.
func device(t testing.TB, cells int) (*Device, kernels.Memory) {
	t.Helper()
	d, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	m, err := d.Alloc(cells)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Free)
	return d, m
}

func scaleCall(count int, x, y int64, a float64) kernels.Call {
	return kernels.Call{Kernel: kernels.Axpby, Shape: kernels.Vector{Count: int64(count), A: a}, Args: []kernels.Ref{{Offset: x}, {Offset: y}}}
}

func TestRunStopsAtTheFirstErrorAndNamesIt(t *testing.T) {
	d, m := device(t, 64)
	m.WriteFloats(0, []float32{3})
	labels := []kernels.Ref{{Offset: 32}, {Offset: 40}, kernels.None, {Offset: 41}, {Offset: 42}, {Offset: 43}, kernels.None}
	m.WriteInts(40, []int32{9}) // a label out of range
	pass, err := d.Prepare([]kernels.Call{
		scaleCall(1, 0, 1, 2),
		{Kernel: kernels.SoftmaxXent, Shape: kernels.Softmax{N: 1, Classes: 2}, Args: labels},
		scaleCall(1, 0, 2, 2),
	})
	check(t, err)
	defer pass.Free()
	err = pass.Run(&[kernels.MaxBases]kernels.Memory{m})
	if !errors.Is(err, table.ErrBadArgument) {
		t.Fatalf("a label out of range: %v", err)
	}
	for _, part := range []string{d.Name(), "call 1", "softmax_xent", "Classes:2"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	got := make([]float32, 3)
	m.ReadFloats(0, got)
	if got[1] != 6 || got[2] != 0 {
		t.Errorf("cells 1 and 2 are %v and %v, want 6 from the first call and 0", got[1], got[2])
	}
}

func TestRunRefusesBadArguments(t *testing.T) {
	d, m := device(t, 64)
	bases := &[kernels.MaxBases]kernels.Memory{m}
	pool := kernels.Call{Kernel: kernels.MaxPoolTangent, Args: []kernels.Ref{{}, {Offset: 1}, {Offset: 2}},
		Shape: kernels.Pool{N: 1, H: 1, W: 1, C: 1, R: 1, S: 1, StrideH: 1, StrideW: 1, OH: 1, OW: 1}}
	m.WriteInts(1, []int32{1}) // a position outside the image of one pixel
	if err := runOn(d, pool, bases); !errors.Is(err, table.ErrBadArgument) {
		t.Errorf("a position outside the image: %v", err)
	}
	missing := scaleCall(1, 0, 0, 1)
	missing.Args[1] = kernels.None
	if err := runOn(d, missing, bases); !errors.Is(err, table.ErrBadArgument) {
		t.Errorf("no output: %v", err)
	}
	if err := runOn(d, scaleCall(1, 0, 64, 1), bases); err == nil || !strings.Contains(err.Error(), "byte 259") {
		t.Errorf("an argument behind the memory: %v", err)
	}
	if err := runOn(d, scaleCall(1, 0, 0, 1), &[kernels.MaxBases]kernels.Memory{}); err == nil {
		t.Error("a nil base that a call uses is accepted")
	}
}

func TestPrepareRefusesWrongCalls(t *testing.T) {
	d, _ := device(t, 1)
	norm := kernels.BatchNorm{N: 2, HW: 1, C: 1, Ghost: 2}
	for name, call := range map[string]kernels.Call{
		"kernel":       {Kernel: kernels.KernelCount, Shape: kernels.Vector{Count: 1}},
		"shape type":   {Kernel: kernels.Add, Shape: norm, Args: make([]kernels.Ref, 3)},
		"nil shape":    {Kernel: kernels.Add, Args: make([]kernels.Ref, 3)},
		"too few":      {Kernel: kernels.Add, Shape: kernels.Vector{Count: 1}, Args: make([]kernels.Ref, 2)},
		"too many":     {Kernel: kernels.Add, Shape: kernels.Vector{Count: 1}, Args: make([]kernels.Ref, 5)},
		"offset":       {Kernel: kernels.Norm, Shape: kernels.Vector{Count: 1}, Args: []kernels.Ref{{Offset: -1}, {}}},
		"base":         {Kernel: kernels.Norm, Shape: kernels.Vector{Count: 1}, Args: []kernels.Ref{{Base: kernels.MaxBases}, {}}},
		"no workspace": {Kernel: kernels.BatchNormForward, Shape: norm, Args: make([]kernels.Ref, 9)},
		"bad shape":    {Kernel: kernels.BatchNormForward, Shape: kernels.BatchNorm{N: 1, HW: 1, C: 1, Ghost: 1}, Args: make([]kernels.Ref, 10)},
	} {
		if pass, err := d.Prepare([]kernels.Call{call}); err == nil {
			pass.Free()
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), d.Name()) || !strings.Contains(err.Error(), "call 0") {
			t.Errorf("%s: %q does not name the device and the call", name, err)
		}
	}
}

func TestRunAllocatesNothing(t *testing.T) {
	for _, threads := range []int{1, 3} {
		d, m := device(t, 3*5000)
		defer d.Close()
		check(t, d.SetThreads(threads))
		pass, err := d.Prepare(chain(2, 5000))
		check(t, err)
		defer pass.Free()
		bases := &[kernels.MaxBases]kernels.Memory{m}
		if n := testing.AllocsPerRun(100, func() {
			if err := pass.Run(bases); err != nil {
				t.Error(err)
			}
		}); n != 0 {
			t.Errorf("%d threads: %v allocations a run", threads, n)
		}
	}
}

func TestFreedThingsAreRefused(t *testing.T) {
	d, _ := device(t, 1)
	m, err := d.Alloc(4)
	check(t, err)
	pass, err := d.Prepare([]kernels.Call{scaleCall(1, 0, 1, 1)})
	check(t, err)
	m.Free()
	m.Free()
	if err := pass.Run(&[kernels.MaxBases]kernels.Memory{m}); err == nil {
		t.Error("freed memory is accepted")
	}
	pass.Free()
	pass.Free()
	if err := pass.Run(&[kernels.MaxBases]kernels.Memory{}); err == nil {
		t.Error("a freed pass runs")
	}
}

func TestMemory(t *testing.T) {
	d, m := device(t, 10)
	floats, ints := make([]float32, 10), make([]int32, 2)
	m.ReadFloats(0, floats)
	if m.Len() != 10 || slices.Max(floats) != 0 || slices.Min(floats) != 0 {
		t.Errorf("new memory has %d cells: %v", m.Len(), floats)
	}
	if p := uintptr(m.(*memory).data); p%64 != 0 {
		t.Errorf("memory at %x is not aligned to 64 bytes", p)
	}
	m.WriteInts(8, []int32{-5, 6})
	m.ReadInts(8, ints)
	if ints[0] != -5 || ints[1] != 6 {
		t.Errorf("wrote -5 and 6, read %v", ints)
	}
	for i, v := range []float64{math.Pi, -math.E} {
		bits := math.Float64bits(v)
		m.WriteInts(1+2*i, []int32{int32(uint32(bits)), int32(uint32(bits >> 32))}) // little-endian, as all hosts here
	}
	doubles := make([]float64, 2)
	if m.ReadDoubles(1, doubles); doubles[0] != math.Pi || doubles[1] != -math.E {
		t.Errorf("the doubles read as %v", doubles)
	}
	bytes, err := d.AllocBytes([]byte{1, 2, 3, 4, 5})
	check(t, err)
	defer bytes.Free()
	bytes.ReadInts(0, ints)
	if bytes.Len() != 2 || ints[0] != 0x04030201 || ints[1] != 5 {
		t.Errorf("five bytes are %d cells: %x", bytes.Len(), ints)
	}
	for name, outside := range map[string]func(){
		"behind":   func() { m.ReadFloats(9, floats[:2]) },
		"negative": func() { m.WriteFloats(-1, floats[:1]) },
		"double":   func() { m.ReadDoubles(9, doubles[:1]) },
	} {
		if !panics(outside) {
			t.Errorf("%s: no panic", name)
		}
	}
}

// Borrowed memory is the bytes themselves, and freeing it leaves them alone.
func TestBorrowBytes(t *testing.T) {
	d, _ := device(t, 1)
	owner, err := d.AllocBytes([]byte{1, 2, 3, 4, 5})
	check(t, err)
	defer owner.Free()
	bytes := unsafe.Slice((*byte)(owner.(*memory).data), 5)
	m := d.BorrowBytes(bytes)
	bytes[0] = 9
	ints := make([]int32, 2)
	m.ReadInts(0, ints)
	if m.Len() != 2 || ints[0] != 0x04030209 || ints[1] != 5 {
		t.Errorf("five bytes are %d cells: %x", m.Len(), ints)
	}
	m.Free()
	if bytes[4] != 5 {
		t.Error("freeing it freed the bytes")
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestAllocReportsTooMuch(t *testing.T) {
	d, _ := device(t, 1)
	for _, cells := range []int{-1, math.MaxInt, 1 << 58} {
		if _, err := d.Alloc(cells); err == nil {
			t.Errorf("%d cells are allocated", cells)
		}
	}
}
