//go:build !unix

package telemetry

// PeakMemory returns 0: this system does not say how much memory a process has had.
func PeakMemory() int64 { return 0 }
