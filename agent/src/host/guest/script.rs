//! The few scripts that run inside a guest: plain POSIX shell with its builtins, because every program that starts costs
//! a guest that is emulated tens of milliseconds, and because a small guest lacks hostnamectl, loginctl and pgrep.
//!
//! Each is one round trip, safe to repeat, and reports what is wrong by its exit code.

/// A script that is known to the agent; nothing else runs inside a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Host name, account, time zone, keyboard. Arguments: host name, login, zone or empty, layout or empty, variant.
    Personalise,
    /// State of an account and the end of the login log. Arguments: login, seconds since the epoch.
    Account,
    /// Shows a text on an account's open desktops and terminals, and waits for nobody. Arguments: login, text.
    Announce,
    /// Open desktop sessions. No arguments.
    Sessions,
    /// Ends sessions and waits until they are gone. Arguments: login, `proof` or `all`, seconds to wait.
    EndSessions,
    /// The certificate that xrdp shows. No arguments.
    Certificate,
}

/// The time zone is not in the guest's database.
pub const EXIT_NO_ZONE: i64 = 31;
/// The account could not be made.
pub const EXIT_NO_ACCOUNT: i64 = 32;
/// A session is still there.
pub const EXIT_SESSION_STAYS: i64 = 33;

impl Script {
    /// Its text.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Personalise => PERSONALISE,
            Self::Account => ACCOUNT,
            Self::Announce => ANNOUNCE,
            Self::Sessions => SESSIONS,
            Self::EndSessions => END_SESSIONS,
            Self::Certificate => CERTIFICATE,
        }
    }
}

// The zone is looked at first, so that a guest is never half personalised for a name that cannot be kept.
const PERSONALISE: &str = r#"set -u
host=$1 login=$2 zone=$3 layout=$4 variant=$5
[ -z "$zone" ] || [ -f "/usr/share/zoneinfo/$zone" ] || exit 31
known=no; while IFS=: read -r name rest; do [ "$name" = "$login" ] && known=yes; done < /etc/passwd
if [ $known = no ]; then
  shell=/bin/sh; [ -x /bin/bash ] && shell=/bin/bash
  useradd -m -s "$shell" "$login" >&2 || exit 32
fi
sudo=absent; while IFS=: read -r name pass gid members; do
  [ "$name" = sudo ] || continue
  case ",$members," in *",$login,"*) sudo=member ;; *) sudo=other ;; esac
done < /etc/group
[ $sudo != other ] || usermod -a -G sudo "$login" >&2 || exit 32
set -e
printf '%s\n' "$host" > /etc/hostname
printf '%s' "$host" > /proc/sys/kernel/hostname
hosts=; while IFS= read -r line || [ -n "$line" ]; do
  case $line in 127.0.1.1[[:space:]]*) ;; *) hosts="$hosts$line
" ;; esac
done < /etc/hosts
printf '%s127.0.1.1\t%s\n' "$hosts" "$host" > /etc/hosts
if [ -n "$zone" ]; then
  ln -snf "/usr/share/zoneinfo/$zone" /etc/localtime
  printf '%s\n' "$zone" > /etc/timezone
fi
if [ -n "$layout" ]; then
  printf 'XKBMODEL="pc105"\nXKBLAYOUT="%s"\nXKBVARIANT="%s"\nXKBOPTIONS=""\nBACKSPACE="guess"\n' "$layout" "$variant" > /etc/default/keyboard
fi
"#;

// The hash never leaves the guest: only whether there is one that can be used.
const ACCOUNT: &str = r#"set -u
login=$1 since=$2
printf 'now %s\n' "$(date +%s)"
printf 'offset %s\n' "$(date +%z)"
while IFS=: read -r name hash changed min max warn inactive expire rest; do
  [ "$name" = "$login" ] || continue
  case $hash in ''|'!'*|'*'*) usable=no ;; *) usable=yes ;; esac
  printf 'account %s changed=%s max=%s inactive=%s expire=%s\n' $usable "$changed" "$max" "$inactive" "$expire"
done < /etc/shadow
echo log
if [ -s /var/log/xrdp-sesman.log ]; then tail -c 16384 /var/log/xrdp-sesman.log
elif [ -x /usr/bin/journalctl ]; then journalctl -q --since "@$since" -t xrdp-sesman -o cat 2>/dev/null | tail -c 16384
fi
exit 0
"#;

