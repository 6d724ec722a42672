//! Time zones: the built-in ones by name, and the one the machine is in now.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use rustix::fs::OFlags;

use crate::home::stamp::Stamp;

/// The file whose content is the machine's zone; most systems make it a link that names the zone.
const LOCALTIME: &str = "/etc/localtime";

/// Files that name the zone where the link does not.
const NAMING_FILES: [&str; 2] = ["/etc/timezone", "/etc/config/system"];

/// Finds a built-in zone by its exact name.
#[must_use]
pub fn built_in(name: &str) -> Option<TimeZone> {
    let zone = TimeZoneDatabase::bundled().get(name).ok()?;
    (zone.iana_name() == Some(name) && !zone.is_unknown()).then_some(zone)
}

/// Returns the zone the machine is in now, or UTC if the system has none. Every decision asks again: the zone may change while
/// a server runs. It is the machine's zone, not the process's (`TZ`), because all processes of a home must mean the same moments.
#[must_use]
pub fn of_machine() -> TimeZone {
    static KNOWN: Mutex<Option<(MachineMark, TimeZone)>> = Mutex::new(None);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mark = MachineMark::now();
    if let Some((_, zone)) = known().as_ref().filter(|(known, _)| *known == mark) {
        return zone.clone();
    }
    let name = iana_time_zone::get_timezone().ok();
    let zone = decide(name.as_deref(), localtime().as_deref(), Timestamp::now());
    if mark.is_settled(SystemTime::now()) {
        *known() = Some((mark, zone.clone()));
    }
    zone
}

/// The state of the files that set the machine's zone; it differs once the zone does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MachineMark {
    link: Option<PathBuf>,
    content: Option<Stamp>,
    naming: [Option<Stamp>; 2],
}

impl MachineMark {
    /// Looks at the files without reading them.
    #[must_use]
    pub fn now() -> Self {
        Self {
            link: std::fs::read_link(LOCALTIME).ok(),
            content: Stamp::of_target(Path::new(LOCALTIME)),
            naming: NAMING_FILES.map(|file| Stamp::of_target(Path::new(file))),
        }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        [self.content].iter().chain(&self.naming).flatten().all(|stamp| stamp.is_settled(now))
    }
}

/// More than any zone has.
const MOST_ZONE_BYTES: u64 = 1 << 20;

fn localtime() -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(LOCALTIME).ok()?;
    file.take(MOST_ZONE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Chooses between a zone's name and the content of [`LOCALTIME`]. Where they disagree the content counts, as for every other
/// program: the name may be that of the image a container was made from.
fn decide(name: Option<&str>, localtime: Option<&[u8]>, now: Timestamp) -> TimeZone {
    let named = name.and_then(built_in);
    let local = localtime.and_then(|bytes| TimeZone::tzif(LOCALTIME, bytes).ok());
    match (named, local) {
        (Some(named), Some(local)) if !agree(&named, &local, now) => local,
        (Some(zone), _) | (None, Some(zone)) => zone,
        (None, None) => TimeZone::UTC,
    }
}

/// How many changes of the clock are compared: those of some years, in most zones.
const COMPARED: usize = 8;

/// Says whether two zones mean the same from now on; they may come from different versions of the database.
fn agree(one: &TimeZone, other: &TimeZone, now: Timestamp) -> bool {
    let changes = |zone: &TimeZone| -> Vec<_> {
        zone.following(now).take(COMPARED).map(|change| (change.timestamp(), change.offset())).collect()
    };
    one.to_offset(now) == other.to_offset(now) && changes(one) == changes(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TZif file, version 2, of a zone that only its footer describes.
    fn tzif(posix: &str) -> Vec<u8> {
        let header = |version: u8| {
            let mut header = b"TZif".to_vec();
            header.push(version);
            header.extend([0; 15]);
            // No UT/local or standard/wall indicators, leap seconds or transitions; one type with a name of 4 bytes.
            for count in [0_u32, 0, 0, 0, 1, 4] {
                header.extend(count.to_be_bytes());
            }
            header.extend([0, 0, 0, 0, 0, 0]);
            header.extend(b"LMT\0");
            header
        };
        [header(b'2'), header(b'2'), format!("\n{posix}\n").into_bytes()].concat()
    }

    fn now() -> Timestamp {
        "2026-01-05T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_content_of_localtime_counts_and_the_name_says_what_it_is_called() {
        let berlin = tzif("CET-1CEST,M3.5.0,M10.5.0/3");
        let tokyo = tzif("JST-9");
        type Case<'a> = (Option<&'a str>, Option<&'a [u8]>, Option<&'a str>, i32);
        let cases: [Case<'_>; 8] = [
            (Some("Europe/Berlin"), Some(&berlin), Some("Europe/Berlin"), 1),
            (Some("Europe/Berlin"), None, Some("Europe/Berlin"), 1),
            (Some("Etc/UTC"), Some(&tokyo), Some(LOCALTIME), 9),
            // The same offset now, but not in summer.
            (Some("Africa/Lagos"), Some(&berlin), Some(LOCALTIME), 1),
            (None, Some(&tokyo), Some(LOCALTIME), 9),
            (Some("Nowhere/City"), Some(&tokyo), Some(LOCALTIME), 9),
            (Some("Asia/Tokyo"), Some(b"junk"), Some("Asia/Tokyo"), 9),
            (None, Some(b""), Some("UTC"), 0),
        ];
        for (name, content, called, hours) in cases {
            let zone = decide(name, content, now());
            assert_eq!(zone.iana_name(), called, "{name:?}");
            assert_eq!(zone.to_offset(now()).seconds(), hours * 3600, "{name:?}");
        }
    }

    #[test]
    fn the_zone_of_this_machine_is_found_each_time() {
        assert_eq!(of_machine(), of_machine());
        assert_eq!(MachineMark::now(), MachineMark::now());
    }

    #[test]
    fn every_zone_is_found_by_its_exact_name_and_nothing_else_is() {
        let database = TimeZoneDatabase::bundled();
        let names: Vec<_> = database.available().collect();
        assert!(names.len() > 400);
        for name in names {
            assert!(built_in(name.as_str()).is_some(), "{name}");
        }
        for other in ["europe/berlin", "utc", "Etc/Unknown", "Europe/Berlin ", "/etc/localtime"] {
            assert_eq!(built_in(other), None, "{other}");
        }
    }
}
