// Package ref computes every kernel of broadside.h in float64 with plain loops. It is the oracle that
// the conformance suite holds all other implementations to, and a [kernels.Device] of its own, so that
// whole networks can be run in double precision.
//
// A cell is one float64 here, whatever it holds: a float, an integer as its value, or a double (in
// the first of its two cells). [Layout] states the arguments of each kernel as data.
//
// The functions of the kernels trust their arguments; the Device checks them.
package ref
