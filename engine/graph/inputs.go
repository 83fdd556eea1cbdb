package graph

import "broadside/kernels"

// Layer is a convolution or a linear layer.
type Layer struct {
	Weight, Bias int // of Network.Params; the bias may be -1
	Linear       bool
	Window       Window // 1x1 of a linear layer, which takes all elements of a sample
	In           Dims   // of a sample
}

// Layers returns the convolutions and linear layers, in their order.
func (n *Network) Layers() (out []Layer) {
	for _, nd := range n.nodes {
		if o, ok := nd.op.(product); ok {
			out = append(out, Layer{Weight: o.weight, Bias: o.bias, Linear: o.linear, Window: o.w, In: n.dims[nd.in[0]]})
		}
	}
	return out
}

// layerInputs returns what every convolution and linear layer reads, by its weight.
func (c *compiler) layerInputs() map[int]kernels.Ref {
	out := map[int]kernels.Ref{}
	for _, n := range c.nodes {
		if o, ok := n.op.(product); ok {
			out[o.weight] = c.value[n.in[0]]
		}
	}
	return out
}
