#!/usr/bin/env bash
# Builds packages of the workspace for wasm32-unknown-unknown: what builds there has no operating
# system under it, and above all no ambient randomness (getrandom refuses that target).
#
#   tests/wasm-target.sh aquifer-protocol aquifer-crdt
#
# The target's standard library comes by the first route that works; the last line says which:
#   1. the toolchain has it already;
#   2. rustup fetches it;
#   3. Debian's rustc-web, unpacked beside the system (nothing is installed), compiles it from source.
# Route 3 keeps the compiler in ${XDG_CACHE_HOME:-~/.cache}/aquifer; every route keeps what it
# builds in target/wasm. AQUIFER_WASM_ROUTE=debian goes straight to route 3, to try it where 1 works.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=wasm32-unknown-unknown
out="${CARGO_TARGET_DIR:-$PWD/target}/wasm"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/aquifer"
packages=()
for package in "$@"; do packages+=(-p "$package"); done
[ ${#packages[@]} -gt 0 ] || { echo "usage: $0 PACKAGE..." >&2; exit 2; }

# What is compiled is thrown away: no debug information.
export CARGO_PROFILE_DEV_DEBUG=0

build() { cargo build --locked --lib --target "$target" --target-dir "$out" "${packages[@]}" "$@"; }

has_target() {
    local libraries
    libraries="$(rustc --print target-libdir --target "$target" 2>/dev/null)" && [ -d "$libraries" ]
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else echo "needs root for: $*" >&2; return 1
    fi
}

candidate() { apt-cache policy "$1" | awk '/Candidate:/ && $2 != "(none)" { print $2 }'; }

# Unpacks rustc-web of version $1 and what it needs into the folder where it is called. Each line
# says for itself that a failure ends it: `set -e` does not hold in a function that is asked for.
fetch_debian() {
    local version="$1" minor llvm deb
    minor="$(cut -d. -f1,2 <<<"$version")"
    llvm="$(apt-cache depends "libstd-rust-web-$minor" | grep -om1 'libllvm[0-9]*')" || return 1
    local debs=("rustc-web=$version" "libstd-rust-web-$minor=$version"
        "libstd-rust-web-dev=$version" "rust-web-src=$version" "$llvm")
    # The package lists may be older than the archive, which keeps one version only.
    apt-get -q download "${debs[@]}" ||
        { as_root apt-get -q update && apt-get -q download "${debs[@]}"; } || return 1
    for deb in *.deb; do dpkg -x "$deb" . || return 1; done
    rm -rf -- *.deb usr/src/*/compiler usr/src/*/src usr/share
    [ -x usr/bin/rustc ] && [ -f usr/lib/rustlib/src/rust/library/Cargo.lock ]
}

# Prints where Debian's newest rustc-web lies unpacked: complete, or not there at all.
unpack_debian() {
    local version home work
    [ -n "$(candidate rustc-web)" ] || as_root apt-get -q update >&2
    version="$(candidate rustc-web)"
    [ -n "$version" ] || { echo "Debian has no package rustc-web here" >&2; return 1; }
    home="$cache/rustc-web-$version"
    if [ ! -x "$home/usr/bin/rustc" ]; then
        mkdir -p "$cache"
        work="$(mktemp -d "$cache/unpacking.XXXXXX")"
        if ! (cd "$work" && fetch_debian "$version") >&2; then
            rm -rf "$work"
            echo "could not unpack rustc-web $version" >&2
            return 1
        fi
        mv "$work" "$home"
    fi
    echo "$home"
}

route="${AQUIFER_WASM_ROUTE:-any}"
if [ "$route" != debian ] && has_target; then
    build
    echo "route: the toolchain's own $target"
elif [ "$route" != debian ] && command -v rustup >/dev/null && timeout 120 rustup target add "$target" && has_target; then
    build
    echo "route: $target fetched by rustup"
elif command -v dpkg >/dev/null; then
    echo "taking Debian's rustc-web"
    home="$(unpack_debian)"
    export LD_LIBRARY_PATH="$home/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    if ! "$home/usr/bin/rustc" -vV >/dev/null 2>&1; then
        as_root apt-get -qy install libz3-4 libxml2 libedit2
    fi
    # Debian's compiler is built to use unstable features of its own sources: -Zbuild-std.
    export RUSTC="$home/usr/bin/rustc" RUSTC_BOOTSTRAP=1
    build -Zbuild-std=std,panic_abort
    echo "route: $target compiled from source by Debian's $("$RUSTC" --version)"
else
    echo "no route to $target: install it with rustup target add $target" >&2
    exit 1
fi
