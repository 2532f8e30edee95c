# xrdp shows nothing before the password was checked, and says why a login was refused in /var/log/xrdp-sesman.log.
set_value() { # FILE SECTION KEY VALUE: sets the key in its section, adds it where it is missing
	awk -v section="[$2]" -v key="$3" -v value="$4" '
		function put() { if (inside && !done) { print key "=" value; done = 1 } }
		/^\[/ { put(); inside = ($0 == section) }
		inside && $0 ~ "^[#;]?[ ]*" key "=" { if (!done) { print key "=" value; done = 1 } next }
		{ print }
		END { put(); if (!done) exit 1 }' "$1" >"$1.new"
	chmod --reference="$1" "$1.new"
	mv "$1.new" "$1"
}
ini=/etc/xrdp/xrdp.ini
set_value $ini Globals security_layer tls
set_value $ini Globals certificate /etc/xrdp/cert.pem
set_value $ini Globals key_file /etc/xrdp/key.pem
set_value $ini Globals autorun Xorg
set_value $ini Globals require_credentials true
set_value $ini Globals allow_channels true
set_value $ini Channels cliprdr true
set_value /etc/xrdp/sesman.ini Security AllowRootLogin false
set_value /etc/xrdp/sesman.ini Security AllowAlternateShell yes
set_value /etc/xrdp/sesman.ini Logging LogFile xrdp-sesman.log

# The desktop: lxterminal and icewm with its file manager a click away; see /etc/X11/icewm.
update-alternatives --set x-terminal-emulator /usr/bin/lxterminal
update-alternatives --install /usr/bin/x-session-manager x-session-manager /usr/local/lib/nemordp/desktop 90
