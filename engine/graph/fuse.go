package graph

// fuse joins layers whose intermediate result nobody else reads, each of which saves a trip of the
// activations through memory:
//
//	convolution or linear, ReLU
//	batch normalisation, [add,] [ReLU]
func fuse(nodes []node) []node {
	f := fuser{uses: map[Value]int{}, producer: map[Value]int{}, nodes: append([]node(nil), nodes...)}
	for _, n := range nodes {
		for _, v := range n.in {
			f.uses[v]++
		}
	}
	for i := range f.nodes {
		switch f.nodes[i].op.(type) {
		case relu:
			f.relu(i)
		case add:
			f.add(i)
		}
		f.producer[f.nodes[i].out] = i
	}
	kept := f.nodes[:0]
	for _, n := range f.nodes {
		if n.op != nil {
			kept = append(kept, n)
		}
	}
	return kept
}

type fuser struct {
	nodes    []node
	uses     map[Value]int
	producer map[Value]int
}

// sole returns the node that makes v, if nobody but the asking node reads v.
func (f *fuser) sole(v Value) (*node, bool) {
	i, ok := f.producer[v]
	if !ok || f.uses[v] != 1 {
		return nil, false
	}
	return &f.nodes[i], true
}

func (f *fuser) relu(i int) {
	n := &f.nodes[i]
	p, ok := f.sole(n.in[0])
	if !ok {
		return
	}
	if o, ok := p.op.(interface{ withReLU() op }); ok {
		f.join(n, p, o.withReLU(), p.in)
	}
}

func (f *fuser) add(i int) {
	n := &f.nodes[i]
	for side, v := range n.in {
		p, ok := f.sole(v)
		if !ok {
			continue
		}
		o, isNorm := p.op.(norm)
		if !isNorm || n.op.(add).factor != 1 || o.relu || len(p.in) != 1 || n.in[1-side] == p.in[0] {
			continue // x + BN(x) keeps its add: the kernels want two different gradients to write
		}
		f.join(n, p, o, []Value{p.in[0], n.in[1-side]})
		return
	}
}

// join puts the fused op in the later node's place and removes the earlier one.
func (f *fuser) join(later, earlier *node, o op, in []Value) {
	later.op, later.in = o, in
	earlier.op = nil
}
