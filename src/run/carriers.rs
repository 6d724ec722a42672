//! The processes that carry a run's cookie, from a listing of all processes that many supervisors share.
//!
//! When a thousand runs end at once, each of a thousand supervisors has to make sure that nothing of its run is left. One of
//! them lists the processes under a lock, and leaves the listing in the lock's file for all that asked before it began.

use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use crate::clock::Moment;
use crate::home::atomic_file::{self, MAX_RECORD_BYTES};
use crate::home::lock::{FileLock, LockError};
use crate::home::{self, stable_hash};
use crate::process_tree::{Cookie, ProcessId, Scan, ScanError, pid_namespace};

/// The pauses between two looks for a listing, which takes some 50 ms: many processes wait for it at once.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Returns the living processes that carry the cookie of this process, including this process, as of a moment after
/// `since_boot_ms`. If other processes leave no new listing within `timeout`, this one makes its own.
pub(super) fn carriers(
    file: &Path,
    cookie: &Cookie,
    since_boot_ms: u64,
    timeout: Duration,
) -> Result<Vec<ProcessId>, ScanError> {
    carriers_by(file, cookie, since_boot_ms, timeout, &mut Listing::take)
}

fn carriers_by(
    file: &Path,
    cookie: &Cookie,
    since_boot_ms: u64,
    timeout: Duration,
    take: &mut dyn FnMut(&Place) -> Result<Listing, ScanError>,
) -> Result<Vec<ProcessId>, ScanError> {
    let us = ProcessId::current()?;
    let place = Place::this();
    let shared = || {
        let listing = Listing::read(file, &place)?;
        let found = listing.carriers(cookie);
        // A listing that lacks this process was made by one that sees less, such as in a sandbox.
        (listing.began_ms > since_boot_ms && found.contains(&us)).then_some(found)
    };
    let mut newest = place.began(file);
    let mut deadline = Instant::now() + timeout;
    let mut pause = SHORTEST_PAUSE;
    loop {
        let began = place.began(file);
        if began > Some(since_boot_ms)
            && let Some(found) = shared()
        {
            return Ok(found);
        }
        if began != newest {
            // While new listings keep coming, wait on: if each process made its own, none would finish.
            (newest, deadline) = (began, Instant::now() + timeout);
        }
        match FileLock::acquire_unsigned(file, Duration::ZERO) {
            Ok(mut lock) => {
                // Another process may have written one since we looked.
                if let Some(found) = shared() {
                    return Ok(found);
                }
                let listing = take(&place)?;
                // Where it cannot be written, the next one makes its own.
                let _ = lock.set_content(&listing.text);
                return Ok(listing.carriers(cookie));
            }
            Err(LockError::Held { .. }) if Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // The process that makes one is stuck, or there are no locks here.
            Err(_) => return Ok(take(&place)?.carriers(cookie)),
        }
    }
}

/// Cookies with their carriers, as text, because a reader needs one line of thousands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listing {
    /// When it was begun, on the boot clock.
    began_ms: u64,
    text: String,
}

impl Listing {
    fn take(place: &Place) -> Result<Self, ScanError> {
        let began_ms = now_ms();
        // Twice: one look can miss a process that hands over to its child.
        let scan = Scan::take_twice()?;
        let mut lines = String::new();
        for (cookie, carriers) in scan.all_carriers() {
            let _ = write!(lines, "{cookie}");
            for id in carriers {
                let _ = write!(lines, " {}:{}", id.pid, id.start);
            }
            lines.push('\n');
        }
        Ok(Self::of(place, began_ms, &lines))
    }

    fn of(place: &Place, began_ms: u64, lines: &str) -> Self {
        let mut text = format!("{}{began_ms}\n{lines}", place.0);
        // It reveals a text of which only a part was written.
        let hash = stable_hash(text.as_bytes());
        let _ = writeln!(text, "{END}{hash:016x}");
        Self { began_ms, text }
    }

