# What runs, when, and what does not: at once, late, or off. Nothing of a package is deleted, so an upgrade keeps it.
units=/etc/systemd/system
packaged=/usr/lib/systemd/system

# At once: the network, the desktop's server and its certificate.
systemctl -q enable systemd-networkd xrdp xrdp-sesman nemordp-rdp-certificate nemordp-late.timer

# Late: needed, but not for the first picture of the desktop. /dev/null in a .wants folder takes the unit out of that
# target only; nemordp-late.target brings it in again.
mkdir -p $units/timers.target.wants $units/nemordp-late.target.wants $units/sysinit.target.wants $units/multi-user.target.wants $units/ssh.service.requires
for unit in kmod-static-nodes systemd-journal-flush systemd-machine-id-commit systemd-modules-load systemd-random-seed \
	systemd-sysctl systemd-sysusers systemd-tmpfiles-setup-dev systemd-update-utmp; do
	ln -sf /dev/null $units/sysinit.target.wants/$unit.service
	ln -sf $packaged/$unit.service $units/nemordp-late.target.wants/$unit.service
done
systemctl -q disable ssh.service systemd-timesyncd.service systemd-resolved.service
for unit in ssh systemd-timesyncd systemd-resolved; do
	ln -sf $packaged/$unit.service $units/nemordp-late.target.wants/$unit.service
done
ln -sf /dev/null $units/multi-user.target.wants/systemd-logind.service
ln -sf $packaged/systemd-logind.service $units/nemordp-late.target.wants/systemd-logind.service
for unit in nemordp-ssh-keys.service nemordp-grow-root.service nemordp-coldplug.service; do
	ln -sf $units/$unit $units/nemordp-late.target.wants/$unit
done
ln -sf $units/nemordp-ssh-keys.service $units/ssh.service.requires/nemordp-ssh-keys.service
for timer in fstrim dpkg-db-backup systemd-tmpfiles-clean; do
	ln -sf $packaged/$timer.timer $units/nemordp-late.target.wants/$timer.timer
done
ln -sf /dev/null $units/timers.target.wants/systemd-tmpfiles-clean.timer
ln -sf $packaged/getty@.service $units/nemordp-late.target.wants/getty@tty1.service
# The names by which D-Bus starts them on demand.
ln -sf $packaged/systemd-timesyncd.service $units/dbus-org.freedesktop.timesync1.service
ln -sf $packaged/systemd-resolved.service $units/dbus-org.freedesktop.resolve1.service
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf

# Off until somebody wants them (`systemctl enable`, `systemctl unmask`).
systemctl -q disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
	dpkg-db-backup.timer getty@tty1.service remote-fs.target systemd-pstore.service
systemctl -q mask systemd-networkd-wait-online.service proc-sys-fs-binfmt_misc.automount systemd-binfmt.service \
	dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
	modprobe@drm.service modprobe@configfs.service modprobe@loop.service modprobe@dm_mod.service \
	modprobe@efi_pstore.service modprobe@fuse.service systemd-network-generator.service \
	systemd-ask-password-console.path systemd-ask-password-wall.path getty-static.service \
	systemd-update-utmp-runlevel.service systemd-hwdb-update.service ldconfig.service \
	systemd-journal-catalog-update.service systemd-boot-system-token.service systemd-firstboot.service

# cloud-init is started by the seed's appearance (udev), not by a search at every boot; the other generators look for
# disks and files that this system does not have.
mkdir -p /etc/systemd/system-generators
for generator in cloud-init systemd-cryptsetup systemd-gpt-auto systemd-hibernate-resume systemd-integritysetup \
	systemd-rc-local systemd-run systemd-system-update systemd-sysv systemd-veritysetup systemd-getty systemd-debug; do
	ln -sf /dev/null /etc/systemd/system-generators/$generator-generator
done

# Rules for hardware that no virtual machine has.
for rules in 55-dm 60-autosuspend 60-fido-id 60-infiniband 60-persistent-storage-dm 60-persistent-storage-tape \
	60-persistent-v4l 60-sensor 64-btrfs 66-azure-ephemeral 70-camera 70-joystick 75-probe_mtd 81-net-dhcp \
	85-hwclock 95-dm-notify 96-e2scrub; do
	ln -sf /dev/null /etc/udev/rules.d/$rules.rules
done
