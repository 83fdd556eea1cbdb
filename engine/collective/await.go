package collective

import "time"

// Await waits until done is closed, as long as whoever is to close it gives signs of life: alive returns when the last
// one was. It reports false if there was none for the limit.
func Await(done <-chan struct{}, limit time.Duration, alive func() time.Time) bool {
	for {
		seen := alive()
		timer := time.NewTimer(time.Until(seen.Add(limit)))
		select {
		case <-done:
			timer.Stop()
			return true
		case <-timer.C:
		}
		if alive().Equal(seen) {
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
	}
}
