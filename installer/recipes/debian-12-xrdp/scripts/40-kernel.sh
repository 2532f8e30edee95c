# The initrd of the installed kernel, and the links that follow each later one.
version=$(ls /lib/modules)
update-initramfs -c -k "$version"
linux-update-symlinks install "$version" "/boot/vmlinuz-$version"
cp -r /usr/lib/grub/i386-pc /boot/grub/i386-pc
rm -f /boot/grub/i386-pc/*.image /boot/grub/i386-pc/*.img /boot/grub/i386-pc/*.exec
test -s "$(readlink -f /vmlinuz)" && test -s "$(readlink -f /initrd.img)"
