#!/usr/bin/env bash
# Drives a node with the official Python client of the Model Context Protocol.
#
#   tests/mcp/run.sh [AQUIFER_BINARY]      default: target/debug/aquifer
#
# Needs Python 3.11 with venv; the client comes from PyPI into target/ once.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
here="$root/tests/mcp"
target="${CARGO_TARGET_DIR:-$root/target}"
binary="${1:-$target/debug/aquifer}"

[ -x "$binary" ] || { echo "no binary at $binary: cargo build -p aquifer-node" >&2; exit 1; }

venv="$target/mcp-client"
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi
exec "$venv/bin/python" "$here/client.py" "$binary"
