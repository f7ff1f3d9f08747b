#!/usr/bin/env bash
# Runs the tests of this package in a virtual machine whose network cards do AF_XDP zero-copy, and ends with their
# status. Arguments are names of tests [default: all].
#
# The kernel comes from Debian's backports, checked by apt's own signatures, unpacked into the cache and installed
# nowhere; everything else in the machine is this project's, or a copy of what is installed here. Emulation only, so
# that it runs alike wherever it runs. Leaves nothing but the cache: a directory named by RINGWIRE_VM_CACHE.
#
# Status 77: it cannot run here, and has said why.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/sbin:/sbin"

readonly SKIPPED=77
# The oldest release whose backports have a kernel of 6.13 or later, in which virtio-net does zero-copy.
readonly SUITE=trixie-backports
readonly FLAVOUR=cloud-amd64
readonly DEADLINE_S=${RINGWIRE_VM_DEADLINE_S:-900}
readonly MODULES=(
  net/core/failover drivers/net/net_failover drivers/net/virtio_net drivers/net/veth
  net/sched/sch_ingress net/sched/cls_matchall net/sched/act_gact
)

cache=${RINGWIRE_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ringwire/vm}
mkdir -p "$cache"
cache=$(realpath "$cache")
# What runs left behind that were killed outright.
for left in "$cache"/run.*; do
  [ ! -d "$left" ] || kill -0 "${left##*.}" 2>/dev/null || rm -rf "$left"
done
work=$cache/run.$$
mkdir "$work"
qemu=
# shellcheck disable=SC2317 # the trap calls it
cleanup() {
  trap - EXIT
  [ -z "$qemu" ] || kill -KILL "$qemu" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

skip() {
  echo "vm: SKIPPED: $*" >&2
  exit "$SKIPPED"
}

# This machine's Debian mirror, as apt is configured.
mirror() {
  # shellcheck disable=SC2016 # apt's words, not the shell's
  apt-get indextargets --format '$(SITE) $(REPO_URI) $(ORIGIN)' 2>/dev/null |
    awk '$3 == "Debian" && $2 !~ /security/ { print $2; exit }'
}

# apt with directories of its own: what this machine has installed, or may install, stays as it is.
private_apt() {
  APT_CONFIG=$cache/apt/apt.conf "$@"
}

configure_apt() {
  local uri=$1
  mkdir -p "$cache"/apt/{state,lists/partial,archives/partial}
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $SUITE main" >"$cache/apt/sources.list"
  cat >"$cache/apt/apt.conf" <<CONF
Dir::State "$cache/apt/state";
Dir::State::lists "$cache/apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$cache/apt";
Dir::Etc::sourcelist "$cache/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
APT::Sandbox::User "root";
CONF
}

# Downloads and unpacks the kernel and its modules, once. Packages with and without a split of the two exist.
fetch_kernel() {
  [ ! -e "$cache/kernel/complete" ] || return 0
  local uri release packages=()
  uri=$(mirror)
  [ -n "$uri" ] || skip "apt knows no Debian mirror, and the kernel comes from there"
  configure_apt "$uri"
  echo "vm: fetching a kernel from $SUITE"
  private_apt apt-get update -qq || skip "the Debian mirror cannot be reached"
  release=$(private_apt apt-cache depends "linux-image-$FLAVOUR" | sed -n "s/.*Depends: linux-image-\([0-9].*\)/\1/p")
  for package in "linux-binary-$release" "linux-modules-$release" "linux-image-$release"; do
    if private_apt apt-cache show "$package" >/dev/null 2>&1; then
      packages+=("$package")
    fi
  done
  rm -rf "$cache/kernel" "$cache/debs"
  mkdir -p "$cache/debs"
  (cd "$cache/debs" && private_apt apt-get download -qq "${packages[@]}")
  for package in "$cache"/debs/*.deb; do
    dpkg-deb -x "$package" "$cache/kernel"
  done
  rm -rf "$cache/debs"
  touch "$cache/kernel/complete"
}

modules_dir() {
  find "$cache/kernel" -type d -path '*/lib/modules/*' -name kernel -prune
}

# A program and the libraries that it is linked with.
add_program() {
  local program
  program=$(command -v "$1") || skip "$1 is not installed"
  cp -L "$program" "$work/root/bin/"
  while read -r library; do
    mkdir -p "$work/root$(dirname "$library")"
    cp -L "$library" "$work/root$library"
  done < <(ldd "$program" 2>/dev/null | grep -o '/[^ ]*')
}

build_initramfs() {
  local root=$work/root kernel module
  mkdir -p "$root"/{bin,lib,proc,sys,dev,tmp,run}
  cp "$(command -v busybox)" "$root/bin/"
  for applet in cat echo ls mkdir mount poweroff insmod sh sleep stty sync uname dmesg; do
    ln -s busybox "$root/bin/$applet"
  done
  for program in ip tc ethtool; do
    add_program "$program"
  done
  for program in "$@"; do
    strip -o "$root/bin/${program##*/}" "$program"
  done
  cp tests/vm/init "$root/init"
  kernel=$(modules_dir)
  for module in "${MODULES[@]}"; do
    xz -dc "$kernel/$module.ko.xz" >"$root/lib/${module##*/}.ko"
    echo "${module##*/}.ko" >>"$root/modules"
  done
}

