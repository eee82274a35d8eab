#!/bin/sh
# Weighs the kernel: builds a program with it and the same program without, and compares the bytes of
# machine code (.text). Fails above LIMIT, or if any path for panic is left in the program.
# Not counted: memcpy, memset, memmove and bcmp, which every platform has; constants (.rodata) are
# printed.
set -eu
LIMIT=10240
cd "$(dirname "$0")/size"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/../../../target}/kernel-size"
library="$CARGO_TARGET_DIR/release/libaquifer_kernel_size.so"

section() { size -A "$library" | awk -v name="$1" '$1 == name { bytes = $2 } END { print bytes + 0 }'; }

cargo build --quiet --release
without=$(section .text)
cargo build --quiet --release --features kernel
with=$(section .text)
constants=$(section .rodata)
kernel=$((with - without))
echo "kernel: $kernel bytes of code, $constants of constants; limit $LIMIT"
if nm "$library" | grep -qi panic; then
    echo "the kernel has a path for panic" >&2
    exit 1
fi
[ "$kernel" -le "$LIMIT" ] || { echo "the kernel is too large" >&2; exit 1; }
