//! A desktop that a real RDP client keeps open, as somebody does who is at work there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::{During, Result};
use super::process;
use super::screenshot::{
    Owned, PROGRAMS, RdpTarget, SETTLED, Screen, alike, changed, save, start_client, wait_for_desktop,
};

/// Pixels of a cursor that blinks, and some; a line of text has more.
const CURSOR: usize = 600;

/// An open session; client and screen end when it is dropped.
pub struct RdpSession {
    client: Owned,
    screen: Screen,
    at_rest: Vec<u8>,
    /// Something new, and since when it has looked so.
    seen: Option<(Vec<u8>, Instant)>,
    _work: tempfile::TempDir,
}

impl std::fmt::Debug for RdpSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RdpSession").field("client", &self.client.child.id()).finish_non_exhaustive()
    }
}

impl RdpSession {
    /// Logs in and waits until the desktop has come to rest.
    ///
    /// # Errors
    /// As [`super::rdp_screenshot`].
    pub fn open(target: &RdpTarget, limit: Duration) -> Result<Self> {
        process::require_installed(PROGRAMS)?;
        let work = tempfile::Builder::new().prefix("nemordp-screen").tempdir().during(|| "make a folder".to_owned())?;
        let screen = Screen::start(work.path())?;
        let log: PathBuf = work.path().join("client.log");
        let mut client = start_client(target, &screen, work.path(), &log)?;
        let at_rest = wait_for_desktop(&mut client, &screen, limit, &log)?.pixels;
        Ok(Self { client, screen, at_rest, seen: None, _work: work })
    }

    /// Saves what is on the screen, when that differs from the desktop that came to rest by more than a clock, and has been
    /// drawn to the end: for as long as a desktop has to it has not changed by more than a cursor.
    ///
    /// # Errors
    /// The screen cannot be read, or the file not be written.
    pub fn picture_of_something_new(&mut self, file: &Path) -> Result<bool> {
        let pixels = self.screen.pixels()?;
        if alike(&self.at_rest, &pixels) {
            self.seen = None;
            return Ok(false);
        }
        match &self.seen {
            Some((earlier, since)) if changed(earlier, &pixels) < CURSOR => {
                if since.elapsed() < SETTLED {
                    return Ok(false);
                }
            }
            Some(_) | None => {
                self.seen = Some((pixels, Instant::now()));
                return Ok(false);
            }
        }
        save(&pixels, file).map(|()| true)
    }

    /// Whether the server has ended it.
    ///
    /// # Errors
    /// The client cannot be asked.
    pub fn is_over(&mut self) -> Result<bool> {
        let ended = self.client.child.try_wait().during(|| "wait for xfreerdp".to_owned())?;
        Ok(ended.is_some())
    }
}
