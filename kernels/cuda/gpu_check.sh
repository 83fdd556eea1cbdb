#!/usr/bin/env bash
# run.sh [RESULTS]: everything that Broadside's CUDA build can check and measure on this host, in one results file
# (default results.txt beside this script). Exits with 1 if a check failed. Nothing but NVIDIA's driver is needed.
#
# QUICK=1 leaves out compute-sanitizer and shortens the benchmarks.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=$(realpath -m "${1:-$here/results.txt}")
failed=()
: > "$results"

say() { echo "$@" | tee -a "$results"; }

# step NAME DIR COMMAND...: runs a command in a folder; its output and time go to the results.
step() {
  local name=$1 dir=$2 start=$SECONDS status=0
  shift 2
  say "== $name: $*"
  (cd "$here/$dir" && "$@") 2>&1 | tee -a "$results" || status=$?
  say "== $name: $([ $status -eq 0 ] && echo passed || echo "FAILED, status $status"), $((SECONDS - start)) s"
  say
  [ $status -eq 0 ] || failed+=("$name")
}

say "Broadside $(cat "$here/revision"), $(date -u +%FT%TZ), $(uname -srm)"
command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv 2>&1 | tee -a "$results"
say
step doctor . bin/broadside-cuda doctor
if grep -q 'none that can be used' "$results"; then
  say "no GPU that can be used: nothing was checked"
  exit 1
fi

export BROADSIDE_TEST_DEVICE=cuda
step device cgo/cuda ./cuda.test -test.v -test.run 'Test[^C]'
step 'NCCL, where libnccl.so.2 is installed' engine/collective/nccl ./nccl.test -test.v
step conformance cgo/cuda ./cuda.test -test.v -test.run 'TestConformance$'
step 'conformance without Hopper kernels' cgo/cuda ./cuda.test -test.v -test.run TestConformanceWithoutHopper
step goldens engine/graph ./graph.test -test.v -test.run 'Golden|Derivative|SGD|Eigen|Attack'
step 'one device against several' engine ./engine.test -test.v -test.run TestDeviceCountDoesNotChangeBits
step 'run against re-run' engine ./engine.test -test.v -test.run TestRerunIsBitEqual
step 'resume' engine ./engine.test -test.v -test.run TestResumeIsBitEqual
step 'checkpoint of PyTorch' engine ./engine.test -test.v -test.run 'PyTorch|Golden'
step 'without graphs' engine env BROADSIDE_CUDA_GRAPHS=0 ./engine.test -test.v -test.short -test.run TestDeviceCountDoesNotChangeBits

# 100 updates on the GPU and on the CPU, to compare the losses.
rm -rf "$here/runs"
for device in cuda cpu; do
  step "100 updates on $device" . bin/broadside-cuda train quickstart --device $device --set train.epochs=2 --run "runs/$device"
done

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2> /dev/null || true)
if [ -n "${QUICK:-}" ]; then
  say '== compute-sanitizer: left out (QUICK)'
elif [ -z "$sanitizer" ]; then
  say '== compute-sanitizer: not on this host; memcheck and racecheck did NOT run'
else
  for tool in memcheck racecheck; do
    step "$tool" cgo/cuda "$sanitizer" --tool $tool --error-exitcode 9 --print-limit 20 ./cuda.test -test.run 'TestConformance$'
  done
fi

time=$([ -n "${QUICK:-}" ] && echo 2s || echo 10s)
for precision in f32 tf32 bf16; do
  step "bench step resnet20 $precision" . bin/broadside-cuda bench step --device cuda --model resnet20 --batch 1024 --leaf 1024 --precision $precision --time "$time"
  step "bench step resnet18-cifar $precision" . bin/broadside-cuda bench step --device cuda --model resnet18-cifar --batch 1024 --leaf 1024 --precision $precision --time "$time"
  step "bench kernels resnet50 $precision" . bin/broadside-cuda bench kernels --device cuda --shapes resnet50 --leaf 64 --precision $precision --time "$time"
done
# What the kernels of compute capability 9.0 gain, where this is one.
for precision in tf32 bf16; do
  step "bench kernels resnet50 $precision without Hopper kernels" . env BROADSIDE_CUDA_HOPPER=0 bin/broadside-cuda bench kernels --device cuda --shapes resnet50 --leaf 64 --precision $precision --time "$time"
done
step 'bench step resnet50' . bin/broadside-cuda bench step --device cuda --model resnet50 --batch 256 --leaf 64 --precision bf16 --time "$time"
step 'bench hvp' . bin/broadside-cuda bench hvp --device cuda --model resnet20 --samples 1024 --time "$time"

if [ ${#failed[@]} -gt 0 ]; then
  say "FAILED: ${failed[*]}"
  exit 1
fi
say "all checks passed"
