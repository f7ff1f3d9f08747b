#!/usr/bin/env bash
# Sets up, builds and runs every test: those over AF_XDP and network namespaces, and those in a virtual machine with a
# zero-copy driver. Ends with a non-zero status if anything failed.
#
#   deploy/test.sh              everything
#   deploy/test.sh vm [NAME]..  those in the virtual machine only, or only those of these names
#
# Where the virtual machine cannot run it says so and goes on; with RINGWIRE_NO_SKIP=1 that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

deploy/setup.sh qemu-system-x86 busybox-static cpio xz-utils libcap2-bin

# 77 is the test's own word for "not here".
in_machine() {
  local status=0
  tests/vm/run.sh "$@" || status=$?
  if [ "$status" = 77 ] && [ -z "${RINGWIRE_NO_SKIP:-}" ]; then
    echo "SKIPPED: the tests over a zero-copy driver"
    return 0
  fi
  return "$status"
}
case ${1:-} in
  '') ;;
  vm)
    shift
    in_machine "$@"
    exit
    ;;
  *)
    echo "usage: deploy/test.sh [vm [NAME]..]" >&2
    exit 2
    ;;
esac

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
# And over AF_PACKET, which needs neither as well.
run cargo test -p ringwire --no-default-features --features packet --no-fail-fast
# The lab at every level of privilege, with engines and runtimes in its nodes.
run cargo test -p ringwire-lab --features engine,tokio --no-fail-fast --test levels --test example_service
# A slice of fuzzing, all targets together; deploy/fuzz.sh is the long run.
run cargo run -q -p ringwire-fuzz -- all 20
run in_machine

printf '\n'
if [ ${#failed[@]} -gt 0 ]; then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
echo "all tests passed after $SECONDS s"
