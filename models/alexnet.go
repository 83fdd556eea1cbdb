package models

import (
	"fmt"

	"broadside/engine/graph"
)

func init() {
	register(Family{Pattern: `alexnet`, Examples: []string{"alexnet"}, Build: imageNetAlexNet,
		Doc:   "one-tower AlexNet with batch normalisation for 224x224 images (Krizhevsky 2014; AlexNet-OWT-BN of Hoffer et al. 2017)",
		Input: graph.Dims{H: 224, W: 224, C: 3}})
	for suffix, norms := range map[string]alexNorms{"": {conv: true}, "-nobn": {}} {
		register(Family{Pattern: `alexnet-cifar` + suffix, Examples: []string{"alexnet-cifar" + suffix}, Input: cifar,
			Doc: "AlexNet with an 11x11/4 stem and a single linear layer for 32x32 images (Devarakonda et al. 2017, AdaBatch), " + norms.describe(),
			Build: func(n *graph.Network, _ []int) (graph.Value, error) {
				return cifarAlexNet(n, norms), nil
			}})
	}
	for suffix, norms := range map[string]alexNorms{"": {conv: true, linear: true}, "-convbn": {conv: true}, "-nobn": {}} {
		register(Family{Pattern: `alexnet-reduced` + suffix, Examples: []string{"alexnet-reduced" + suffix}, Input: cifar,
			Doc: "reduced AlexNet for 32x32 images (Masters and Luschi 2018), " + norms.describe(),
			Build: func(n *graph.Network, _ []int) (graph.Value, error) {
				return reducedAlexNet(n, norms), nil
			}})
	}
}

// imageNetAlexNet is layer by layer AlexNetOWT_BN of Hoffer's convNet.pytorch, names included: it
// pools before it normalises, and normalises before ReLU in the first layer and the linear ones only.
func imageNetAlexNet(n *graph.Network, _ []int) (graph.Value, error) {
	pool := graph.Square(3, 2, 0)
	x := n.Conv2D("features.0", n.In(), 64, graph.Square(11, 4, 2), graph.ConvOptions{})
	x = n.ReLU(n.BatchNorm("features.2", n.MaxPool(x, pool)))
	x = n.Conv2D("features.4", x, 192, graph.Square(5, 1, 2), graph.ConvOptions{})
	x = n.BatchNorm("features.7", n.ReLU(n.MaxPool(x, pool)))
	x = n.BatchNorm("features.10", n.ReLU(conv3x3(n, "features.8", x, 384, 1)))
	x = n.BatchNorm("features.13", n.ReLU(conv3x3(n, "features.11", x, 256, 1)))
	x = n.MaxPool(conv3x3(n, "features.14", x, 256, 1), pool)
	x = n.BatchNorm("features.17", n.ReLU(x))
	for _, layer := range []int{0, 4} {
		x = n.LinearWithoutBias(fmt.Sprintf("classifier.%d", layer), x, 4096)
		x = n.Dropout(n.ReLU(n.BatchNorm(fmt.Sprintf("classifier.%d", layer+1), x)), 0.5)
	}
	return n.Linear("classifier.8", x, n.Classes), nil
}

// alexNorms says which layers of a small AlexNet are normalised. A normalised layer has no bias.
type alexNorms struct{ conv, linear bool }

func (o alexNorms) describe() string {
	switch {
	case o.linear:
		return "all hidden layers normalised"
	case o.conv:
		return "convolutions normalised"
	}
	return "not normalised"
}

// cifarAlexNet is the network of AdaBatch's code (there without normalisation), whose names it has
// where nothing is normalised. The normalisation, in front of ReLU, is ours.
func cifarAlexNet(n *graph.Network, norms alexNorms) graph.Value {
	b := alexBuilder{n: n, norms: norms, pool: graph.Square(2, 2, 0)}
	x := b.conv(n.In(), 64, graph.Square(11, 4, 5), true)
	x = b.conv(x, 192, graph.Square(5, 1, 2), true)
	x = b.conv(x, 384, graph.Square(3, 1, 1), false)
	x = b.conv(x, 256, graph.Square(3, 1, 1), false)
	x = b.conv(x, 256, graph.Square(3, 1, 1), true)
	return n.Linear("classifier", x, n.Classes)
}

// reducedAlexNet has the paper's kernel sizes and channels, stride 1, and two hidden linear layers of
// 256. No code was published: the paddings that keep the size, and 3x3/2 pooling after the first,
// second and fifth convolution as in AlexNet, are our reading. There is no dropout.
func reducedAlexNet(n *graph.Network, norms alexNorms) graph.Value {
	b := alexBuilder{n: n, norms: norms, pool: graph.Square(3, 2, 0)}
	x := b.conv(n.In(), 16, graph.Square(5, 1, 2), true)
	x = b.conv(x, 48, graph.Square(3, 1, 1), true)
	x = b.conv(x, 96, graph.Square(3, 1, 1), false)
	x = b.conv(x, 64, graph.Square(3, 1, 1), false)
	x = b.conv(x, 64, graph.Square(3, 1, 1), true)
	b.layer = 0
	x = b.linear(b.linear(x, 256), 256)
	return n.Linear(fmt.Sprintf("classifier.%d", b.layer), x, n.Classes)
}

// alexBuilder numbers layers as nn.Sequential does.
type alexBuilder struct {
	n     *graph.Network
	norms alexNorms
	pool  graph.Window
	layer int
}

func (b *alexBuilder) conv(x graph.Value, k int, w graph.Window, pooled bool) graph.Value {
	x = b.n.Conv2D(b.name("features"), x, k, w, graph.ConvOptions{Bias: !b.norms.conv})
	x = b.activate("features", x, b.norms.conv)
	if pooled {
		x = b.n.MaxPool(x, b.pool)
		b.layer++
	}
	return x
}

func (b *alexBuilder) linear(x graph.Value, k int) graph.Value {
	if b.norms.linear {
		x = b.n.LinearWithoutBias(b.name("classifier"), x, k)
	} else {
		x = b.n.Linear(b.name("classifier"), x, k)
	}
	return b.activate("classifier", x, b.norms.linear)
}

func (b *alexBuilder) activate(part string, x graph.Value, normalised bool) graph.Value {
	if normalised {
		x = b.n.BatchNorm(b.name(part), x)
	}
	b.layer++
	return b.n.ReLU(x)
}

// name returns the next layer's name.
func (b *alexBuilder) name(part string) string {
	b.layer++
	return fmt.Sprintf("%s.%d", part, b.layer-1)
}
