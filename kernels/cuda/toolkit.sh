#!/usr/bin/env bash
# toolkit.sh DIR: CUDA's compiler, headers and static runtime from NVIDIA's Python packages, in DIR.
set -euo pipefail
dir=$1
version=13.0
# CUDA 13 is the first that has nvcc itself among its Python packages.
packages=()
for p in nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl; do packages+=("$p==$version.*"); done
if [ -x "$dir/bin/nvcc" ]; then
  echo "$dir has nvcc already"
  exit 0
fi
python3 -m pip --version > /dev/null || { echo 'python3 with pip is needed (Debian: apt-get install python3-pip)' >&2; exit 1; }
rm -rf "$dir.new"
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$dir.new/site" "${packages[@]}"
root=$(dirname "$(dirname "$(find "$dir.new/site" -path '*/bin/nvcc')")")
mv "$root"/* "$dir.new/"
rm -rf "$dir.new/site"
[ -e "$dir.new/lib64" ] || ln -s lib "$dir.new/lib64"
chmod +x "$dir.new"/bin/* "$dir.new"/nvvm/bin/*
rm -rf "$dir"
mv "$dir.new" "$dir"
"$dir/bin/nvcc" --version | tail -2
