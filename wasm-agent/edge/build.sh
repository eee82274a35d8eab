#!/bin/bash
# Builds aquifer-edge as one static file for small devices, and says how large it is.
#
#   wasm-agent/edge/build.sh [TARGET]
#
# TARGET is x86_64-unknown-linux-gnu if nothing is said; with the musl target of rustup installed, a musl one
# works too. A file of more than 4 MB is a failure.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/../.."

target="${1:-x86_64-unknown-linux-gnu}"
most=4000000

# Static, and at one address.
export RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static"
# Equal functions are folded into one; tables for unwinding, which nothing does, are left out.
${CARGO:-cargo} rustc --locked --profile edge --package aquifer-edge --bin aquifer-edge --target "$target" -- \
    -C link-arg=-Wl,--icf=all -C link-arg=-Wl,--no-eh-frame-hdr -C link-arg="-Wl,-T,$here/no-unwinding.ld"

file="${CARGO_TARGET_DIR:-target}/$target/edge/aquifer-edge"
bytes="$(stat -c %s "$file")"
echo "$file: $bytes bytes"
[ "$bytes" -le "$most" ] || { echo "more than $most"; exit 1; }
