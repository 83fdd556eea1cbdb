// Package join joins memories by the name of a way, as the command line gives it.
package join

import (
	"time"

	"broadside/engine/collective"
	"broadside/engine/collective/local"
	"broadside/engine/suggest"
	"broadside/kernels"
)

// Default is the way that has the same bits for any number of memories.
const Default = "tree"

// Names lists the ways.
func Names() []string { return []string{"tree", "ring"} }

// Check refuses a name that is none of a way.
func Check(name string) error {
	for _, known := range Names() {
		if name == known {
			return nil
		}
	}
	return suggest.Unknown("all-reduce", name, Names())
}

// Memories joins the memories of devices of this process, one rank for each. The devices stay their owner's.
func Memories(name string, devices []kernels.Device, timeout time.Duration) ([]collective.Comm, error) {
	if name == "" {
		name = Default
	}
	if err := Check(name); err != nil {
		return nil, err
	}
	algorithm := local.Tree
	if name == local.Ring.String() {
		algorithm = local.Ring
	}
	return local.New(devices, local.Options{Algorithm: algorithm, Timeout: timeout})
}
