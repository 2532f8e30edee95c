#!/bin/bash
# What a lab host runs first, in namespaces of its own, under tini: it makes the host's own view of the file
# system, then keeps libvirt's daemons running until the host's PID 1 is killed.
# Arguments: the host's directory, its name.
set -eu
host=$1 name=$2

hostname "$name"
mount -t proc proc /proc
mount -t sysfs sysfs /sys
# Every host has a boot of its own, as every machine has; the kernel's own file is shared by all.
mount --bind "$host/boot_id" /proc/sys/kernel/random/boot_id
# libvirt resolves its own name on every start of a domain: unresolvable, each costs a DNS timeout.
mount --bind "$host/hosts" /etc/hosts

for pair in etc:/etc/libvirt lib:/var/lib/libvirt log:/var/log/libvirt cache:/var/cache/libvirt run:/run; do
    mount --bind "$host/${pair%%:*}" "${pair#*:}"
done
# A link into the former /run has no target any more, and without a file the resolver asks nobody but loopback.
[ ! -f /etc/resolv.conf ] || mount --bind "$host/resolv.conf" /etc/resolv.conf

# Devices of its own: /dev/kvm must be usable by QEMU's user, or libvirt probes QEMU anew with every call;
# the machine's own node is not ours to change.
mount --bind /dev "$host/machine-dev"
mount -t tmpfs -o mode=755,size=8m tmpfs /dev
mkdir /dev/pts /dev/shm /dev/net /dev/mqueue
for device in null zero full random urandom tty; do cp -a "$host/machine-dev/$device" /dev/; done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mknod -m 666 /dev/net/tun c 10 200
[ ! -c "$host/machine-dev/vhost-net" ] || cp -a "$host/machine-dev/vhost-net" /dev/
if [ -c "$host/machine-dev/kvm" ]; then
    mknod -m 660 /dev/kvm c 10 232
    chown root:kvm /dev/kvm
fi
umount -l "$host/machine-dev"

# What a prepared node has; it counts in this host's network namespace alone.
echo 1 > /proc/sys/net/ipv4/ip_forward
mkdir -p /run/libvirt /run/lock /run/nemordp

# A killed daemon comes back, as its service unit would have it.
keep() {
    while :; do
        "$@" || true
        sleep 0.2
    done
}
keep virtlogd &
keep libvirtd &
wait
