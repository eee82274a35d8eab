#!/usr/bin/env bash
# Builds the example agents.
#
#   ./build.sh                 all of them, into modules/
#   ./build.sh --out FOLDER    ... into another folder
#   ./build.sh --check NAME    rebuilds one by route 2, and compares it with modules/SHA256SUMS:
#                              exit status 0 if equal, 1 if not, 2 if there is no route 2 here
#
# By the first route that works:
#   1. the toolchain's own target: rustup target add wasm32-unknown-unknown
#   2. Debian 12's rustc 1.63 and lld 14, unpacked beside the system (debian.sh)
# The committed modules are those of route 2: the same bytes wherever it runs.
# AQUIFER_WASM_ROUTE=debian goes straight to it.
set -euo pipefail
caller="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=debian.sh
. ./debian.sh

agents=(forager sensor worker)

usage() { echo "usage: $0 [--out FOLDER | --check NAME]" >&2; exit 64; }
out=modules check=
case "$#${1:-}" in
    0) ;;
    2--out) out="$(cd "$caller" && realpath -m "$2")" ;;
    2--check) check="$2" ;;
    *) usage ;;
esac

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# One page of memory: 16 KiB of stack first, so that an overflow traps and overwrites nothing; then
# the state, the inbox and the agent's constants.
common=(--edition 2021 --target wasm32-unknown-unknown --remap-path-prefix "$PWD=guest"
    -C opt-level=z -C codegen-units=1 -C panic=abort -C debuginfo=0
    -C target-feature=+bulk-memory)
linked=(-C lto=fat -C strip=symbols -C link-arg=-zstack-size=16384 -C link-arg=--stack-first
    -C link-arg=--initial-memory=65536 -C link-arg=--max-memory=65536)

route=
compile() {
    case "$route" in
        rustup) rustc "$@" ;;
        debian) in_debian bin/rustc --sysroot "$debian/usr" \
            -C linker="$debian/usr/lib/llvm-14/bin/lld" "$@" ;;
    esac
}

# build NAME FILE
build() {
    local sdk="$work/libaquifer_guest.rlib"
    [ -f "$sdk" ] || compile "${common[@]}" --crate-type rlib --crate-name aquifer_guest \
        -o "$sdk" src/lib.rs
    compile "${common[@]}" "${linked[@]}" --crate-type cdylib --crate-name "$1" \
        --extern aquifer_guest="$sdk" -o "$work/$1.wasm" "examples/$1.rs"
    install -m 644 "$work/$1.wasm" "$2"
}

if [ -n "$check" ]; then
    [ "$check" != echo ] || exec c/build.sh --check
    grep -q "  $check.wasm\$" modules/SHA256SUMS || { echo "no module $check" >&2; exit 64; }
    debian "${debian_rust[@]}" && in_debian bin/rustc --version >/dev/null ||
        { echo "route 2 is not available: $check was NOT checked" >&2; exit 2; }
    route=debian
    build "$check" "$work/checked.wasm"
    was="$(sed -n "s/  $check.wasm\$//p" modules/SHA256SUMS)"
    is="$(sha256sum <"$work/checked.wasm" | cut -d' ' -f1)"
    [ "$is" = "$was" ] || { echo "$check.wasm differs: committed $was, rebuilt $is" >&2; exit 1; }
    sha256sum modules/"$check".wasm | grep -q "^$was" ||
        { echo "modules/$check.wasm is not what modules/SHA256SUMS says" >&2; exit 1; }
    echo "$check.wasm is reproduced: $is"
    exit 0
fi

has_target() {
    local libraries
    libraries="$(rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)" &&
        [ -d "$libraries" ]
}

if [ "${AQUIFER_WASM_ROUTE:-any}" != debian ] && has_target; then
    route=rustup
    echo "route 1: $(rustc --version)"
elif debian "${debian_rust[@]}"; then
    route=debian
    echo "route 2: Debian's $(in_debian bin/rustc --version)"
else
    echo "no route to wasm32-unknown-unknown: rustup target add wasm32-unknown-unknown" >&2
    exit 1
fi

mkdir -p "$out"
for agent in "${agents[@]}"; do build "$agent" "$out/$agent.wasm"; done
(cd "$out" && wc -c "${agents[@]/%/.wasm}")
if [ "$out" = modules ] && [ "$route" = debian ]; then
    (cd modules && sha256sum ./*.wasm | sed 's#\./##' >SHA256SUMS)
elif [ "$out" = modules ]; then
    echo "modules/ now differs from the committed modules, which are those of route 2" >&2
fi
