package optim

import (
	"broadside/engine/graph"
	"broadside/kernels"
)

// Moment is the update that cells are filled for.
type Moment struct {
	Update int     // counted from 1
	LR     float64 // learning rate
	Scale  float64 // of the gradient sum: 1/samples
}

// Scratch hands out memory for one update: nothing in it is kept to the next one.
type Scratch struct {
	cells   int // behind HyperCells
	fills   []filled
	vectors int
}

// filled are cells that the host writes before each update.
type filled struct {
	first, n int
	fill     func(cells []float32, m Moment)
}

// mostVectors are those that there are bases for.
const mostVectors = 2

// Cells returns n cells, aligned for doubles.
func (s *Scratch) Cells(n int) kernels.Ref {
	first := s.end()
	s.cells += n + n%2
	return kernels.Ref{Base: HyperBase, Offset: int64(first)}
}

func (s *Scratch) end() int { return (HyperCells+1)/2*2 + s.cells }

// Doubles returns n doubles.
func (s *Scratch) Doubles(n int) kernels.Ref { return s.Cells(2 * n) }

// Filled returns n cells that hold what fill writes before each update. It must not allocate.
func (s *Scratch) Filled(n int, fill func(cells []float32, m Moment)) kernels.Ref {
	at := s.Cells(n)
	s.fills = append(s.fills, filled{int(at.Offset), n, fill})
	return at
}

// Vector returns memory laid out like the parameters. There are two at most.
func (s *Scratch) Vector() kernels.Base {
	if s.vectors == mostVectors {
		panic("optim: a step rule wants more vectors than there are")
	}
	s.vectors++
	return VectorBase + kernels.Base(s.vectors-1)
}

// Vectors returns how many vectors were handed out.
func (s *Scratch) Vectors() int { return s.vectors }

// Len returns the cells of the memory at HyperBase.
func (s *Scratch) Len() int { return s.end() }

// FilledLen returns how many of them, from the first on, the host writes.
func (s *Scratch) FilledLen() int {
	n := HyperCells
	for _, f := range s.fills {
		n = max(n, f.first+f.n)
	}
	return n
}

// Fill writes the cells of an update; there are FilledLen.
func (s *Scratch) Fill(cells []float32, m Moment) {
	cells[0], cells[1], cells[2] = float32(m.LR), float32(m.Scale), 1
	for _, f := range s.fills {
		f.fill(cells[f.first:f.first+f.n], m)
	}
}

// at is a parameter's place in memory laid out like the parameters.
func at(base kernels.Base, p graph.Param) kernels.Ref {
	return kernels.Ref{Base: base, Offset: int64(p.Offset)}
}

// each returns item i of cells that hold some of `size` cells each.
func item(cells kernels.Ref, size, i int) kernels.Ref { return cells.At(size * i) }

// hyper is where Scratch.Fill writes learning rate, gradient scale and gain.
var hyper = kernels.Ref{Base: HyperBase}