// Windows and terminals are the account's own: root never talks to a display that somebody else controls. Everything that
// could wait runs behind, with an end of its own and without this script's output, for whose end the guest agent waits.
// The template has lxterminal; a guest that its owner has changed may have something better.
const ANNOUNCE: &str = r#"set -u
login=$1 text=$2 uid= home= told=0
while IFS=: read -r name pass id group gecos dir rest; do
  [ "$name" = "$login" ] && { uid=$id home=$dir; }
done < /etc/passwd
[ "${uid:-0}" -gt 0 ] || { echo 'told 0'; exit 0; }
tool=; for each in xmessage zenity xterm lxterminal; do [ -x "/usr/bin/$each" ] && { tool=$each; break; }; done
case $tool in
  xmessage) set -- xmessage -center -timeout 60 "$text" ;;
  zenity) set -- zenity --info --no-markup --timeout=60 --text="$text" ;;
  xterm) set -- xterm -e /bin/sh -c 'printf "%s\n" "$NEMORDP_TEXT"; sleep 60' ;;
  lxterminal) set -- lxterminal --no-remote --command='/bin/sh -c "printf \"%s\\n\" \"\$NEMORDP_TEXT\"; sleep 60"' ;;
esac
for dir in /proc/[0-9]*; do
  read -r comm 2>/dev/null < $dir/comm || continue
  case $comm in Xorg|Xvnc) ;; *) continue ;; esac
  owner=; while read -r key value rest; do [ "$key" = Uid: ] && owner=$value; done 2>/dev/null < $dir/status
  [ "$owner" = "$uid" ] || continue
  display=; for word in $(tr '\0' ' ' 2>/dev/null < $dir/cmdline); do case $word in :[0-9]*) display=$word; break ;; esac; done
  [ -n "$display" ] || continue
  told=$((told + 1))
  [ -z "$tool" ] || runuser -u "$login" -- env DISPLAY="$display" XAUTHORITY="$home/.Xauthority" HOME="$home" \
    NEMORDP_TEXT="$text" timeout -k 1 60 "$@" < /dev/null > /dev/null 2>&1 &
done
[ $told = 0 ] || for tty in $(find /dev/pts -type c -user "$login" 2>/dev/null); do
  runuser -u "$login" -- timeout -k 1 5 /bin/sh -c 'printf "\r\n%s\r\n" "$1" > "$2"' sh "$text" "$tty" \
    < /dev/null > /dev/null 2>&1 &
done
echo "told $told"
exit 0
"#;

