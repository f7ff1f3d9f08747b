#!/usr/bin/env bash
# Builds `ringwire` as one file that needs nothing of the system it runs on: the BPF object, libbpf, libelf, zlib and
# the C library are inside. Prints the paths of what it built.
#
#   deploy/static.sh [--dev] [--package NAME]..
#
# --dev builds quickly instead of building fast programs; --package builds other programs than the command.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

profile=release
packages=()
while [ $# -gt 0 ]; do
  case $1 in
    --dev) profile=dev ;;
    --package)
      [ $# -gt 1 ] || { echo "static: --package needs a name" >&2; exit 2; }
      packages+=(--package "$2")
      shift
      ;;
    *)
      echo "usage: deploy/static.sh [--dev] [--package NAME].." >&2
      exit 2
      ;;
  esac
  shift
done
[ ${#packages[@]} -gt 0 ] || packages=(--package ringwire-cli)

target=$(rustc -vV | sed -n 's/^host: //p')
case $target in
  *-linux-gnu) ;;
  *)
    echo "static: needs a toolchain for linux-gnu, whose C library is Debian's; this one is for $target" >&2
    exit 1
    ;;
esac
# With a target named, the flags are for the programs only and not for what the build itself runs.
export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static -C relocation-model=static"
built=$(cargo build --quiet --target "$target" --profile "$profile" --bins "${packages[@]}" --message-format json)
sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' <<<"$built" | while read -r program; do
  if readelf --program-headers "$program" | grep -q INTERP; then
    echo "static: $program asks for a loader: it is not static" >&2
    exit 1
  fi
  echo "$program"
done
