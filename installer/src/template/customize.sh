#!/bin/sh
# Runs outside the new system, whose packages are installed and whose /proc, /sys and /dev are there: notes what is
# installed, lays the overlay over it and runs the recipe's scripts in it.
# usage: customize.sh ROOT WORK
set -eu
root=$1
work=$2
archives=$root/var/cache/apt/archives

dpkg-query --admindir="$root/var/lib/dpkg" --show \
	--showformat='${db:Status-Abbrev} ${Package} ${Version} ${Architecture}\n' |
	sed -n 's/^ii  *//p' >"$work/packages"

# The youngest package's own time is the time of everything that the build makes; it stands in the first member's header
# of each archive.
epoch=0
while read -r name version architecture; do
	archive=$archives/${name}_$(printf %s "$version" | sed 's/:/%3a/g')_$architecture.deb
	[ -e "$archive" ] || { echo "no archive for $name $version: $archive"; exit 1; }
	time=$(head -c 36 "$archive" | tail -c 12 | tr -d ' ')
	[ "$time" -le "$epoch" ] || epoch=$time
done <"$work/packages"
echo "$epoch" >"$work/epoch"

tar -C "$work/overlay" --owner=0 --group=0 --mtime="@$epoch" -cf - . | tar -C "$root" --no-overwrite-dir -xpf -

for script in "$work"/scripts/*.sh; do
	[ -e "$script" ] || continue
	echo "I: recipe: ${script##*/}"
	cp "$script" "$root/recipe-step"
	chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		SOURCE_DATE_EPOCH="$epoch" PYTHONHASHSEED=0 sh -eu /recipe-step
	rm "$root/recipe-step"
done
