# Takes out what belongs to one machine or to this build. What a clone needs of it, it makes at its first boot.
rm -f /etc/ssh/ssh_host_* /etc/xrdp/cert.pem /etc/xrdp/key.pem
rm -f /etc/ssl/private/ssl-cert-snakeoil.key /etc/ssl/certs/ssl-cert-snakeoil.pem
for link in /etc/ssl/certs/*; do [ -e "$link" ] || rm -f "$link"; done
: >/etc/machine-id
mkdir -p /var/lib/dbus && ln -sf /etc/machine-id /var/lib/dbus/machine-id
rm -rf /var/lib/systemd/random-seed /var/lib/systemd/catalog/database /var/lib/cloud/* /var/cache/ldconfig /var/cache/debconf/*-old \
	/var/cache/man /var/lib/dpkg/*-old /var/backups/* /var/log/apt /var/log/dpkg.log /var/log/alternatives.log /var/log/bootstrap.log /var/log/fontconfig.log /tmp/* /var/tmp/* /run/* \
	/etc/*- /etc/.pwd.lock /var/cache/fontconfig/* /etc/dpkg/dpkg.cfg.d/99mmdebstrap /etc/apt/apt.conf.d/99mmdebstrap
find / -xdev -name '*.uuid' -path '*/fonts/*' -delete
mkdir -p /var/log/journal
chgrp systemd-journal /var/log/journal && chmod 2755 /var/log/journal
# The others stay, empty: xrdp's server may write its log, but not create it.
find /var/log -type f -exec truncate --size=0 {} +
# The day of the last password change is that of the packages, not of the build.
day=$((SOURCE_DATE_EPOCH / 86400))
awk -F: -v OFS=: -v day="$day" '{ $3 = day; print }' /etc/shadow >/etc/shadow.new
chown root:shadow /etc/shadow.new && chmod 0640 /etc/shadow.new && mv /etc/shadow.new /etc/shadow
# The fonts' folders get their final time first: the cache holds for exactly that.
find /usr/share/fonts /usr/share/icons /usr/local/share -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
fc-cache -f -s >/dev/null
rm -f /var/log/fontconfig.log
