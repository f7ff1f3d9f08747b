#!/usr/bin/env bash
# Sets up, builds and runs every test, those over AF_XDP and network namespaces included.
# Takes no argument; ends with a non-zero status if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

deploy/setup.sh

if [ "$(id -u)" != 0 ]; then
  # Namespaces and AF_XDP need privilege: only the test programs get it, not the build.
  host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
  export "CARGO_TARGET_${host}_RUNNER=sudo -E"
fi

failed=()
run() {
  printf '\n== %s  (at %d s)\n' "$*" "$SECONDS"
  "$@" || failed+=("$*")
}
run cargo test --workspace --no-fail-fast
# What an embedder without clang and libelf gets: the engine over in-memory ports.
run cargo test -p ringwire --no-default-features --no-fail-fast

printf '\n'
if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
echo "all tests passed after $SECONDS s"
