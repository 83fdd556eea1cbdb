// Package wide adds a table to package cpu: avx512bf16's 64-byte vectors compiled for AVX2, so that any machine can
// test that code. Import it for that effect. It takes as long to compile as all other tables together and is slower
// than avx2, so that programs leave it out.
package wide

// #cgo CPPFLAGS: -I${SRCDIR}/.. -I${SRCDIR}/../..
// #cgo CXXFLAGS: -O3 -g1 -std=c++17 -fno-exceptions -fno-rtti -Wno-psabi
import "C"

import _ "broadside/kernels/cpu" // has the rest of the table: bs_cpu_run
