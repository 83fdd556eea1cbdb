#!/usr/bin/env bash
# run.sh [RESULTS]: everything that Broadside's CUDA build can check and measure on this host. RESULTS (default
# results.json beside this script) holds each step's outcome, time and output, and what the benchmarks measured; a
# file of the same name in .txt is for reading. Exits with 1 if a check failed. Nothing but NVIDIA's driver is needed.
#
# QUICK=1 leaves out compute-sanitizer and shortens the benchmarks.
# SMOKE=1 shows that every step runs, with short tests and tiny benchmarks whose numbers mean nothing: on an emulated
# GPU (BROADSIDE_LIBCUDA=libbroadside_emu.so).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=$(realpath -m "${1:-$here/results.json}")
log=${results%.json}.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=()
: > "$log"
: > "$work/steps"

say() { echo "$@" | tee -a "$log"; }

# json_string makes its input one JSON string.
json_string() {
  LC_ALL=C awk 'BEGIN { printf "\"" } { gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); gsub(/\t/, "\\t"); gsub(/[\001-\037]/, ""); printf "%s%s", (NR > 1 ? "\\n" : ""), $0 } END { printf "\"" }'
}

# step NAME DIR COMMAND...: runs a command in a folder; its output and time go to the results. Where the command prints
# JSON (--json) and succeeds, that goes there as it is.
step() {
  local name=$1 dir=$2 start=$SECONDS status=0 outcome=passed
  shift 2
  say "== $name: $*"
  if [[ " $* " == *' --json '* ]]; then
    (cd "$here/$dir" && "$@") > "$work/out" 2> "$work/err" || status=$?
    cat "$work/err" "$work/out" | tee -a "$log" | tail -3
  else
    : > "$work/err"
    (cd "$here/$dir" && "$@") 2>&1 | tee -a "$log" "$work/out" | tail -3 || status=$?
  fi
  [ $status -eq 0 ] || { outcome="FAILED, status $status" && failed+=("$name"); }
  say "== $name: $outcome, $((SECONDS - start)) s"
  say
  {
    printf '%s{"name": %s, "command": %s, "status": %d, "seconds": %d, ' "$([ -s "$work/steps" ] && echo ,)" \
      "$(echo -n "$name" | json_string)" "$(echo -n "$*" | json_string)" $status $((SECONDS - start))
    if [ $status -eq 0 ] && [[ " $* " == *' --json '* ]]; then
      printf '"result": ' && cat "$work/out"
    else
      printf '"output": ' && cat "$work/err" "$work/out" | json_string
    fi
    echo '}'
  } >> "$work/steps"
}

# finish writes the results and ends.
finish() {
  say "$1"
  {
    printf '{"revision": %s, "date": "%s", "system": "%s", "gpu": %s, "outcome": %s, "steps": [\n' "$(json_string < "$here/revision")" \
      "$date" "$(uname -srm)" "$(json_string < "$work/gpu")" "$(echo -n "$1" | json_string)"
    cat "$work/steps"
    echo ']}'
  } > "$results"
  exit "$2"
}

date=$(date -u +%FT%TZ)
say "Broadside $(cat "$here/revision"), $date, $(uname -srm)"
{ command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv 2>&1; } | tee -a "$log" > "$work/gpu"
say
step doctor . bin/broadside-cuda doctor
if grep -q 'none that can be used' "$log"; then
  finish "no GPU that can be used: nothing was checked" 1
fi

export BROADSIDE_TEST_DEVICE=cuda
short=() size=() layers=(--shapes resnet50 --batch 256) time=10s epochs=(--set train.epochs=2)
[ -z "${QUICK:-}" ] || time=2s
if [ -n "${SMOKE:-}" ]; then
  short=(-test.short) size=(--image 8) layers=(--shapes resnet8 --batch 2) time=1ms
  epochs=(--set train.epochs=1 --set data.train_limit=64 --set data.test_limit=16 --set methods.absa.probe_samples=16)
fi
# batch N: flags of a benchmark's batch, in one leaf.
batch() { if [ -n "${SMOKE:-}" ]; then echo "$1" 2 --leaf 2; else echo "$1" "$2" --leaf "$3"; fi; }

step device cgo/cuda ./cuda.test -test.v -test.run 'Test[^C]'
step 'NCCL, where libnccl.so.2 is installed' engine/collective/nccl ./nccl.test -test.v
step conformance cgo/cuda ./cuda.test -test.v -test.run 'TestConformance$'
step 'conformance without Hopper kernels' cgo/cuda ./cuda.test -test.v -test.run TestConformanceWithoutHopper
step goldens engine/graph ./graph.test -test.v -test.run 'Golden|Derivative|SGD|Eigen|Attack'
step 'one device against several' engine ./engine.test -test.v "${short[@]}" -test.run TestDeviceCountDoesNotChangeBits
step 'run against re-run' engine ./engine.test -test.v -test.run TestRerunIsBitEqual
step resume engine ./engine.test -test.v "${short[@]}" -test.run TestResumeIsBitEqual
step 'losses of 100 updates beside a CPU' engine ./engine.test -test.v "${short[@]}" -test.run TestLossCurveOnGPUIsThatOnCPU
[ -n "${SMOKE:-}" ] || step 'checkpoint of PyTorch' engine ./engine.test -test.v -test.run 'PyTorch|Golden'
step 'without graphs' engine env BROADSIDE_CUDA_GRAPHS=0 ./engine.test -test.v -test.short -test.run TestDeviceCountDoesNotChangeBits
rm -rf "$here/runs"
step 'training by the command line' . bin/broadside-cuda train quickstart --device cuda "${epochs[@]}" --run runs/quickstart --json

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null || true)
if [ -n "${QUICK:-}${SMOKE:-}" ]; then
  say '== compute-sanitizer: left out (QUICK, SMOKE)'
elif [ -z "$sanitizer" ]; then
  say '== compute-sanitizer: not on this host; memcheck and racecheck did NOT run'
else
  for tool in memcheck racecheck; do
    step "$tool" cgo/cuda "$sanitizer" --tool $tool --error-exitcode 9 --print-limit 20 ./cuda.test -test.run 'TestConformance$'
  done
fi

# bench ARGS...: a benchmark.
bench() { step "bench $*" . bin/broadside-cuda bench "$@" "${size[@]}" --device cuda --time "$time" --json; }

for precision in f32 tf32 bf16; do
  bench step --model resnet20 $(batch --batch 1024 1024) --precision $precision
  [ -n "${SMOKE:-}" ] || bench step --model resnet18-cifar $(batch --batch 1024 1024) --precision $precision
done
bench kernels "${layers[@]}"
# What the kernels of compute capability 9.0 gain, where this is one.
[ -n "${SMOKE:-}" ] || step 'bench kernels without Hopper kernels' . \
  env BROADSIDE_CUDA_HOPPER=0 bin/broadside-cuda bench kernels "${layers[@]}" --device cuda --time "$time" --json
[ -n "${SMOKE:-}" ] || bench step --model resnet50 $(batch --batch 256 64) --precision bf16
bench hvp --model resnet20 $(batch --samples 1024 1024)

if [ ${#failed[@]} -gt 0 ]; then
  finish "FAILED: ${failed[*]}" 1
fi
finish "all checks passed" 0
