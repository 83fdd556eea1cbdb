#!/usr/bin/env bash
# Cross-compiles the kernels for arm64 and runs the conformance suite and the golden vectors on their
# NEON code under qemu-user. Some minutes. It installs nothing; on Debian: apt install
# g++-aarch64-linux-gnu qemu-user.
set -euo pipefail
cd "$(dirname "$0")/../.."

PREFIX=${PREFIX:-aarch64-linux-gnu}
QEMU=${QEMU:-qemu-aarch64}
missing=()
for tool in "$PREFIX-gcc" "$PREFIX-g++" "$QEMU" go; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ ${#missing[@]} -gt 0 ]; then
  echo "test-arm64 needs: ${missing[*]} (on Debian: apt install g++-aarch64-linux-gnu qemu-user)"
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run PACKAGE [FLAGS]: the package's tests, built for arm64.
run() {
  local package=$1
  shift
  CGO_ENABLED=1 GOOS=linux GOARCH=arm64 CC=$PREFIX-gcc CXX=$PREFIX-g++ go test -c -o "$work/test" "./$package"
  echo "$package"
  (cd "$package" && "$QEMU" -L "/usr/$PREFIX" "$work/test" -test.timeout 0 "$@")
}

run kernels/cpu
run kernels/conformance -test.run TestCPU
run cgo/cpu
run engine/graph -test.run 'Golden.*/cpu/(resnet8|f1|resnet20)'
