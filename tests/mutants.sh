#!/usr/bin/env bash
# Plants each known bug in the core and asks the storms to find it: a measure of the checkers
# themselves. Usage: tests/mutants.sh [SEEDS]
set -euo pipefail
cd "$(dirname "$0")/.."
seeds="${1:-200}"
export RUSTFLAGS="${RUSTFLAGS:-} --cfg mutant"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/mutants"
cargo build -q --release --locked -p aquifer-simulator
missed=0
for mutant in ack-before-fsync serve-without-policy tombstone-ignored mesh-too-wide retention-ignored \
    law-forgotten fork-uncut scrub-sleeps sync-sleeps revisions-survive future-taken; do
    if out=$("$CARGO_TARGET_DIR/release/aquifer-sim" storm --seeds "$seeds" --mutant "$mutant" 2>/dev/null); then
        echo "$mutant: NOT FOUND in $seeds seeds"
        missed=1
    else
        # The invariants that it broke, and how many seeds it took for that.
        broke=$(printf '%s\n' "$out" | grep -oE '^    I[0-9]+' | sort -u | tr -d ' ' | paste -sd, -)
        echo "$mutant: found ($broke): $(printf '%s\n' "$out" | grep -E 'seeds violated' || true) of $seeds"
    fi
done
exit "$missed"