const SESSIONS: &str = r#"set -u
while read -r key value rest; do [ "$key" = btime ] && printf 'boot %s\n' "$value"; done < /proc/stat
for dir in /proc/[0-9]*; do
  read -r comm 2>/dev/null < $dir/comm || continue
  case $comm in Xorg|Xvnc) ;; *) continue ;; esac
  uid=; while read -r key value rest; do [ "$key" = Uid: ] && uid=$value; done 2>/dev/null < $dir/status
  [ "${uid:-0}" -gt 0 ] || continue
  display=; for word in $(tr '\0' ' ' 2>/dev/null < $dir/cmdline); do case $word in :[0-9]*) display=$word; break ;; esac; done
  read -r stat 2>/dev/null < $dir/stat || continue
  set -- ${stat##*) }
  owner=; while IFS=: read -r name pass id rest; do [ "$id" = "$uid" ] && { owner=$name; break; }; done < /etc/passwd
  printf 'session %s %s %s\n' "${display:-?}" "${owner:-?}" "${20}"
done
exit 0
"#;

// A proof's session consists of `sleep 20` alone; it is ended by that process, the customer's own by everything that
// the session manager started for the user. Gone means: no X server and no channel server of that user is left. An X
// server that has only just started can take half a minute to obey under emulation: it is cut, and what it would have
// removed is removed, or the next session would count its display as taken.
const END_SESSIONS: &str = r#"set -u
login=$1 which=$2 limit=$3 uid= waited=0
read -r up rest < /proc/uptime; begin=${up%.*} asked=
while IFS=: read -r name pass id rest; do [ "$name" = "$login" ] && uid=$id; done < /etc/passwd
[ -n "$uid" ] || exit 0
[ "$uid" -gt 0 ] || exit 34
signal=TERM patience=3; [ $which = all ] && patience=8
while :; do
  open=no
  for dir in /proc/[0-9]*; do
    read -r comm 2>/dev/null < $dir/comm || continue
    case $comm in
      Xorg|Xvnc|xrdp-chansrv|sleep) ;;
      *) [ $which = all ] || continue ;;
    esac
    owner= parent=
    while read -r key value rest; do
      case $key in State:) state=$value ;; PPid:) parent=$value ;; Uid:) owner=$value; break ;; esac
    done 2>/dev/null < $dir/status
    [ "$owner" = "$uid" ] && [ "$state" != Z ] || continue
    case $comm in Xorg|Xvnc|xrdp-chansrv)
      open=yes
      if [ $signal = KILL ]; then
        [ $comm = xrdp-chansrv ] || for word in $(tr '\0' ' ' 2>/dev/null < $dir/cmdline); do
          case $word in :[0-9]|:[0-9][0-9]) rm -f "/tmp/.X${word#:}-lock" "/tmp/.X11-unix/X${word#:}" ;; esac
        done
        kill -KILL ${dir#/proc/} 2>/dev/null
        continue
      fi ;;
    esac
    if [ $which = proof ]; then
      [ $comm = sleep ] && [ "$(tr '\0' ' ' 2>/dev/null < $dir/cmdline)" = 'sleep 20 ' ] || continue
    else
      read -r manager 2>/dev/null < /proc/$parent/comm || continue
      case $manager in xrdp-sesman|xrdp-sesexec) ;; *) continue ;; esac
    fi
    kill -$signal ${dir#/proc/} 2>/dev/null && asked=${asked:-$waited}
  done
  [ $open = no ] && exit 0
  read -r up rest < /proc/uptime; waited=$((${up%.*} - begin))
  [ $waited -lt "$limit" ] || exit 33
  [ -n "$asked" ] && [ $((waited - asked)) -ge $patience ] && signal=KILL
  sleep 0.1
done
"#;

const CERTIFICATE: &str = r#"set -u
file=/etc/xrdp/cert.pem
[ -r /etc/xrdp/xrdp.ini ] && while IFS= read -r line; do
  case $line in certificate=?*) file=${line#certificate=} ;; esac
done < /etc/xrdp/xrdp.ini
[ -r "$file" ] || exit 0
while IFS= read -r line; do printf '%s\n' "$line"; done < "$file"
exit 0
"#;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the scripts are run by a real shell")]
mod tests {
    use super::*;
    use std::process::Command;

    const ALL: [Script; 6] = [
        Script::Personalise,
        Script::Account,
        Script::Announce,
        Script::Sessions,
        Script::EndSessions,
        Script::Certificate,
    ];

    #[test]
    fn every_script_is_one_that_a_plain_shell_accepts() {
        for script in ALL {
            let ended = Command::new("/bin/sh").args(["-n", "-c", script.text()]).output().unwrap();
            assert!(ended.status.success(), "{script:?}: {}", String::from_utf8_lossy(&ended.stderr));
        }
    }

    #[test]
    fn reading_scripts_run_on_any_machine() {
        for script in [Script::Sessions, Script::Certificate] {
            let ended = Command::new("/bin/sh").args(["-c", script.text(), "nemordp"]).output().unwrap();
            assert!(ended.status.success(), "{script:?}: {}", String::from_utf8_lossy(&ended.stderr));
        }
    }

    #[test]
    fn sessions_of_an_unknown_account_are_gone_already() {
        let arguments = ["-c", Script::EndSessions.text(), "nemordp", "no-such-account", "all", "1"];
        assert!(Command::new("/bin/sh").args(arguments).status().unwrap().success());
    }

    #[test]
    fn nothing_is_announced_to_an_unknown_account_or_to_root() {
        for login in ["no-such-account", "root"] {
            let arguments = ["-c", Script::Announce.text(), "nemordp", login, "$(reboot)"];
            let ended = Command::new("/bin/sh").args(arguments).output().unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            assert_eq!(String::from_utf8_lossy(&ended.stdout), "told 0\n");
        }
    }

    #[test]
    fn sessions_of_root_are_never_ended() {
        let arguments = ["-c", Script::EndSessions.text(), "nemordp", "root", "all", "1"];
        assert_eq!(Command::new("/bin/sh").args(arguments).status().unwrap().code(), Some(34));
    }
}
