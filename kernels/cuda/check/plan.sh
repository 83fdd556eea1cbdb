# plan.sh: the steps of run.sh, in order of value: whether the kernels are right, then how fast they are, then the rest.
# Every host has the same numbers.
# shellcheck shell=bash disable=SC2154,SC2046,SC2206 # what run.sh sets; flags are to be split into words

export BROADSIDE_TEST_DEVICE=cuda PATH=$PATH:/usr/local/cuda/bin
python=${PYTHON:-python3}

# torch: whether Python has PyTorch. nccl: its libnccl. Importing it would take seconds.
torch='' nccl=${BROADSIDE_LIBNCCL:-}
if found=$(timeout -k 5 20 "$python" - 2> /dev/null <<'PYTHON'
import importlib.util, pathlib, sys
torch = importlib.util.find_spec("torch")
if torch is None:
    sys.exit(1)
places = [pathlib.Path(torch.origin).parent / "lib"]
try:
    places += [pathlib.Path(p) / "lib" for p in importlib.util.find_spec("nvidia.nccl").submodule_search_locations]
except (AttributeError, ModuleNotFoundError):
    pass
print(next((p / "libnccl.so.2" for p in places if (p / "libnccl.so.2").exists()), ""))
PYTHON
); then
  torch=1 nccl=${nccl:-$found}
fi

sanitizer=$(command -v compute-sanitizer || true)

if [ -z "${SMOKE:-}" ]; then
  big=resnet50 small=resnet20 size=() seconds=(--time 8s) runs=(--runs 20 --time 2 --repetitions 2) gpu=cuda f32=f32,tf32
  short=() epochs=(--set train.epochs=2) goldens='PyTorch|Golden'
  images() { echo "$1" "$2" --leaf "$3"; } # FLAG N LEAF: of a benchmark of ours
  samples() { echo "$1" "$2"; }            # FLAG N: of PyTorch's
else
  big=resnet8 small=resnet8 size=(--image 8) seconds=(--time 1ms) runs=(--runs 2 --time 0 --repetitions 2) gpu=cpu f32=f32
  short=(-test.short) goldens='StepSizesAgreeWithPyTorch|GhostNormAgreesWithPyTorch|SecondGradientAgreesWithPyTorch'
  epochs=(--set train.epochs=1 --set data.train_limit=64 --set data.test_limit=16 --set methods.absa.probe_samples=16)
  images() { echo "$1" 2 --leaf 2; }
  samples() { echo "$1" 2; }
fi

# tests NAME LIMIT DIR BINARY PATTERN FLAG...: Go's tests of a pattern.
tests() { step "$1" "$2" "$3" "./$4.test" -test.v -test.run "$5" "${@:6}"; }

# conv NAME LIMIT PART: the convolutions' conformance, with the kernels of compute capability 9.0 and without.
conv() {
  tests "conformance of convolutions, $1" "$2" cgo/cuda cuda "TestConformance\$/^conv2d/^$3\$"
  tests "conformance of convolutions, $1, without Hopper kernels" "$2" cgo/cuda cuda "TestConformanceWithoutHopper\$/^conv2d/^$3\$"
}

# bench NAME LIMIT ARGS...: a benchmark of ours.
bench() { step "$1" "$2" . bin/broadside-cuda bench "${@:3}" "${size[@]}" --device cuda "${seconds[@]}" --stream; }

# layers PRECISION LIMIT: each layer alone, with the kernels of compute capability 9.0 and without.
layers() {
  local args=(bin/broadside-cuda bench kernels --shapes $big --precision "$1" --device cuda "${size[@]}" "${seconds[@]}" --stream)
  read -ra batch <<< "$(samples --batch 256)"
  step "layers of ResNet-50, $1" "$2" . "${args[@]}" "${batch[@]}"
  step "layers of ResNet-50, $1, without Hopper kernels" "$2" . env BROADSIDE_CUDA_HOPPER=0 "${args[@]}" "${batch[@]}"
}

# peer NAME LIMIT SCRIPT ARGS...: a benchmark of PyTorch's.
peer() {
  if [ -n "$torch" ]; then
    step "PyTorch: $1" "$2" bench "$python" "$3.py" "${@:4}" "${size[@]}" --device $gpu "${runs[@]}" --stream
  else
    skip "PyTorch: $1" "$2" 'no PyTorch here'
  fi
}

