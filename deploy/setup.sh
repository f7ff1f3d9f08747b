#!/usr/bin/env bash
# Installs what building, testing and showing Ringwire needs, on Debian 12 or newer and its relatives.
# Asks nothing, touches nothing that is there already. Further packages may be named as arguments.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
  build-essential pkg-config m4 clang llvm libelf-dev zlib1g-dev libbpf-dev # to build
  bpftool ethtool iproute2 iputils-ping procps                            # to look at links and programs
  curl netcat-openbsd tcpdump tshark valgrind                             # peers and tools of the tests
  "$@"
)

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=()
for package in "${packages[@]}"; do
  installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  as_root apt-get update -qq
  as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
  echo "setup: cargo not found: install a Rust toolchain, 1.95 or newer (https://rustup.rs)" >&2
  exit 1
fi
echo "setup: ready"
