# Debian 12's compilers for WebAssembly, unpacked beside the system: nothing is installed, and no root
# is needed. To be sourced; `debian PACKAGE...` sets $debian to the folder where they are.
#
# The versions are named, since the hashes in modules/SHA256SUMS hold for these and no others. They
# stay in ${XDG_CACHE_HOME:-~/.cache}/aquifer/guest-toolchain, about 520 MB.

debian_rust=(rustc=1.63.0+dfsg1-2 libstd-rust-1.63=1.63.0+dfsg1-2
    libstd-rust-dev-wasm32=1.63.0+dfsg1-2 libllvm14=1:14.0.6-12 lld-14=1:14.0.6-12)
debian_clang=(clang-14=1:14.0.6-12 libclang-cpp14=1:14.0.6-12
    libclang-common-14-dev=1:14.0.6-12 libllvm14=1:14.0.6-12 lld-14=1:14.0.6-12)

debian=

debian() {
    local home="${XDG_CACHE_HOME:-$HOME/.cache}/aquifer/guest-toolchain" package work
    command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
        { echo "not a Debian system" >&2; return 1; }
    mkdir -p "$home/have" || return 1
    for package in "$@"; do
        [ ! -f "$home/have/$package" ] || continue
        work="$(mktemp -d "$home/unpacking.XXXXXX")" || return 1
        if ! (cd "$work" && apt-get -q download "$package" && dpkg -x ./*.deb "$home") >&2; then
            rm -rf "$work"
            echo "could not unpack $package: is this Debian 12, and are its package lists there?" >&2
            return 1
        fi
        rm -rf "$work"
        touch "$home/have/$package"
    done
    debian="$home"
    debian_libraries="$(echo "$home"/usr/lib/*-linux-gnu)"
}

# Runs a program of that folder with its libraries.
in_debian() {
    local program="$1"
    shift
    LD_LIBRARY_PATH="$debian_libraries" "$debian/usr/$program" "$@"
}
