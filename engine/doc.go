// Package engine trains networks as recipes say: it is Broadside's public API.
//
// [Train] runs a recipe into a run directory, or resumes one. [OpenModel] loads a checkpoint to
// evaluate it or to measure the curvature of its loss.
//
// A step's batch is a fixed tree of small leaves. A leaf is a run of samples that one device computes
// alone; leaves are dealt to lanes, lanes to devices, and the lanes' sums are added in a fixed order.
// So the number of devices changes how long training takes and never its result.
package engine
