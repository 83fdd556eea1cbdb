#!/usr/bin/env bash
# Runs the conformance suite and the golden vectors on the AVX-512 kernels inside Bochs, a processor
# emulator, for machines without AVX-512. Some minutes. It installs nothing; what it needs:
#
#   Bochs 3 or newer, built with --enable-cpu-level=6 --enable-x86-64 --enable-avx --enable-evex
#     --with-nogui (BOCHS names it; Debian's 2.7 has no display for a machine without a screen)
#   a Linux kernel with a serial console and devtmpfs, uncompressed initrd (KERNEL, default /boot/vmlinuz)
#   isolinux, syslinux-common, xorriso, cpio, and glibc's static libraries
#
# MODEL is Bochs' processor (default corei7_skylake_x: AVX-512 F, VL, DQ, BW, but no AVX512_BF16; under
# Bochs 3.0's newer models Linux 6.1 does not finish its start). OUT, if set, keeps the serial console's log
# there.
set -euo pipefail
cd "$(dirname "$0")/../.."

BOCHS=${BOCHS:-bochs}
KERNEL=${KERNEL:-/boot/vmlinuz}
MODEL=${MODEL:-corei7_skylake_x}
ISOLINUX=${ISOLINUX:-/usr/lib/ISOLINUX/isolinux.bin}
LDLINUX=${LDLINUX:-/usr/lib/syslinux/modules/bios/ldlinux.c32}

missing=()
for tool in "$BOCHS" xorriso cpio go gcc; do command -v "$tool" >/dev/null || missing+=("$tool"); done
for file in "$KERNEL" "$ISOLINUX" "$LDLINUX"; do [ -r "$file" ] || missing+=("$file"); done
if [ ${#missing[@]} -gt 0 ]; then
  echo "test-avx512-emulated needs: ${missing[*]}"
  echo "(the head of kernels/emulate/avx512.sh says where they come from)"
  exit 2
fi
BIOS=${BIOS:-$(dirname "$(dirname "$(command -v "$BOCHS")")")/share/bochs}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root/kernels/conformance" "$root/engine/graph" "$root/testdata" "$work/iso"
static=(-ldflags '-linkmode external -extldflags "-static"')
CGO_ENABLED=1 go test -c "${static[@]}" -o "$root/conformance.test" ./kernels/conformance 2>"$work/link.log" &&
  CGO_ENABLED=1 go test -c "${static[@]}" -o "$root/graph.test" ./engine/graph 2>>"$work/link.log" &&
  gcc -O2 -Wall -static -o "$root/init" kernels/emulate/init.c || { cat "$work/link.log"; exit 1; }
cp -r testdata/golden "$root/testdata/"
cat >"$root/commands" <<'EOF'
cd=/kernels/conformance /conformance.test -test.run TestCPU/avx512 -test.v -test.timeout 0
cd=/engine/graph BROADSIDE_ISA=avx512 /graph.test -test.run Golden.*/cpu/(resnet8|f1|resnet20) -test.v -test.timeout 0
EOF

cp "$KERNEL" "$work/iso/vmlinuz"
cp "$ISOLINUX" "$LDLINUX" "$work/iso/"
(cd "$root" && find . | cpio -o -H newc --quiet) >"$work/iso/initrd"
cat >"$work/iso/isolinux.cfg" <<'EOF'
default test
label test
 kernel vmlinuz
 initrd initrd
 append console=ttyS0 mitigations=off nokaslr nosmp panic=-1 tsc=reliable lsm=capability
EOF
xorriso -as mkisofs -quiet -o "$work/boot.iso" -b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 \
  -boot-info-table "$work/iso" 2>"$work/xorriso.log" || { cat "$work/xorriso.log"; exit 1; }
cat >"$work/bochsrc" <<EOF
display_library: nogui
memory: guest=1024, host=1024
romimage: file=$BIOS/BIOS-bochs-latest
vgaromimage: file=$BIOS/VGABIOS-lgpl-latest.bin
cpu: model=$MODEL, count=1, ips=100000000, reset_on_triple_fault=0
clock: sync=none
ata0-master: type=cdrom, path=$work/boot.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial.log
log: $work/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
EOF
# Bochs' own exit status says nothing about the tests: the console's log does.
timeout "${TIMEOUT:-3600}" "$BOCHS" -q -f "$work/bochsrc" >"$work/out.log" 2>&1 </dev/null || true
[ -z "${OUT:-}" ] || cp "$work/serial.log" "$OUT" || true
tr -d '\r' <"$work/serial.log" >"$work/console.log" || { tail -n 20 "$work/out.log" "$work/bochs.log"; exit 1; }
grep -aE '^( *--- |PASS|FAIL|RUN |EXIT |END| +[a-z_]+\.go:)' "$work/console.log" || true
if ! grep -aq '^END' "$work/console.log"; then
  echo 'the emulated machine stopped before its tests were done:'
  tail -n 20 "$work/console.log"
  exit 1
fi
[ "$(grep -ac '^EXIT 0' "$work/console.log")" = "$(wc -l <"$root/commands")" ] &&
  ! grep -aq 'no tests to run' "$work/console.log"
