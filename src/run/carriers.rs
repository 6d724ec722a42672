//! Who carries a run's cookie, in a listing of all processes that many supervisors share.
//!
//! When a thousand runs end at one moment, each of a thousand supervisors has to know that nothing of its run is left
//! anywhere. One of them lists the processes, under a lock, and leaves what it saw in the lock's file; it serves all who
//! asked before it began.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use crate::clock::Moment;
use crate::home::atomic_file::{self, MAX_RECORD_BYTES};
use crate::home::lock::{FileLock, LockError};
use crate::home::stable_hash;
use crate::process_tree::{Cookie, ProcessId, Scan, ScanError, pid_namespace};

/// How long others may take over their listings before we take one of our own.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pauses between two tries for the lock: a listing takes some 50 ms, and as many as wait for it share the processors.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Returns the living processes that carry the cookie of this process, ourselves included, as of a moment after `since_boot_ms`.
///
/// # Errors
/// The processes cannot be listed.
pub(super) fn carriers(file: &Path, cookie: &Cookie, since_boot_ms: u64) -> Result<Vec<ProcessId>, ScanError> {
    carriers_by(file, cookie, since_boot_ms, &mut Listing::take)
}

fn carriers_by(
    file: &Path,
    cookie: &Cookie,
    since_boot_ms: u64,
    take: &mut dyn FnMut() -> Result<Listing, ScanError>,
) -> Result<Vec<ProcessId>, ScanError> {
    let us = ProcessId::current()?;
    let deadline = Instant::now() + PATIENCE;
    let mut pause = SHORTEST_PAUSE;
    loop {
        match FileLock::acquire_unsigned(file, Duration::ZERO) {
            Ok(mut lock) => {
                let shared = Listing::read(file).filter(|listing| listing.began_ms > since_boot_ms);
                // A listing that lacks us was made by somebody who sees less, such as from within a sandbox.
                if let Some(found) = shared.map(|listing| listing.carriers(cookie)).filter(|found| found.contains(&us))
                {
                    return Ok(found);
                }
                let listing = take()?;
                // Where it cannot be written, the next one takes its own.
                let _ = lock.set_content(&listing.text);
                return Ok(listing.carriers(cookie));
            }
            Err(LockError::Held { .. }) if Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // It is not released, or there are no locks here.
            Err(_) => return Ok(take()?.carriers(cookie)),
        }
    }
}

/// Cookies with their carriers, as text: whoever reads it wants one line of thousands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listing {
    /// When it was begun, on the boot clock.
    began_ms: u64,
    text: String,
}

impl Listing {
    fn take() -> Result<Self, ScanError> {
        let began = Moment::now();
        // Twice: one look can miss a process that hands over to its child.
        let scan = Scan::take_twice()?;
        let mut text = head(&began);
        for (cookie, carriers) in scan.all_carriers() {
            let _ = write!(text, "{cookie}");
            for id in carriers {
                let _ = write!(text, " {}:{}", id.pid, id.start);
            }
            text.push('\n');
        }
        Ok(Self::ended(began.since_boot_ms, text))
    }

    /// Closes a text, so that one that was not written to its end is told from it.
    fn ended(began_ms: u64, mut text: String) -> Self {
        let hash = stable_hash(text.as_bytes());
        let _ = writeln!(text, "{END} {hash:016x}");
        Self { began_ms, text }
    }

    /// Reads what another process left; `None` if it is damaged, or of another boot, place or user.
    fn read(file: &Path) -> Option<Self> {
        let text = String::from_utf8(atomic_file::read(file, MAX_RECORD_BYTES).ok()?).ok()?;
        let (content, hash) = text.trim_end().rsplit_once('\n')?;
        let hash = hash.strip_prefix(END)?.trim_start();
        let whole = text.get(..content.len() + 1)?;
        if hash != format!("{:016x}", stable_hash(whole.as_bytes())) {
            return None;
        }
        let now = Moment::now();
        let began_ms = text.lines().next()?.rsplit_once(' ')?.1.parse().ok()?;
        let began = Moment { since_boot_ms: began_ms, ..now };
        (!began.boot_id.is_empty() && text.starts_with(&head(&began))).then_some(Self { began_ms, text })
    }