# sanitize TOOL LIMIT: a tool of compute-sanitizer on a few shapes, each of whose launches takes many times as long.
sanitize() {
  if [ -n "$sanitizer" ]; then
    step "$1" "$2" cgo/cuda "$sanitizer" --tool "$1" --error-exitcode 9 --print-limit 20 ./cuda.test -test.v \
      -test.run 'TestConformance$/^conv2d_(forward|backward_input)$/^strided$'
  else
    skip "$1" "$2" 'no compute-sanitizer here'
  fi
}

step doctor 20 . bin/broadside-cuda doctor
if grep -qs 'none that can be used' "$output"; then
  end 'no GPU that can be used: nothing was checked'
fi
# Whatever is not there says so in its place.
# shellcheck disable=SC2016
step 'names and versions' 30 . bash -c 'cat revision; uname -srm; ldd --version | head -1; nproc
  nvidia-smi; nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit --format=csv
  nvcc --version | tail -2; "$1" --version
  "$1" -c "import torch; print(torch.__version__, torch.version.cuda, torch.backends.cudnn.version(), torch.cuda.is_available())"
  true' names "$python"

conv 'strided' 20 strided
conv 'unit stride' 25 unit_stride

layers bf16 25
layers tf32 25

# One leaf is the whole batch, so that both sides normalise over the same samples; leaves of 64 need a quarter of the memory.
for precision in bf16 f32 tf32; do
  bench "ResNet-50, $precision" 30 step --model $big $(images --batch 256 256) --precision $precision
done
bench 'ResNet-50, bf16, leaves of 64' 25 step --model $big $(images --batch 256 64) --precision bf16
peer 'ResNet-50, eager' 60 pytorch_step --model $big $(samples --batch 256) --precision bf16,$f32
peer 'ResNet-50, compiled, bf16' 90 pytorch_step --model $big $(samples --batch 256) --precision bf16 --compile
peer 'ResNet-50, compiled, f32' 60 pytorch_step --model $big $(samples --batch 256) --precision f32 --compile

for precision in bf16 f32; do
  bench "ResNet-20, $precision" 20 step --model $small $(images --batch 1024 1024) --precision $precision
done
bench 'ResNet-20, bf16, leaves of 128' 20 step --model $small $(images --batch 1024 128) --precision bf16
peer 'ResNet-20, eager' 35 pytorch_step --model $small $(samples --batch 1024) --precision bf16,$f32
peer 'ResNet-20, compiled' 70 pytorch_step --model $small $(samples --batch 1024) --precision bf16,f32 --compile

tests 'conformance of the other kernels' 20 cgo/cuda cuda 'TestConformance$' -test.skip 'TestConformance$/^conv2d/stride'
tests 'streams, graphs and memory' 20 cgo/cuda cuda 'Test[^C]'
tests 'goldens of networks' 25 engine/graph graph 'Golden|Derivative|SGD|Eigen|Attack' "${short[@]}"
tests 'goldens of PyTorch' 25 engine engine "$goldens" "${short[@]}"

tests 'a run again has the same bits' 15 engine engine 'TestRerunIsBitEqual' "${short[@]}"
tests 'several streams have the bits of one' 20 engine engine 'TestDeviceCountDoesNotChangeBits' -test.short
step 'several streams have the bits of one, without graphs' 20 engine env BROADSIDE_CUDA_GRAPHS=0 \
  ./engine.test -test.v -test.short -test.run TestDeviceCountDoesNotChangeBits
tests 'a resumed run has the same bits' 20 engine engine 'TestResumeIsBitEqual' -test.short

if [ -n "$nccl" ]; then
  step 'NCCL: one rank beside the tree' 20 engine/collective/nccl env BROADSIDE_LIBNCCL="$nccl" NCCL_DEBUG=WARN ./nccl.test -test.v \
    -test.run 'TestOneRankIsTheTree$|TestCollectives$/^of_1$'
else
  skip 'NCCL: one rank beside the tree' 20 'no libnccl.so.2 of PyTorch here'
fi

sanitize memcheck 35
sanitize racecheck 35

bench 'Hessian products, ResNet-20' 20 hvp --model $small $(images --samples 1024 1024)
peer 'Hessian products, ResNet-20' 30 pytorch_hvp --model $small $(samples --samples 1024)

tests 'losses of 100 updates beside a CPU' 30 engine engine 'TestLossCurveOnGPUIsThatOnCPU' "${short[@]}"
# A run directory is trained in once.
# shellcheck disable=SC2016
step 'training by the command line' 25 . bash -c 'rm -rf "$0" && exec bin/broadside-cuda train quickstart --device cuda "$@" --run "$0" --json' \
  "$out/quickstart" "${epochs[@]}"
