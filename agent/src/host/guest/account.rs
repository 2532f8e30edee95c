//! State of an account and the reason of its last refused login, from the guest's account database and login log.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::Offset;
use nemordp_types::guest::{Account, AccountState, LoginRefusal};
use nemordp_types::{Failure, LoginName, Reason};

const DAY: i64 = 86_400;

/// Reads what [`super::script::Script::Account`] printed.
pub fn read(printed: &str, login: &LoginName, since: Timestamp) -> Result<Account, Failure> {
    let (head, log) = printed.split_once("log\n").ok_or_else(|| {
        Failure::new(Reason::GuestAgentFailure, "the guest did not tell the account's state").with_context(printed)
    })?;
    let value = |key: &str| head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let now = value("now").and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or_default();
    let offset = value("offset").and_then(read_offset).unwrap_or(Offset::UTC);
    let state = value("account").map_or(AccountState::Missing, |line| read_state(line, now / DAY));
    Ok(Account { login_name: login.clone(), state, last_refusal: read_refusal(log, login, since, offset) })
}

/// `+0200` as an offset.
fn read_offset(text: &str) -> Option<Offset> {
    let (hours, minutes) = text.trim().split_at_checked(3)?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let sign = if text.starts_with('-') { -1 } else { 1 };
    Offset::from_seconds(hours * 3600 + sign * minutes * 60).ok()
}

/// The rules of shadow(5), as PAM applies them: the account's end, then a password that must be changed.
fn read_state(line: &str, today: i64) -> AccountState {
    let number = |key: &str| {
        let field = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        field.and_then(|text| text.parse::<i64>().ok()).filter(|number| *number >= 0)
    };
    if !line.starts_with("yes ") {
        return AccountState::Locked;
    }
    if number("expire").is_some_and(|day| today >= day) {
        return AccountState::AccountExpired;
    }
    match (number("changed"), number("max")) {
        (Some(0), _) => AccountState::PasswordExpired,
        (Some(changed), Some(max)) if max < 10_000 && today > changed + max => {
            let ended = number("inactive").is_some_and(|days| today > changed + max + days);
            if ended { AccountState::AccountExpired } else { AccountState::PasswordExpired }
        }
        (Some(_) | None, Some(_) | None) => AccountState::Usable,
    }
}

/// What one line says, in the words of xrdp-sesman 0.9 and 0.10 and of PAM.
fn refusal(line: &str) -> Option<LoginRefusal> {
    let says = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if says(&["required to change your password", "Authentication token is no longer valid", "password has expired"]) {
        return Some(LoginRefusal::PasswordChange);
    }
    if says(&["pam_acct_mgmt failed", "account has expired", "Your account has expired", "User account has expired"]) {
        return Some(LoginRefusal::Account);
    }
    if says(&["pam_authenticate failed", "authentication failure", "Authentication failure"]) {
        return Some(LoginRefusal::Authentication);
    }
    if says(&["exited quickly"]) {
        return Some(LoginRefusal::SessionDied);
    }
    None
}

/// The last refusal since the question's time; a refusal that the log then names another user for does not count.
fn read_refusal(log: &str, login: &LoginName, since: Timestamp, offset: Offset) -> Option<LoginRefusal> {
    let mut last = None;
    let mut before = None;
    for line in log.lines() {
        // The log has whole seconds: the second in which the question's time lies counts.
        let old = read_time(line, offset).is_some_and(|time| time.as_second() < since.as_second());
        if old {
            continue;
        }
        if let Some(user) = line.split_once("AUTHFAIL: user=").and_then(|(_, rest)| rest.split_whitespace().next()) {
            if user != login.as_str() {
                last = before;
            }
            before = last;
        } else if let Some(found) = refusal(line) {
            if last == before || last.is_none() {
                before = last;
            }
            // The account check's words say more than the authentication failure that follows them.
            last = match (last, found) {
                (Some(LoginRefusal::PasswordChange), LoginRefusal::Account) if before != last => last,
                (_, found) => Some(found),
            };
        }
    }
    last
}

