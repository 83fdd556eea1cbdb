package engine

import (
	"errors"
	"fmt"
	"slices"

	"broadside/engine/collective"
	"broadside/engine/graph"
	"broadside/engine/methods"
	"broadside/kernels"
)

// syncNorm is batch normalisation by the statistics of all samples of an update. All its leaves run in lockstep, each in
// a seat of its own: piece by piece up to the next cut of the training Program, where their statistics are combined, in
// the order of the leaves. So the bits do not depend on who has computed them.
type syncNorm struct {
	fleet *fleet
	cuts  []graph.Cut
	row   int            // cells of what a leaf finds at a cut, at most
	joint kernels.Memory // the same of all leaves, at the cut under way
	stats []kernels.Memory
	plans map[int]*syncPlan // by leaves of an update
	step  lockstep
}

// syncPlan is what depends on the number of leaves.
type syncPlan struct {
	parts   kernels.Memory   // what the leaves find: a block of rows for each rank
	rows    []kernels.Memory // of each leaf, in the parts
	combine []kernels.Pass   // at each cut
}

// lockstep is the job of computing a piece of all leaves of an update.
type lockstep struct {
	*leaves
	plan   *syncPlan
	joint  kernels.Memory
	epochs []int // of each leaf
	piece  int
	pieces int
}

// prepareSync allocates what does not depend on the number of leaves.
func (f *fleet) prepareSync(p *graph.Program) (err error) {
	s := &syncNorm{fleet: f, cuts: p.Cuts, row: syncRow(p), plans: map[int]*syncPlan{}}
	f.sync = s
	if s.joint, err = f.dev.Alloc(s.row); err != nil {
		return fmt.Errorf("allocating batch statistics: %w", err)
	}
	stats, err := f.dev.Alloc(p.StatsCells)
	if err != nil {
		return fmt.Errorf("allocating batch statistics: %w", err)
	}
	s.stats = []kernels.Memory{stats}
	return nil
}

// syncRow is how many cells a leaf leaves at a cut, at most.
func syncRow(p *graph.Program) (cells int) {
	for _, cut := range p.Cuts {
		cells = max(cells, 2*cut.C)
	}
	return cells
}

// planFor returns the plan for so many leaves, which all processes make at the same time.
func (s *syncNorm) planFor(leaves int) (*syncPlan, error) {
	if p, ok := s.plans[leaves]; ok {
		return p, nil
	}
	p := &syncPlan{}
	s.plans[leaves] = p // from here on it is freed
	return p, s.fleet.agree(s.plan(p, leaves))
}

// plan readies the cuts for so many leaves.
func (s *syncNorm) plan(p *syncPlan, leaves int) (err error) {
	ranks := s.fleet.ranks
	rows := ceilDiv(leaves, ranks)
	if p.parts, err = s.fleet.dev.Alloc(rows * ranks * s.row); err != nil {
		return fmt.Errorf("allocating the statistics of %d leaves: %w", leaves, err)
	}
	for i := range leaves {
		p.rows = append(p.rows, p.parts.Slice((i%ranks*rows+i/ranks)*s.row, s.row))
	}
	for _, cut := range s.cuts {
		if leaves*cut.Values < 2 {
			return fmt.Errorf("a batch of 1 sample has no variance where activations are 1x1: use a batch.size of at least 2")
		}
		pass, err := s.fleet.prepare(cut.Combine(leaves, ranks, s.row))
		if err != nil {
			return err
		}
		p.combine = append(p.combine, pass)
	}
	return nil
}

// compute computes all leaves of an update, which are of the given epochs.
func (s *syncNorm) compute(j *leaves, epochs []int) error {
	p, err := s.planFor(len(epochs))
	if err != nil {
		return err
	}
	s.step = lockstep{leaves: j, plan: p, joint: s.joint, epochs: epochs, pieces: len(s.cuts) + 1}
	for ; s.step.piece < s.step.pieces; s.step.piece++ {
		if err == nil {
			err = s.fleet.do(&s.step)
		}
		if err != nil && !s.fleet.remote() {
			return err
		}
		// A process that has failed goes on with the collectives: the others find out behind them.
		if s.step.piece < len(s.cuts) {
			if e := s.combine(p, s.step.piece); e != nil {
				return errors.Join(err, e)
			}
		}
	}
	return s.fleet.publish(err, &j.results, 0)
}

// combine gives every rank what the leaves have found at a cut, and combines it.
func (s *syncNorm) combine(p *syncPlan, cut int) error {
	f := s.fleet
	if len(f.comms) > 0 {
		if err := f.collect(p.parts, collective.Comm.AllGather); err != nil {
			return err
		}
	}
	f.bases[graph.PartBase], f.bases[graph.JointBase], f.bases[graph.StatsBase] = p.parts, s.joint, s.stats[0]
	return p.combine[cut].Run(&f.bases)
}

func (s *syncNorm) free() {
	if s == nil {
		return
	}
	free(s.joint)
	free(s.stats...)
	for _, p := range s.plans {
		free(p.parts)
		for _, pass := range p.combine {
			pass.Free()
		}
	}
}

// run computes a piece of a worker's leaves, each at a seat of its own.
func (l *lockstep) run(w *worker) error {
	defer w.sit(0)
	size, seat := w.fleet.leaf.Capacity, 0
	for i := range l.loss {
		if !w.fleet.owns(w, i) {
			continue
		}
		w.sit(seat)
		seat++
		if err := l.leafPiece(w, i, l.indices[i*size:(i+1)*size]); err != nil {
			return err
		}
	}
	if l.piece < l.pieces-1 {
		return nil
	}
	return l.fetch(w)
}

