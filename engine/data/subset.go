package data

// Balanced returns a copy of n images with as equal a number of each class as the set allows, in the
// set's order. It takes the first image of every class, then the second of every class, and so on,
// until it has n; a class that runs out is passed over. All images when n is 0 or less, or more than
// there are.
func (s *Set) Balanced(n int) *Set {
	if n <= 0 || n >= s.Len() {
		return s
	}
	quota := s.quotas(n)
	t := *s
	t.Mapped = false
	t.Labels = make([]int32, 0, n)
	keep := make([]int32, 0, n)
	for i, y := range s.Labels {
		if quota[y] > 0 {
			quota[y]--
			keep, t.Labels = append(keep, int32(i)), append(t.Labels, y)
		}
	}
	if s.Source != nil {
		t.Source = s.Source.Subset(keep)
	}
	if s.Streamed() {
		return &t
	}
	t.Images = make([]byte, 0, n*s.ImageBytes())
	for _, i := range keep {
		t.Images = append(t.Images, s.Image(int(i))...)
	}
	return &t
}

// quotas shares n images out over the classes, one round at a time. n is at most Len.
func (s *Set) quotas(n int) []int {
	have := s.ClassCounts()
	quota := make([]int, s.Classes)
	for n > 0 {
		for y := range quota {
			if n > 0 && quota[y] < have[y] {
				quota[y]++
				n--
			}
		}
	}
	return quota
}

// Limit returns the pair with each set cut down to a balanced subset of the given size (see
// [Set.Balanced]); 0 keeps all.
func (p *Pair) Limit(train, test int) *Pair {
	return &Pair{Train: p.Train.Balanced(train), Test: p.Test.Balanced(test)}
}
