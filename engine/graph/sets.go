package graph

// AddNormSets gives every batch normalisation further parameter sets: scale, shift and running statistics of their own,
// by name. A Program uses one of them, and shares all other parameters. The sets are stored behind what the network
// already has, which keeps its place; those of set "adv" of a layer bn1 are named as if its layer were bn1_adv.
func (n *Network) AddNormSets(names []string) {
	if len(n.NormSets) == 0 {
		n.single.params, n.single.norms = len(n.Params), len(n.Norms)
	}
	for _, name := range names {
		n.NormSets = append(n.NormSets, name)
		for _, layer := range n.Norms[:n.single.norms] {
			n.normParams(layer.Name+"_"+name, layer.C)
		}
	}
}

// normParams adds the parameters and running statistics of a batch normalisation and returns the parameters' places.
func (n *Network) normParams(name string, c int) (gamma, beta int) {
	gamma = n.param(Param{Name: name + ".weight", Role: Gamma, K: c, R: 1, S: 1, C: 1, Init: Ones})
	beta = n.param(Param{Name: name + ".bias", Role: Beta, K: c, R: 1, S: 1, C: 1, Init: Zeros})
	n.Norms = append(n.Norms, Norm{Name: name, C: c, Offset: n.StateCells()})
	return gamma, beta
}

// ofSet is the layer with the parameters of the set that is compiled.
func (o norm) ofSet(c *compiler) norm {
	if c.opt.Set > 0 {
		single := c.net.single
		layer := (c.opt.Set-1)*single.norms + o.index
		o.gamma, o.beta = single.params+2*layer, single.params+2*layer+1
		o.index = single.norms + layer
	}
	return o
}
