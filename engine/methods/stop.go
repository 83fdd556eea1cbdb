package methods

// Stopper may end the recipe's training at the end of an epoch, after the ends of the epoch of all methods: the run then
// ends with the network that the epoch before ended with. The first epoch is never the last one by this.
type Stopper interface {
	Stops() (why string, stop bool)
}
