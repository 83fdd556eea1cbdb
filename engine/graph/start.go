package graph

// ZeroResiduals starts the scale of the batch normalisation that ends the branch of a residual block at 0, so that
// blocks begin as identities (Goyal et al. 2017). It returns how many there are: blocks whose branch, the first operand
// of an addition, ends with a batch normalisation.
func (n *Network) ZeroResiduals() (blocks int) {
	for _, sum := range n.nodes {
		if _, ok := sum.op.(add); !ok {
			continue
		}
		if branch, ok := n.made(sum.in[0]).op.(norm); ok {
			n.Params[branch.gamma].Init = Zeros
			blocks++
		}
	}
	return blocks
}

// NormalOutput starts the weights of the last layer at N(0, std^2) and its biases at 0. It reports false where the last
// layer is not fully connected.
func (n *Network) NormalOutput(std float64) bool {
	last, ok := n.made(n.output).op.(product)
	if !ok || !last.linear {
		return false
	}
	n.Params[last.weight].Init, n.Params[last.weight].Std = Normal, std
	if last.bias >= 0 {
		n.Params[last.bias].Init = Zeros
	}
	return true
}

// made returns the node that makes a value; the input is made by none.
func (n *Network) made(v Value) node {
	for _, nd := range n.nodes {
		if nd.out == v {
			return nd
		}
	}
	return node{}
}
