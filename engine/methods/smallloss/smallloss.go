// Package smallloss discards the samples of an update whose loss is small, one of the two verifications of Gao and Zhong
// 2020 ("Study on the large batch size training of neural networks based on the second order gradient", arXiv 2012.08795;
// known to us by its abstract), and its random relative: Selective Backprop (Jiang et al. 2019, arXiv 1910.00762).
//
// An update begins with a forward pass over all its samples, in train mode: each ghost by its own statistics, which do
// not reach the running ones. The samples that are kept are then packed, in the order that they had, into fewer leaves
// and new ghosts, and the gradient is the mean over them. So the statistics that are learned are those of kept samples.
package smallloss

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"broadside/engine/internal/portable"
	"broadside/engine/methods"
	"broadside/kernels/philox"
)

// Options are the method's settings.
type Options struct {
	Keep      float64 `yaml:"keep" doc:"fraction of the samples to train on, rounded up to whole leaves; 1: all"`
	Rule      string  `yaml:"rule" doc:"largest: those of the largest losses; percentile: drawn without replacement, with weights (percentile of the loss)^(1/keep - 1); threshold: those of losses of min_loss or more, and the largest of the others to fill the last leaf, whatever keep is"`
	Mean      string  `yaml:"mean" doc:"what the gradient's sum over the kept samples is divided by: kept, their number; batch, that of all samples, as if the others had no gradient"`
	MinLoss   float64 `yaml:"min_loss" doc:"threshold: samples of smaller losses are discarded"`
	Start     float64 `yaml:"start" doc:"fraction of training after which samples are discarded"`
	End       float64 `yaml:"end" doc:"fraction of training after which none are discarded any more"`
	Interrupt int     `yaml:"interrupt" doc:"every so many updates one trains on all its samples; 0: none does"`
}

func init() {
	methods.Register(methods.Info{Name: "smallloss", Paper: "Gao and Zhong 2020, arXiv 2012.08795", Claims: []string{"samples"}, Status: "reconstruction",
		Equations: `l_n = loss of sample n of an update, before it
rule largest:     keep the keep B samples with the largest l_n; of equal ones the first
rule threshold:   keep all with l_n >= min_loss, and those with the largest l_n below it that fill up the last leaf; one leaf at least
rule percentile:  draw keep B without replacement, with weights p^(1/keep - 1), p = (rank of l_n - 1/2)/B
gradient = mean over the kept samples; mean batch: their sum by B
in updates u (from 1) with start <= epoch/epochs < end, and u not a multiple of interrupt`,
		Limits:  "needs batch.drop_last, and a batch of several leaves: what is kept is whole leaves; wrong labels have large losses and are kept first",
		Doc:     "train on the samples of each update whose loss is large",
		Cost:    "a forward pass over all samples; saves the gradient passes of those that are discarded",
		Options: func() any { return &Options{Keep: 0.5, Rule: "largest", Mean: "kept", End: 1} },
		New:     func(o any) (methods.Method, error) { return New(*o.(*Options)) }})
}

// Method discards samples.
type Method struct {
	opt   Options
	order []int     // places by loss, largest first
	keys  []float64 // of the random choice
}

var rules = []string{"largest", "percentile", "threshold"}

// New checks the options and makes the method.
func New(o Options) (*Method, error) {
	if err := methods.CheckOptions("smallloss",
		methods.Need(o.Keep > 0 && o.Keep <= 1, "keep", o.Keep, "above 0 and at most 1"),
		methods.Need(slices.Contains(rules, o.Rule), "rule", o.Rule, strings.Join(rules, ", ")),
		methods.Need(o.Mean == "kept" || o.Mean == "batch", "mean", o.Mean, "kept or batch"),
		methods.Need(o.MinLoss >= 0 && !math.IsInf(o.MinLoss, 0), "min_loss", o.MinLoss, "at least 0"),
		methods.Need(o.Rule != "threshold" || o.MinLoss > 0, "min_loss", o.MinLoss, "above 0 with rule threshold"),
		methods.Need(o.Start >= 0 && o.Start <= 1, "start", o.Start, "between 0 and 1"),
		methods.Need(o.End >= o.Start && o.End <= 1, "end", o.End, fmt.Sprintf("between start (%g) and 1", o.Start)),
		methods.Need(o.Interrupt >= 0 && o.Interrupt != 1, "interrupt", o.Interrupt, "0, or at least 2")); err != nil {
		return nil, err
	}
	return &Method{opt: o}, nil
}

