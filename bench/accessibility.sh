#!/usr/bin/env bash
# Checks the page of `broadside serve`, a report and a comparison with axe-core in Chromium: in light and dark, wide and on a phone.
# Needs npm, which gets axe-core, and Chromium (BROADSIDE_CHROMIUM or in the path).
set -euo pipefail
cd "$(dirname "$0")/.."
version=4.14.1
dir=$PWD/build/axe
[ -f "$dir/node_modules/axe-core/axe.min.js" ] || npm install --prefix "$dir" --no-save --silent "axe-core@$version"
BROADSIDE_AXE=$dir/node_modules/axe-core/axe.min.js go test -count=1 -v -run TestAccessibility ./engine/dashboard