    /// Reads a listing that a process in the same place left; `None` if there is none, or it is not complete yet.
    fn read(file: &Path, place: &Place) -> Option<Self> {
        let text = String::from_utf8(atomic_file::read(file, MAX_RECORD_BYTES).ok()?).ok()?;
        let (content, hash) = text.trim_end().rsplit_once('\n')?;
        let whole = text.get(..content.len() + 1)?;
        if hash.strip_prefix(END)? != format!("{:016x}", stable_hash(whole.as_bytes())) {
            return None;
        }
        Some(Self { began_ms: place.began_in(&text)?, text })
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

const END: &str = "end ";
const MAX_HEAD_BYTES: usize = 256;

/// The beginning of a listing, up to the time at which it was begun: it is the same for all processes that may share it.
struct Place(String);

impl Place {
    fn this() -> Self {
        let boot_id = Moment::now().boot_id;
        // Without a boot id, a listing of an earlier boot could not be recognised.
        let boot = if boot_id.is_empty() { home::random_suffix() } else { boot_id };
        Self(format!("cookies and carriers, boot {boot}, {}, user {}: ", pid_namespace(), geteuid().as_raw()))
    }

    /// Returns when the listing in the file was begun, if it is of this place.
    fn began(&self, file: &Path) -> Option<u64> {
        let mut head = [0; MAX_HEAD_BYTES];
        let count = atomic_file::open_regular(file).ok()?.read(&mut head).ok()?;
        self.began_in(std::str::from_utf8(&head[..count]).ok()?)
    }

    fn began_in(&self, text: &str) -> Option<u64> {
        text.strip_prefix(&self.0)?.split_once('\n')?.0.parse().ok()
    }
}

/// Returns the time on the boot clock.
pub(super) fn now_ms() -> u64 {
    Moment::now().since_boot_ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const TIMEOUT: Duration = Duration::from_secs(10);
    const OTHER: ProcessId = ProcessId { pid: 77, start: 78 };

    fn listing_of(cookie: &Cookie, place: &Place, began_ms: u64) -> Listing {
        let us = ProcessId::current().unwrap();
        let line = format!("{cookie} {}:{} {}:{}\n", us.pid, us.start, OTHER.pid, OTHER.start);
        Listing::of(place, began_ms, &format!("{} 5:5\n{line}", Cookie::random().unwrap()))
    }

    #[test]
    fn a_listing_is_used_if_it_began_later_and_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("listing");
        let cookie = Cookie::random().unwrap();
        let (here, elsewhere) = (Place::this(), Place(format!("{}x", Place::this().0)));
        let good = listing_of(&cookie, &here, 100).text;
        let us = ProcessId::current().unwrap();
        let cases = [
            (good.clone(), 99, true),
            (good.clone(), 100, false),
            (good[..good.len() - 9].to_owned(), 0, false),
            (format!("{good}end 0123456789abcdef\n"), 0, false),
            (good.replacen(":78", ":79", 1), 0, false),
            (listing_of(&cookie, &elsewhere, 100).text, 0, false),
            (listing_of(&Cookie::random().unwrap(), &here, 100).text, 0, false),
            (String::new(), 0, false),
            ("\u{fffd}".repeat(200), 0, false),
        ];
        for (text, since_boot_ms, is_used) in cases {
            std::fs::write(&file, &text).unwrap();
            let mut taken = 0;
            let found = carriers_by(&file, &cookie, since_boot_ms, TIMEOUT, &mut |place| {
                taken += 1;
                Ok(Listing::of(place, 200, &format!("{cookie} 5:6\n")))
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
                    let found = carriers_by(&file, &cookie, now_ms(), TIMEOUT, &mut |place| {
                        taken.fetch_add(1, Ordering::Relaxed);
                        let began_ms = now_ms();
                        std::thread::sleep(Duration::from_millis(100));
                        Ok(listing_of(&cookie, place, began_ms))
                    });
                    assert!(found.unwrap().contains(&OTHER));
                });
            }
        });
        let taken = taken.into_inner();
        assert!((1..=10).contains(&taken), "{taken} listings for 50 who asked at once");
    }

    #[test]
    fn a_listing_of_one_who_is_stuck_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("listing");
        let cookie = Cookie::random().unwrap();
        let _stuck = FileLock::acquire_unsigned(&file, Duration::ZERO).unwrap();
        let timeout = Duration::from_millis(100);
        let mut take = |place: &Place| Ok(listing_of(&cookie, place, now_ms()));
        let found = carriers_by(&file, &cookie, now_ms(), timeout, &mut take);
        assert!(found.unwrap().contains(&OTHER));
    }

    #[test]
    fn where_there_is_no_lock_we_list_by_ourselves() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("missing/listing");
        assert_eq!(carriers(&file, &Cookie::random().unwrap(), 0, TIMEOUT).unwrap(), []);
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
        let found = carriers(&file, &cookie, 0, TIMEOUT);
        let place = Place::this();
        let taken = Listing::take(&place).unwrap();
        std::fs::write(&file, &taken.text).unwrap();
        let read = Listing::read(&file, &place);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.unwrap(), [id]);
        assert_eq!(read, Some(taken));
    }
}
