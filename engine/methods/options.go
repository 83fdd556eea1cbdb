package methods

import "fmt"

// Check is a condition on one option of a method; Need makes it.
type Check struct {
	ok   bool
	key  string
	got  any
	want string
}

// Need is the condition ok on an option; want says what would be right, as in "at least 1".
func Need(ok bool, key string, got any, want string) Check { return Check{ok, key, got, want} }

// CheckOptions returns an error for the first condition that does not hold.
func CheckOptions(method string, checks ...Check) error {
	for _, c := range checks {
		if !c.ok {
			return fmt.Errorf("methods.%s.%s is %v: must be %s", method, c.key, c.got, c.want)
		}
	}
	return nil
}

// CheckMaxBatch refuses a largest batch that the training cannot grow to.
func CheckMaxBatch(method string, size int, t Training) error {
	return CheckOptions(method,
		Need(size <= t.LargestBatch(), "max_batch", size, fmt.Sprintf("at most an epoch of whole leaves (%d samples): batch.drop_last or batch.sync_bn is true", t.LargestBatch())),
		Need(size >= t.BaseBatch() && size%t.Leaf() == 0, "max_batch", size,
			fmt.Sprintf("a multiple of batch.leaf (%d) and at least batch.size (%d)", t.Leaf(), t.BaseBatch())))
}
