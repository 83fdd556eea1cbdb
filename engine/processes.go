package engine

import (
	"errors"
	"fmt"
	"hash/fnv"
)

// Where other processes train too, all of them run the same loop and come to the same decisions, because they have the
// same numbers: each computes its own leaves, and they exchange what they read of them.

// errElsewhere is a failure of another process, which tells about it itself.
var errElsewhere = errors.New("its own message says why")

// Elsewhere reports whether an error is but the news of another process's failure.
func Elsewhere(err error) bool { return errors.Is(err, errElsewhere) }

// remote reports whether other processes train too.
func (f *fleet) remote() bool { return f.ranks > len(f.homes) }

// exchange gives all processes the numbers of each, and tells them if one has failed instead. The result has a block
// for each rank; it is good until the next exchange.
func (f *fleet) exchange(err error, own ...float64) (blocks []float64, _ error) {
	n := 1 + len(own)
	if len(f.board) < n*f.ranks {
		f.board = make([]float64, n*f.ranks)
	}
	board := f.board[:n*f.ranks]
	mine := board[n*f.first : n*(f.first+1)]
	copy(mine[1:], own)
	mine[0] = 0
	if err != nil {
		mine[0] = 1
	}
	if e := f.comms[0].Exchange(board); err != nil || e != nil {
		return nil, errors.Join(err, e)
	}
	for rank := range f.ranks {
		if board[n*rank] != 0 {
			return nil, fmt.Errorf("rank %d has failed: %w", rank, errElsewhere)
		}
	}
	return board, nil
}

// agree makes a failure of one process that of all.
func (f *fleet) agree(err error) error {
	if !f.remote() {
		return err
	}
	_, err = f.exchange(err)
	return err
}

// most returns the largest of what the processes ask for.
func (f *fleet) most(own int) (int, error) {
	if !f.remote() {
		return own, nil
	}
	blocks, err := f.exchange(nil, float64(own))
	if err != nil {
		return 0, err
	}
	for rank := range f.ranks {
		own = max(own, int(blocks[2*rank+1]))
	}
	return own, nil
}

// same refuses processes that differ in what a text says, such as the recipe.
func (f *fleet) same(what, text string) error {
	if !f.remote() {
		return nil
	}
	h := fnv.New64a()
	h.Write([]byte(text))
	digest := float64(h.Sum64() >> 12)
	blocks, err := f.exchange(nil, digest)
	if err != nil {
		return err
	}
	for rank := range f.ranks {
		if blocks[2*rank+1] != blocks[1] {
			return fmt.Errorf("the %s of rank %d is not that of rank 0: all processes must have the same", what, rank)
		}
	}
	return nil
}

// compute hands a job to all workers and gives all processes the results of its leaves, of which the first one is
// that of the place. If the job is the last of an update of so many leaves, the reduction has begun then, also of a
// process that had no leaf or has failed: collectives must come in the same order everywhere.
func (f *fleet) compute(j job, r *results, place, last int) error {
	err := f.do(j)
	if !f.remote() {
		return err
	}
	if last > 0 {
		err = errors.Join(err, f.reduce.beginAll(f.sums, last))
	}
	return f.publish(err, r, place)
}

// publish gives all processes the results of leaves, or the news that one has failed.
func (f *fleet) publish(err error, r *results, place int) error {
	if !f.remote() {
		return err
	}
	n := ceilDiv(len(r.loss), f.ranks)
	f.said = f.said[:0]
	for i := range r.loss {
		if (place+i)%f.ranks == f.first {
			f.said = append(f.said, r.loss[i], float64(r.correct[i]))
		}
	}
	for len(f.said) < 2*n {
		f.said = append(f.said, 0)
	}
	blocks, err := f.exchange(err, f.said...)
	if err != nil {
		return err
	}
	next := make([]int, f.ranks)
	for i := range r.loss {
		rank := (place + i) % f.ranks
		at := rank*(1+2*n) + 1 + 2*next[rank]
		r.loss[i], r.correct[i] = blocks[at], int(blocks[at+1])
		next[rank]++
	}
	return nil
}