    fn carriers(&self, cookie: &Cookie) -> Vec<ProcessId> {
        let cookie = cookie.to_string();
        let line = self.text.lines().find_map(|line| line.strip_prefix(&cookie));
        let id = |word: &str| {
            let (pid, start) = word.split_once(':')?;
            Some(ProcessId { pid: pid.parse().ok()?, start: start.parse().ok()? })
        };
        line.unwrap_or_default().split_ascii_whitespace().filter_map(id).collect()
    }
}

const END: &str = "end";

/// What is the same for all who may share a listing, and when it was begun.
fn head(began: &Moment) -> String {
    let Moment { boot_id, since_boot_ms, .. } = began;
    format!("carriers of cookies, boot {boot_id}, {}, user {}: {since_boot_ms}\n", pid_namespace(), geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const OTHER: ProcessId = ProcessId { pid: 77, start: 78 };

    fn listing_of(cookie: &Cookie, began: &Moment) -> Listing {
        let us = ProcessId::current().unwrap();
        let line = format!("{cookie} {}:{} {}:{}\n", us.pid, us.start, OTHER.pid, OTHER.start);
        Listing::ended(began.since_boot_ms, format!("{}{}\n{line}", head(began), Cookie::random().unwrap()))
    }

    #[test]
    fn a_listing_is_used_if_it_began_later_and_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("listing");
        let cookie = Cookie::random().unwrap();
        let now = Moment::now();
        let good = listing_of(&cookie, &now).text;
        let elsewhere = Moment { boot_id: format!("{}x", now.boot_id), ..now.clone() };
        let us = ProcessId::current().unwrap();
        let cases = [
            (good.clone(), now.since_boot_ms.saturating_sub(1), true),
            (good.clone(), now.since_boot_ms, false),
            (good[..good.len() - 9].to_owned(), 0, false),
            (format!("{good}end 0123456789abcdef\n"), 0, false),
            (good.replacen(":78", ":79", 1), 0, false),
            (listing_of(&cookie, &elsewhere).text, 0, false),
            (listing_of(&Cookie::random().unwrap(), &now).text, 0, false),
            (String::new(), 0, false),
        ];
        for (text, since_boot_ms, is_used) in cases {
            std::fs::write(&file, &text).unwrap();
            let mut taken = 0;
            let found = carriers_by(&file, &cookie, since_boot_ms, &mut || {
                taken += 1;
                Ok(Listing::ended(9, format!("{cookie} 5:6\n")))
            });
            let expected = if is_used { vec![us, OTHER] } else { vec![ProcessId { pid: 5, start: 6 }] };
            assert_eq!((found.unwrap(), taken), (expected, usize::from(!is_used)), "{text} {since_boot_ms}");
        }
    }

    #[test]
    fn many_who_ask_at_once_share_a_few_listings() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("listing");
        let cookie = Cookie::random().unwrap();
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| {
                    let found = carriers_by(&file, &cookie, Moment::now().since_boot_ms, &mut || {
                        taken.fetch_add(1, Ordering::Relaxed);
                        let began = Moment::now();
                        std::thread::sleep(Duration::from_millis(100));
                        Ok(listing_of(&cookie, &began))
                    });
                    assert!(found.unwrap().contains(&OTHER));
                });
            }
        });
        let taken = taken.into_inner();
        assert!((1..=10).contains(&taken), "{taken} listings for 50 who asked at once");
    }

    #[test]
    fn where_there_is_no_lock_we_list_by_ourselves() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("missing/listing");
        assert_eq!(carriers(&file, &Cookie::random().unwrap(), 0).unwrap(), []);
    }

    #[test]
    fn a_real_listing_holds_a_child_and_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("listing");
        let cookie = Cookie::random().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .env(crate::process_tree::COOKIE_VARIABLE, cookie.to_string())
            .spawn()
            .unwrap();
        let id = ProcessId::of(child.id().try_into().unwrap()).unwrap();
        let found = carriers(&file, &cookie, 0);
        let taken = Listing::take().unwrap();
        std::fs::write(&file, &taken.text).unwrap();
        let read = Listing::read(&file);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.unwrap(), [id]);
        assert_eq!(read, Some(taken));
    }
}
