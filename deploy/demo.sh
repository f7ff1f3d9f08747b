#!/usr/bin/env bash
# Serves a page over AF_XDP between two network namespaces, fetches it with curl, and compares the
# engine with the kernel's sockets. Takes no argument, ends within 4 minutes, removes what it made.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

deploy/setup.sh
echo "demo: building (the first time takes minutes, and does not count)"
cargo build --release -q -p ringwire-cli
ringwire=${CARGO_TARGET_DIR:-target}/release/ringwire

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
server=ringwire-demo-$$-server
client=ringwire-demo-$$-client
in_server() { as_root ip netns exec "$server" "$@"; }
in_client() { as_root ip netns exec "$client" "$@"; }

# Ends what runs in a namespace: first politely, then not.
stop() {
  local signal pids
  for signal in TERM KILL; do
    for _ in $(seq 30); do
      pids=$(as_root ip netns pids "$1" 2>/dev/null | xargs) || true
      [ -n "$pids" ] || return 0
      # shellcheck disable=SC2086 # a list of numbers
      as_root kill -s "$signal" $pids 2>/dev/null || true
      sleep 0.1
    done
  done
}

pages=$(mktemp -d)
cleanup() {
  trap - EXIT INT TERM
  for netns in "$server" "$client"; do
    stop "$netns"
    as_root ip netns delete "$netns" 2>/dev/null || true
  done
  rm -rf "$pages"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "demo: two hosts, one cable"
as_root ip netns add "$server"
as_root ip netns add "$client"
as_root ip -n "$server" link add eth0 type veth peer name eth0 netns "$client"
as_root ip -n "$server" address add 10.77.0.1/24 dev eth0
as_root ip -n "$client" address add 10.77.0.2/24 dev eth0
as_root ip -n "$server" link set eth0 up
as_root ip -n "$client" link set eth0 up
# A veth leaves checksums unfinished and segments uncut unless told not to; a wire cannot.
in_client ethtool -K eth0 tx off tso off gso off gro off >/dev/null

echo "<h1>Served by Ringwire over AF_XDP</h1>" >"$pages/index.html"
in_server "$ringwire" serve -i eth0 http --dir "$pages" --port 80 &
serve=$!
for _ in $(seq 50); do
  in_client curl -s -o /dev/null --max-time 1 http://10.77.0.1/ && break
  kill -0 "$serve" 2>/dev/null || { echo "demo: the server ended early" >&2; exit 1; }
  sleep 0.1
done

echo "demo: curl http://10.77.0.1/ from the other host"
in_client curl -sS -i --max-time 5 http://10.77.0.1/
segments=$(in_server nstat -asz TcpInSegs | awk '$1 == "TcpInSegs" { print $2 }')
echo "demo: TCP segments that the server's kernel saw meanwhile: $segments"
stop "$server"

echo "demo: the same work over Ringwire and over the kernel's sockets"
as_root timeout --foreground 180 "$ringwire" compare quick