// Prepare refuses batches whose kept part is all of them.
func (m *Method) Prepare(t methods.Training) error {
	leaves := t.BaseBatch() / t.Leaf()
	if m.opt.Rule == "threshold" {
		if leaves > 1 {
			return nil
		}
		return fmt.Errorf("methods.smallloss.rule is threshold: a batch of %d samples is one leaf, which is always kept; use a smaller batch.leaf or a larger batch.size", t.BaseBatch())
	}
	if m.opt.Keep < 1 && m.leaves(leaves) == leaves {
		return fmt.Errorf("methods.smallloss.keep is %g: a batch of %d samples in leaves of %d would keep all of them; use a smaller batch.leaf or a larger batch.size",
			m.opt.Keep, t.BaseBatch(), t.Leaf())
	}
	return nil
}

// leaves is how many of so many leaves are kept.
func (m *Method) leaves(all int) int { return max(1, int(math.Ceil(m.opt.Keep*float64(all)-1e-9))) }

// Keep returns how many leaves of the next update to keep.
func (m *Method) Keep(t methods.Training, leaves int) int {
	done := float64(t.Epoch()) / float64(t.Epochs())
	if done < m.opt.Start || done >= m.opt.End || m.opt.Interrupt > 0 && (t.Updates()+1)%m.opt.Interrupt == 0 {
		return leaves
	}
	if m.opt.Rule == "threshold" {
		return 0
	}
	return m.leaves(leaves)
}

// Count returns the leaves that the samples of losses from MinLoss on take.
func (m *Method) Count(losses []float32, leaf int) int {
	n := 0
	for _, loss := range losses {
		if float64(loss) >= m.opt.MinLoss {
			n++
		}
	}
	return max(1, (n+leaf-1)/leaf)
}

// OverAll is true where discarded samples count.
func (m *Method) OverAll() bool { return m.opt.Mean == "batch" }

// Select chooses the places to keep.
func (m *Method) Select(d methods.Draw, samples []int32, losses []float32, kept []int) {
	m.order = slices.Grow(m.order[:0], len(losses))[:len(losses)]
	for i := range m.order {
		m.order[i] = i
	}
	slices.SortFunc(m.order, func(a, b int) int { return cmp.Or(cmp.Compare(losses[b], losses[a]), a-b) })
	if m.opt.Rule == "percentile" {
		m.draw(d, samples)
	}
	copy(kept, m.order)
	slices.Sort(kept)
}

// draw reorders the places by a random key, of which the largest are a draw without replacement: log(u)/weight
// (Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir").
func (m *Method) draw(d methods.Draw, samples []int32) {
	n := len(m.order)
	m.keys = slices.Grow(m.keys[:0], n)[:n]
	key := philox.Key(d.Seed)
	for rank, place := range m.order {
		words := philox.Philox4x32(key, philox.Counter(0, uint32(samples[place]), uint32(d.Epoch), philox.Select, 0, 0))
		u := (float64(words[0]>>8) + 0.5) * 0x1p-24
		percentile := (float64(n-1-rank) + 0.5) / float64(n)
		m.keys[place] = math.Log(u) / portable.Pow(percentile, 1/m.opt.Keep-1)
	}
	slices.SortFunc(m.order, func(a, b int) int { return cmp.Or(cmp.Compare(m.keys[b], m.keys[a]), a-b) })
}