/// `[20261124-23:01:02]` (the guest's local time) or `[2026-11-24T23:01:02.123+0200]`.
fn read_time(line: &str, offset: Offset) -> Option<Timestamp> {
    let (stamp, _) = line.strip_prefix('[')?.split_once(']')?;
    if let Ok(local) = DateTime::strptime("%Y%m%d-%H:%M:%S", stamp) {
        return offset.to_timestamp(local).ok();
    }
    strtime::parse("%Y-%m-%dT%H:%M:%S%.f%z", stamp).ok()?.to_timestamp().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> LoginName {
        LoginName::new("user").unwrap()
    }

    fn read_with(account: &str, log: &str, since: &str) -> Account {
        let printed = format!("now 1795564800\noffset +0100\n{account}log\n{log}");
        read(&printed, &user(), since.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_state_follows_the_shadow_file() {
        let today = 1_795_564_800 / DAY;
        for (line, state) in [
            (String::new(), AccountState::Missing),
            ("account no changed=20000 max=99999 inactive= expire=\n".to_owned(), AccountState::Locked),
            ("account yes changed=20000 max=99999 inactive= expire=\n".to_owned(), AccountState::Usable),
            ("account yes changed=0 max=99999 inactive= expire=\n".to_owned(), AccountState::PasswordExpired),
            (format!("account yes changed=20000 max=99999 inactive= expire={today}\n"), AccountState::AccountExpired),
            (format!("account yes changed=20000 max=99999 inactive= expire={}\n", today + 1), AccountState::Usable),
            (format!("account yes changed={} max=30 inactive= expire=\n", today - 31), AccountState::PasswordExpired),
            (format!("account yes changed={} max=30 inactive= expire=\n", today - 30), AccountState::Usable),
            (format!("account yes changed={} max=30 inactive=5 expire=\n", today - 36), AccountState::AccountExpired),
            ("account yes changed= max= inactive= expire=\n".to_owned(), AccountState::Usable),
        ] {
            assert_eq!(read_with(&line, "", "2026-11-24T00:00:00Z").state, state, "{line}");
        }
    }

    #[test]
    fn only_refusals_since_the_question_count() {
        let log = "[20261124-10:00:00] [ERROR] pam_authenticate failed: Authentication failure\n\
                   [20261124-10:00:00] [INFO ] AUTHFAIL: user=user ip=::ffff:192.0.2.1 time=1\n\
                   [20261124-10:05:00] [INFO ] Socket 8: connection accepted\n";
        let refusal = |since: &str| read_with("", log, since).last_refusal;
        assert_eq!(refusal("2026-11-24T09:00:00.9Z"), Some(LoginRefusal::Authentication));
        assert_eq!(refusal("2026-11-24T09:00:01Z"), None);
    }

    #[test]
    fn each_kind_of_refusal_is_told_apart() {
        for (words, kind) in [
            ("pam_authenticate failed: Authentication failure", LoginRefusal::Authentication),
            ("pam_acct_mgmt failed: User account has expired", LoginRefusal::Account),
            ("pam_conv: You are required to change your password immediately", LoginRefusal::PasswordChange),
            ("Window manager (pid 9, display 10) exited quickly (0 secs).", LoginRefusal::SessionDied),
        ] {
            for stamp in ["[20261124-10:00:00] [ERROR]", "[2026-11-24T10:00:00.123+0100] [ERROR]"] {
                let log = format!("{stamp} {words}\n");
                assert_eq!(read_with("", &log, "2026-11-24T09:00:00Z").last_refusal, Some(kind), "{log}");
                assert_eq!(read_with("", &log, "2026-11-24T09:00:02Z").last_refusal, None, "{log}");
            }
        }
    }

    #[test]
    fn a_refusal_of_somebody_else_is_not_the_accounts() {
        let log = "[20261124-10:00:00] [ERROR] pam_authenticate failed: Authentication failure\n\
                   [20261124-10:00:00] [INFO ] AUTHFAIL: user=mallory ip=::ffff:192.0.2.1 time=1\n";
        assert_eq!(read_with("", log, "2026-11-24T08:00:00Z").last_refusal, None);
    }
}
