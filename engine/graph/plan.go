package graph

import (
	"sort"

	"broadside/kernels"
)

// plan gives every buffer its place in the arena: buffers that are never alive at the same time
// share cells. It rewrites all references and returns the arena's size.
//
// The passes run in order, but the tangent passes repeat; so what an earlier pass hands to them
// stays alive to the end, while their own scratch may reuse what only the earlier passes needed.
func (c *compiler) plan(pinned []kernels.Ref) int {
	c.lifetimes(pinned)
	order := make([]int, 0, len(c.buffers))
	for i, b := range c.buffers {
		if b.last >= 0 {
			order = append(order, i)
		}
	}
	sort.SliceStable(order, func(a, b int) bool { return c.buffers[order[a]].cells > c.buffers[order[b]].cells })
	arena := 0
	for i, id := range order {
		b := &c.buffers[id]
		b.offset = c.firstFit(order[:i], b)
		arena = max(arena, b.offset+align(b.cells))
	}
	for p := range c.calls {
		for i := range c.calls[p] {
			args := c.calls[p][i].Args
			for j := range args {
				args[j] = c.place(args[j])
			}
		}
	}
	return arena
}

// lifetimes finds the first and last call that touches each buffer.
func (c *compiler) lifetimes(pinned []kernels.Ref) {
	total := 0
	for _, calls := range c.calls {
		total += len(calls)
	}
	for i := range c.buffers {
		c.buffers[i].first, c.buffers[i].last = total, -1
	}
	at, tangents := 0, 0
	for p, calls := range c.calls {
		if pass(p) == tangentForward {
			tangents = at
		}
		for _, call := range calls {
			for _, r := range call.Args {
				if b := c.virtual(r); b != nil {
					b.first, b.last = min(b.first, at), at
				}
			}
			at++
		}
	}
	for i := range c.buffers {
		b := &c.buffers[i]
		if b.first < tangents && b.last >= tangents {
			b.last = total
		}
	}
	for _, r := range pinned {
		if b := c.virtual(r); b != nil {
			b.last = total
		}
	}
	c.keepAttack(total)
}

// firstFit returns the lowest offset at which b overlaps no buffer alive with it.
func (c *compiler) firstFit(placed []int, b *buffer) int {
	type span struct{ from, to int }
	var busy []span
	for _, id := range placed {
		o := c.buffers[id]
		if o.first <= b.last && b.first <= o.last {
			busy = append(busy, span{o.offset, o.offset + align(o.cells)})
		}
	}
	sort.Slice(busy, func(i, j int) bool { return busy[i].from < busy[j].from })
	at := 0
	for _, s := range busy {
		if at+align(b.cells) <= s.from {
			break
		}
		at = max(at, s.to)
	}
	return at
}

// virtual returns the buffer that a reference means, or nil if it means another memory.
func (c *compiler) virtual(r kernels.Ref) *buffer {
	if r.Base < virtualBase {
		return nil
	}
	return &c.buffers[r.Base-virtualBase]
}

// place turns a reference to a planned buffer into its place in the arena.
func (c *compiler) place(r kernels.Ref) kernels.Ref {
	if b := c.virtual(r); b != nil {
		return kernels.Ref{Base: ArenaBase, Offset: int64(b.offset) + r.Offset}
	}
	return r
}
