#!/usr/bin/env bash
# Fuzzes one target under libFuzzer, with coverage feedback, on the stable toolchain: deploy/fuzz.sh TARGET SECONDS [libFuzzer options]
# Targets: wire arp tcp_options icmp connection listener. The corpus grows in target/fuzz/corpus/TARGET; an input that fails is
# written to target/fuzz/crash-*. The same with cargo-fuzz, where it is installed:
#   cargo fuzz run --fuzz-dir tests/fuzz --features libfuzzer --sanitizer none TARGET
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
if [ $# -lt 2 ]; then
  sed -n '2,3s/^# //p' "$0"
  exit 2
fi
target=$1 seconds=$2
shift 2

out=${CARGO_TARGET_DIR:-target}/fuzz
mkdir -p "$out"
out=$(cd "$out" && pwd)
cargo run -q -p ringwire-fuzz -- seeds "$out/seeds"
mkdir -p "$out/corpus/$target"

host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz passes: the coverage pass of LLVM is in the stable compiler, its sanitizers are not.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing"
CARGO_TARGET_DIR="$out/build" cargo build -q -p ringwire-fuzz --features libfuzzer --bin "$target" --target "$host"
exec "$out/build/$host/debug/$target" "$out/corpus/$target" "$out/seeds/$target" \
  -artifact_prefix="$out/" -max_total_time="$seconds" -max_len=1024 "$@"
