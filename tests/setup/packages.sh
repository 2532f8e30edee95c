#!/bin/bash
# Installs the Debian packages that the groups given as arguments need; quick when all are there.
#   packages.sh build | live | test | bench ...
# No service is started: neither by the installation nor afterwards.
set -euo pipefail

usage() {
    echo "usage: $0 GROUP...   groups: build live test bench" >&2
    exit 2
}

packages_of() {
    case $1 in
        build) echo build-essential pkg-config libvirt-dev make ;;
        live) echo qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients \
            dnsmasq-base nftables iproute2 tini mmdebstrap e2fsprogs grub-pc-bin grub-common genisoimage \
            freerdp2-x11 xvfb xauth x11-apps imagemagick ;;
        test) echo postgresql freerdp2-shadow-x11 winpr-utils prometheus chromium ;;
        bench) echo virtinst ;;
        *) return 1 ;;
    esac
}

fail() {
    echo "packages: $*" >&2
    exit 1
}

[ $# -gt 0 ] || usage
wanted=()
for group in "$@"; do
    packages=$(packages_of "$group") || usage
    read -ra packages <<<"$packages"
    wanted+=("${packages[@]}")
done

missing=()
for package in "${wanted[@]}"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    echo "packages: all ${#wanted[@]} of $* are installed"
    exit 0
fi
command -v apt-get >/dev/null || fail "this needs Debian's apt-get; install by hand: ${missing[*]}"

if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "run this as root, or install sudo; missing: ${missing[*]}"
    exec sudo -- "$0" "$@"
fi

# === no service starts ===

# Debian asks this file before a package starts or restarts a service; 101 means no.
policy=/usr/sbin/policy-rc.d
saved=$policy.before-nemordp
ours='#!/bin/sh
# Put here by tests/setup/packages.sh while it installs; it removes it at its end.
exit 101'

restore_policy() {
    if [ -e "$saved" ] || [ -L "$saved" ]; then
        mv -f "$saved" "$policy"
    elif [ -f "$policy" ] && [ "$(cat "$policy")" = "$ours" ]; then
        rm -f "$policy"
    fi
}

forbid_starts() {
    # An earlier run may have been killed before it could put things back.
    restore_policy
    if [ -e "$policy" ] || [ -L "$policy" ]; then mv "$policy" "$saved"; fi
    printf '%s\n' "$ours" >"$policy"
    chmod 755 "$policy"
}

# Services in this machine's own process namespace; those of lab hosts and containers are none of our business.
services() {
    local name pid here
    here=$(readlink /proc/self/ns/pid)
    for name in libvirtd virtlogd virtlockd dnsmasq postgres prometheus prometheus-node; do
        while read -r pid; do
            if [ "$(readlink "/proc/$pid/ns/pid" 2>/dev/null)" = "$here" ]; then echo "$name"; fi
        done < <(grep -slx -- "$name" /proc/[0-9]*/comm | cut -d/ -f3)
    done | sort -u
}

# === installation ===

# A qemu-utils that is newer than the suite's qemu-system (from backports, in some container images) breaks it:
# then both are taken in the version that the suite has, and only then.
pin_qemu() {
    local version
    version=$(apt-cache policy qemu-system-x86 | awk '/Candidate:/ { print $2 }')
    if ! apt-cache madison qemu-utils | awk -F'|' -v v="$version" '{ gsub(/ /, "", $2) } $2 == v { found = 1 } END { exit !found }'; then
        return 1
    fi
    echo "qemu-utils=$version" "qemu-system-x86=$version"
}

install() {
    apt-get install --yes --quiet --no-install-recommends --no-remove \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" </dev/null
}

log=$(mktemp)
trap 'restore_policy; rm -f "$log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
export DEBIAN_FRONTEND=noninteractive
before=$(services)
forbid_starts

echo "packages: installing ${missing[*]}"
apt-get update --quiet >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "apt-get update failed: is the network there, and are the sources in /etc/apt right?"; }
if ! install --simulate "${missing[@]}" >"$log" 2>&1; then
    pins=$(pin_qemu) || { tail -n 20 "$log" >&2; fail "apt-get cannot install them together, see above"; }
    read -ra pins <<<"$pins"
    if ! install --simulate --allow-downgrades "${missing[@]}" "${pins[@]}" >>"$log" 2>&1; then
        tail -n 40 "$log" >&2
        fail "apt-get cannot install them together, see above"
    fi
    was=$(dpkg-query --show --showformat='${Version}' qemu-utils 2>/dev/null || true)
    echo "packages: qemu-utils ${was:-(none)} does not go with this suite's qemu-system-x86; taking ${pins[*]}"
    missing+=(--allow-downgrades "${pins[@]}")
fi
install "${missing[@]}" >"$log" 2>&1 || { tail -n 40 "$log" >&2; fail "the installation failed, see above"; }

started=$(comm -13 <(printf '%s\n' "$before") <(services))
[ -z "$started" ] || fail "these services were started, which must not be: $(echo $started)"
echo "packages: done; no service was started"