# Puts the names of the tests beside what is there already.
pack() {
  echo "$*" >"$work/root/tests"
  (cd "$work/root" && find . | cpio -o -H newc --quiet) | gzip -1 >"$work/initramfs"
}

# Two network cards of one queue, joined by a cable that loses nothing and keeps the order. Their iommu_platform is what
# makes zero-copy possible: the driver then maps packet memory for the device itself.
#
# Memory of which the kernel uses half: virtio-net as a module has a static header of zeros that it sends before each
# zero-copy packet, and tells the card an address for it that is only right of a driver built in (xsk_hdr; seen in Linux
# 7.3.4). Without nokaslr that may be anywhere. With it, it lies in the second GiB, and if there is memory, untouched,
# there are zeros. Where there is none, cards were seen to stop for good as soon as two packets had to wait.
#
# One processor: with two at work, one was seen to run into a breakpoint that the other had just taken out of the
# kernel's code, as attaching a program does.
boot() {
  local record=("$@")
  local card=virtio-net-pci,iommu_platform=on,disable-legacy=on
  local image
  image=$(find "$cache/kernel" -name 'vmlinuz*' -type f)
  exec {output}< <(
    # The name of a socket must be short, wherever the cache is.
    cd "$work"
    exec setpriv --pdeathsig KILL qemu-system-x86_64 -accel tcg -cpu max -smp 1 -m 2048 \
      -nodefaults -display none -no-reboot -kernel "$image" -initrd "$work/initramfs" \
      -append "console=ttyS0 quiet panic=-1 nokaslr mem=1024M" -serial "file:$work/kernel.log" -serial stdio \
      -netdev dgram,id=left,local.type=unix,local.path=left,remote.type=unix,remote.path=right \
      -netdev dgram,id=right,local.type=unix,local.path=right,remote.type=unix,remote.path=left \
      -device "$card,netdev=left,mac=02:52:57:00:00:01" -device "$card,netdev=right,mac=02:52:57:00:00:02" \
      "${record[@]}" 2>"$work/qemu.log" </dev/null
  )
  qemu=$!
}

# Passes the guest's words on until it says how it ended.
follow() {
  local line status='' rest
  while rest=$((DEADLINE_S - SECONDS)) && [ "$rest" -gt 0 ] && IFS= read -t "$rest" -r -u "$output" line; do
    line=${line%$'\r'}
    printf '%s\n' "$line"
    case $line in
      "vm: ended with status "*)
        status=${line##* }
        break
        ;;
    esac
  done
  if [ -z "$status" ]; then
    echo "vm: no end after $SECONDS s; the kernel's last words:" >&2
    tail -n 40 "$work/kernel.log" >&2 || true
    cat "$work/qemu.log" >&2
    return 1
  fi
  if [ "$status" != 0 ]; then
    echo "vm: the kernel's last words:" >&2
    tail -n 40 "$work/kernel.log" >&2
  fi
  return "$status"
}

tests=("$@")
[ "$(uname -m)" = x86_64 ] || skip "the guest is x86_64, this machine is $(uname -m)"
command -v apt-get >/dev/null || skip "the kernel comes from Debian packages, and there is no apt here"
for program in qemu-system-x86_64 busybox cpio xz setpriv; do
  command -v "$program" >/dev/null || skip "$program is not installed: deploy/setup.sh installs it"
done
fetch_kernel
echo "vm: building"
programs=$(deploy/static.sh --dev --package ringwire-cli --package ringwire-vm)
SECONDS=0
# shellcheck disable=SC2086 # a list of paths
build_initramfs $programs
tester=$(grep '/ringwire-vm$' <<<"$programs")
status=0
if [ -n "$("$tester" --list "${tests[@]}")" ]; then
  pack "${tests[@]}"
  boot
  follow || status=$?
fi
# The record of a cable grows with what goes over it: only for the tests that need it.
if [ -n "$("$tester" --list --recorded "${tests[@]}")" ]; then
  pack --recorded "${tests[@]}"
  boot -object "filter-dump,id=record,netdev=right,file=$work/cable.pcap"
  follow | tee "$work/output" || status=$?
  "$tester" --check "$work/cable.pcap" "$work/output" || status=$?
fi
if [ ! -e "$work/kernel.log" ]; then
  echo "vm: no test is called ${tests[*]}" >&2
  status=1
fi
exit "$status"
