# The initrd of the installed kernel, and the links that follow each later one.
version=$(ls /lib/modules)
update-initramfs -c -k "$version"
linux-update-symlinks install "$version" "/boot/vmlinuz-$version"

# The boot loader, as grub-install would leave it, but for a disk that is not there yet.
mkdir -p /boot/grub/i386-pc
cp /usr/lib/grub/i386-pc/*.mod /usr/lib/grub/i386-pc/*.lst /usr/lib/grub/i386-pc/boot.img /boot/grub/i386-pc/
grub-mkimage --format=i386-pc --output=/boot/grub/i386-pc/core.img --prefix='(hd0,msdos1)/boot/grub' \
	biosdisk part_msdos ext2 normal linux linux16 search search_fs_uuid search_label echo test configfile
test -s "$(readlink -f /vmlinuz)" && test -s "$(readlink -f /initrd.img)"