func (l *lockstep) leafPiece(w *worker, i int, indices []int32) error {
	f := w.fleet
	p, err := w.program(programKey{kind: trainProgram, n: len(indices)}) // furnishes the seat
	if err != nil {
		return err
	}
	if l.piece == 0 {
		err = l.fill(w, i, indices)
	} else {
		err = w.begin()
	}
	if err != nil {
		return err
	}
	w.bind(f.train)
	w.bases[graph.GradBase] = f.sums.lane(w, i)
	w.bases[graph.PartBase], w.bases[graph.JointBase] = part(l.plan.rows[i], w.home), part(l.joint, w.home)
	if l.piece == 0 && f.begins(i) {
		if err := w.clear(); err != nil {
			return err
		}
	}
	if err := p.pieces[l.piece].Run(&w.bases); err != nil {
		return err
	}
	if l.piece == l.pieces-1 {
		l.read(w, i, len(indices))
	}
	return nil
}

// fill gathers the samples of a leaf and attacks them.
func (l *lockstep) fill(w *worker, i int, indices []int32) error {
	f, draw := w.fleet, l.draw
	draw.Epoch = l.epochs[i]
	if err := f.fault.strike(w, l.update); err != nil {
		return err
	}
	if err := w.gather(f.train, l.augment, draw, indices); err != nil {
		return err
	}
	return l.perturb(w, i, cleanView, indices)
}

// cutPieces prepares a synced training pass in pieces, from one cut to the next.
func (w *worker) cutPieces(p *program, calls []kernels.Call) error {
	done := 0
	for i := range len(p.Cuts) + 1 {
		end := len(calls)
		if i < len(p.Cuts) {
			end = p.Cuts[i].Calls
		}
		piece, err := w.dev.Prepare(calls[done:end])
		if err != nil {
			return fmt.Errorf("%s: %w", w.dev.Name(), err)
		}
		p.pieces = append(p.pieces, piece)
		done = end
	}
	return nil
}

// holdLeaves notes the next leaves, up to the end of the update or of the epoch, and computes them when the update is
// complete: an update that began in one epoch is computed in the next.
func (t *trainer) holdLeaves() error {
	size := t.fleet.leaf.Capacity
	count := t.nextLeaves()
	j := &t.job
	for i := range count {
		n := len(t.held) * size
		t.held = append(t.held, t.phaseEpoch())
		j.indices = slices.Grow(j.indices[:n], size)[:n+size]
		t.sampler.Leaf(t.phaseEpoch(), t.at.Leaf+i, j.indices[n:])
	}
	t.at.Leaf += count
	t.at.Samples += int64(count * size)
	t.pending.leaves += count
	t.pending.places += count
	t.pending.samples += count * size
	if t.pending.leaves < t.leavesPerUpdate() {
		return nil
	}
	return t.computeHeld()
}

// computeHeld computes the leaves that were held back.
func (t *trainer) computeHeld() error {
	if len(t.held) == 0 {
		return nil
	}
	j := &t.job
	j.draw, j.first, j.augment, j.update, j.attack = methods.Draw{Seed: t.cfg.seed}, 0, t.cfg.augment, t.at.Updates+1, t.attack()
	j.results.resize(len(t.held), t.fleet.leaf.Capacity)
	t.foresee(j, 0)
	if err := t.fleet.sync.compute(j, t.held); err != nil {
		return err
	}
	t.held = t.held[:0]
	for i, loss := range j.loss {
		t.count(loss, j.correct[i])
		t.pending.loss += loss
	}
	t.at.GradPasses += j.passes(t.fleet)
	return t.checkSums()
}

// computedLeaves is how many leaves have gone into the sums of the current epoch.
func (t *trainer) computedLeaves() int {
	return t.at.Leaf + t.at.Carried - len(t.held) - t.at.Watch.Lost
}

// besideSync is what a method may control where all leaves of an update run together. An attack it may, too, if that is
// one on leaves as they come.
var besideSync = []string{"batch", "schedule", "step rule"}

// checkSync refuses what does not go with statistics of a whole batch.
func (t *trainer) checkSync() error {
	if !t.fleet.syncBN {
		return nil
	}
	if len(t.fleet.net.Norms) == 0 {
		return fmt.Errorf("batch.sync_bn is true: model %s has no batch norm", t.fleet.net.Name)
	}
	for _, m := range t.methods {
		p, perturbs := m.Method.(methods.Perturber)
		if perturbs && p.Attack().TrainMode {
			return fmt.Errorf("method %s attacks by the statistics of a leaf, which with batch.sync_bn true are not those of training: drop one of them", m.info.Name)
		}
		for _, claim := range m.info.Claims {
			if !slices.Contains(besideSync, claim) && !(perturbs && claim == "attack") {
				return fmt.Errorf("method %s, which controls the %s, does not work with batch.sync_bn true: drop one of them", m.info.Name, claim)
			}
		}
	}
	if n := (control{t}).LargestBatch(); t.cfg.batch > n { // there would be epochs without a loss
		return fmt.Errorf("batch.size %d is more than an epoch of %d samples: with batch.sync_bn true use a smaller batch.size", t.cfg.batch, n)
	}
	return nil
}

// plannedBatch is the batch that memory is planned for. That of batch.sync_bn grows with the batch, so it is the largest
// that the recipe or a method asks for.
func (t *trainer) plannedBatch() int {
	size := t.cfg.batch
	for _, m := range t.methods {
		if g, ok := m.Method.(methods.Grower); ok && t.fleet.syncBN {
			size = max(size, g.LargestBatch())
		}
	}
	return size
}
