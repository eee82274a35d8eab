#!/usr/bin/env bash
# Builds the agent in C.
#
#   ./build.sh             into ../modules/
#   ./build.sh --out FILE  into another file
#   ./build.sh --check     rebuilds it by route 2, and compares it with ../modules/SHA256SUMS: exit
#                          status 0 if equal, 1 if not, 2 if there is no route 2 here
#
# By the first route that works:
#   1. the system's clang, if it knows wasm32, with wasm-ld
#   2. Debian 12's clang 14 and lld 14, unpacked beside the system (../debian.sh)
# The committed module is that of route 2. AQUIFER_WASM_ROUTE=debian goes straight to it.
set -euo pipefail
caller="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=../debian.sh
. ../debian.sh

usage() { echo "usage: $0 [--out FILE | --check]" >&2; exit 64; }
out=../modules/echo.wasm check=
case "$#${1:-}" in
    0) ;;
    2--out) out="$(cd "$caller" && realpath -m "$2")" ;;
    1--check) check=yes ;;
    *) usage ;;
esac

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

clang() { if [ "$route" = debian ]; then in_debian bin/clang-14 "$@"; else command clang "$@"; fi; }
wasm_ld() { if [ "$route" = debian ]; then in_debian bin/wasm-ld-14 "$@"; else command wasm-ld "$@"; fi; }

# build FILE
build() {
    clang --target=wasm32-unknown-unknown -std=c11 -Oz -ffreestanding -mbulk-memory -Wall -Wextra \
        -Werror -c -o "$work/echo.o" echo.c
    wasm_ld --no-entry --strip-all --stack-first -z stack-size=16384 --initial-memory=65536 \
        --max-memory=65536 --export=mva_abi --export=handle --export=MVA_STATE --export=MVA_INBOX \
        -o "$1" "$work/echo.o"
    chmod 644 "$1"
}

if [ -n "$check" ]; then
    route=debian
    debian "${debian_clang[@]}" && clang --version >/dev/null ||
        { echo "route 2 is not available: echo was NOT checked" >&2; exit 2; }
    build "$work/echo.wasm"
    was="$(sed -n "s/  echo.wasm\$//p" ../modules/SHA256SUMS)"
    is="$(sha256sum <"$work/echo.wasm" | cut -d' ' -f1)"
    [ "$is" = "$was" ] || { echo "echo.wasm differs: committed $was, rebuilt $is" >&2; exit 1; }
    sha256sum ../modules/echo.wasm | grep -q "^$was" ||
        { echo "modules/echo.wasm is not what modules/SHA256SUMS says" >&2; exit 1; }
    echo "echo.wasm is reproduced: $is"
    exit 0
fi

if [ "${AQUIFER_WASM_ROUTE:-any}" != debian ] && command -v wasm-ld >/dev/null &&
    command clang --print-targets 2>/dev/null | grep -q wasm32; then
    route=system
    echo "route 1: $(clang --version | head -n 1)"
elif debian "${debian_clang[@]}"; then
    route=debian
    echo "route 2: $(clang --version | head -n 1)"
else
    echo "no route to wasm32: install clang and lld" >&2
    exit 1
fi

build "$out"
wc -c "$out"
if [ "$out" = ../modules/echo.wasm ] && [ "$route" = debian ]; then
    (cd ../modules && sha256sum ./*.wasm | sed 's#\./##' >SHA256SUMS)
elif [ "$out" = ../modules/echo.wasm ]; then
    echo "modules/ now differs from the committed module, which is that of route 2" >&2
fi
