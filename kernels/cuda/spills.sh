#!/usr/bin/env bash
# spills.sh LOG...: what ptxas -v said of register spills, for each kernel and architecture; all that spill, then how
# many there are. And what it said of instructions of sm_90a that it slows down or ignores (C75xx).
set -euo pipefail
awk '
  /\(C75[0-9][0-9]\)/ { print }
  /Compiling entry function/ { kernel = $7; arch = $9; gsub(/\047/, "", kernel); gsub(/\047/, "", arch) }
  /bytes spill stores/ {
    for (i = 1; i <= NF; i++) if ($i == "spill") { if ($(i+1) ~ /stores/) stores = $(i-2); else loads = $(i-2) }
    if (kernel == "") next
    kernels++
    if (stores + loads == 0) { kernel = ""; next }
    spilled++
    printf "%s %s: %d bytes stored, %d bytes loaded\n", arch, kernel, stores, loads
    kernel = ""
  }
  END { printf "%d of %d kernels spill registers\n", spilled, kernels }' "$@" | { command -v c++filt > /dev/null && c++filt || cat; }
