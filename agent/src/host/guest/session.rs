//! Desktop sessions as the guest's process table shows them: one X server each.

use jiff::Timestamp;
use nemordp_types::guest::GuestSession;

/// Linux counts start times in hundredths of a second for programs, whatever the kernel's own tick is.
const TICKS_PER_SECOND: i64 = 100;

/// Reads what [`super::script::Script::Sessions`] printed; lines that are not understood are no sessions.
#[must_use]
pub fn read(printed: &str) -> Vec<GuestSession> {
    let boot = printed.lines().find_map(|line| line.strip_prefix("boot ")?.trim().parse::<i64>().ok());
    printed.lines().filter_map(|line| read_line(line, boot)).collect()
}

/// Reads what [`super::script::Script::Announce`] printed: whether any desktop was open.
#[must_use]
pub fn was_told(printed: &str) -> bool {
    let told = printed.lines().find_map(|line| line.strip_prefix("told ")?.trim().parse::<u32>().ok());
    told.is_some_and(|desktops| desktops > 0)
}

fn read_line(line: &str, boot: Option<i64>) -> Option<GuestSession> {
    let mut words = line.strip_prefix("session ")?.split_whitespace();
    let id = words.next()?.to_owned();
    let login_name = words.next()?.parse().ok()?;
    let ticks = words.next().and_then(|text| text.parse::<i64>().ok());
    let started_at = boot
        .zip(ticks)
        .and_then(|(boot, ticks)| Timestamp::from_second(boot.checked_add(ticks / TICKS_PER_SECOND)?).ok());
    Some(GuestSession { id, login_name, started_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_was_told_where_no_desktop_was_open() {
        assert!(was_told("told 2\n"));
        assert!(!was_told("told 0\n") && !was_told("") && !was_told("told\n"));
    }

    #[test]
    fn a_session_has_its_display_its_owner_and_its_start() {
        let sessions = read("boot 1795564000\nsession :10 user 12345\nsession ? ? 1\nsession :11 user x\nnoise\n");
        assert_eq!(sessions.len(), 2);
        assert_eq!((sessions[0].id.as_str(), sessions[0].login_name.as_str()), (":10", "user"));
        assert_eq!(sessions[0].started_at.unwrap().as_second(), 1_795_564_123);
        assert_eq!(sessions[1].started_at, None);
        assert!(read("").is_empty());
    }
}
