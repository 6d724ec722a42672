//! Time zones: the built-in ones by name, and the one the machine is in now.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::home::file_cache::Stamp;
use crate::quote::quote;

/// The file whose content is the machine's zone; most systems make it a link that names the zone.
pub const LOCALTIME: &str = "/etc/localtime";

/// Files that name the zone where the link does not.
const NAMING_FILES: [&str; 2] = ["/etc/timezone", "/etc/config/system"];

/// The zone of a machine that was not set up yet, whose clock shows no local time.
const FACTORY: &str = "Factory";

/// Finds a built-in zone by its exact name.
pub fn built_in(name: &str) -> Option<TimeZone> {
    let zone = TimeZoneDatabase::bundled().get(name).ok()?;
    (zone.iana_name() == Some(name) && !zone.is_unknown() && name != FACTORY).then_some(zone)
}

#[derive(Debug, Clone)]
pub struct MachineZone {
    /// The zone; UTC where none is known.
    pub zone: TimeZone,
    pub unknown: Option<String>,
}

/// Returns the zone the machine is in now. Every decision asks again: the zone may change while a server runs. It is the
/// machine's zone, not the process's (`TZ`), because all processes of a home must mean the same moments.
pub fn of_machine() -> MachineZone {
    static KNOWN: Mutex<Option<(MachineMark, MachineZone)>> = Mutex::new(None);
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mark = MachineMark::now();
    if let Some((_, zone)) = known().as_ref().filter(|(known, _)| *known == mark) {
        return zone.clone();
    }
    let name = iana_time_zone::get_timezone().ok();
    let zone = decide(name.as_deref(), std::fs::read(LOCALTIME), Timestamp::now());
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

/// Chooses between a zone's name and the content of [`LOCALTIME`]. Where they disagree the content counts, as for every other
/// program: the name may be that of the image a container was made from.
fn decide(name: Option<&str>, localtime: io::Result<Vec<u8>>, now: Timestamp) -> MachineZone {
    let named = name.and_then(built_in);
    let local = localtime.as_ref().ok().and_then(|bytes| TimeZone::tzif(LOCALTIME, bytes).ok());
    let unknown = match (name, localtime) {
        (_, Ok(_)) => format!("{LOCALTIME} holds no time zone"),
        (Some(name), Err(_)) => format!("it is called '{}', which is no known time zone", quote(name, 80)),
        (None, Err(error)) => format!("cannot read {LOCALTIME}: {error}"),
    };
    match (named, local) {
        (Some(named), Some(local)) if !agree(&named, &local, now) => MachineZone { zone: local, unknown: None },
        (Some(zone), _) | (None, Some(zone)) => MachineZone { zone, unknown: None },
        (None, None) => MachineZone { zone: TimeZone::UTC, unknown: Some(unknown) },
    }
}

/// Returns the name of the zone that was probably meant.
pub fn closest(name: &str) -> Option<String> {
    /// Longer than any zone, and not worth being compared with all of them.
    const MOST_BYTES: usize = 64;
    let wanted = name.trim().to_lowercase().replace(' ', "_");
    if wanted.is_empty() || wanted.len() > MOST_BYTES || wanted == FACTORY.to_lowercase() {
        return None;
    }
    if let Some((sign, digits)) = offset(&wanted) {
        return of_offset(sign, digits).or_else(|| of_common_name(&format!("{sign}{}", digits.replace(':', ""))));
    }
    let city = wanted.rsplit('/').next().unwrap_or_default();
    if let Some(zone) = of_common_name(&wanted).or_else(|| of_common_name(city)) {
        return Some(zone);
    }
    // A typing error or two; more would be another place. A digit that is another one is another offset.
    let most = if wanted.contains(|c: char| c.is_ascii_digit()) { 0 } else { wanted.len() / 4 }.min(2);
    let distance = |zone: &str| {
        let zone = zone.to_lowercase();
        let its_city = zone.rsplit('/').next().unwrap_or_default();
        strsim::osa_distance(&wanted, &zone).min(strsim::osa_distance(&wanted, its_city))
    };
    let database = TimeZoneDatabase::bundled();
    let zones = database.available().filter(|zone| built_in(zone.as_str()).is_some());
    let near = zones.map(|zone| (distance(zone.as_str()), zone)).filter(|(distance, _)| *distance <= most);
    // Of names that are alike, the one with its continent: `Europe/Istanbul` rather than `Turkey`.
    near.min_by_key(|(distance, zone)| (*distance, !zone.as_str().contains('/'))).map(|(_, zone)| zone.to_string())
}

/// Splits a fixed offset such as `utc+2` or `-05:00`.
fn offset(wanted: &str) -> Option<(char, &str)> {
    let offset = wanted.strip_prefix("utc").or_else(|| wanted.strip_prefix("gmt")).unwrap_or(wanted);
    let offset = offset.trim_start_matches('_');
    let digits = offset.strip_prefix(['+', '-', '−'])?;
    Some((if offset.starts_with('+') { '+' } else { '-' }, digits.trim_start_matches('_')))
}

/// Returns the zone of a fixed offset. Their names count the other way round, as POSIX does.
fn of_offset(sign: char, digits: &str) -> Option<String> {
    let hours = digits.strip_suffix(":00").or_else(|| digits.strip_suffix("00").filter(|hours| !hours.is_empty()));
    let hours: u8 = hours.unwrap_or(digits).parse().ok()?;
    let sign = if sign == '+' { '-' } else { '+' };
    let zone = if hours == 0 { "Etc/UTC".to_owned() } else { format!("Etc/GMT{sign}{hours}") };
    built_in(&zone).map(|_| zone)
}

/// What people call the time of a zone or a city in it, where that means one zone, and the offsets of no whole hours, for
/// which there are no zones of their own.
const COMMON_NAMES: [(&str, &str); 23] = [
    ("pst pdt pt pacific_time pacific_standard_time san_francisco seattle", "America/Los_Angeles"),
    ("mdt mt mountain_time", "America/Denver"),
    ("cdt ct central_time", "America/Chicago"),
    ("edt et eastern_time eastern_standard_time boston washington miami", "America/New_York"),
    ("-0330 -330", "America/St_Johns"),
    ("bst england uk", "Europe/London"),
    ("cest central_european_time germany munich hamburg frankfurt cologne", "Europe/Berlin"),
    ("france", "Europe/Paris"),
    ("milan italy", "Europe/Rome"),
    ("barcelona spain", "Europe/Madrid"),
    ("geneva basel switzerland", "Europe/Zurich"),
    ("eest", "Europe/Athens"),
    ("msk moskau", "Europe/Moscow"),
    ("+0330 +330", "Asia/Tehran"),
    ("+0430 +430", "Asia/Kabul"),
    ("india mumbai delhi new_delhi bangalore bengaluru +0530 +530", "Asia/Kolkata"),
    ("+0545 +545", "Asia/Kathmandu"),
    ("+0630 +630", "Asia/Yangon"),
    ("china beijing peking", "Asia/Shanghai"),
    ("jst", "Asia/Tokyo"),
    ("+0930 +930", "Australia/Darwin"),
    ("aest aedt", "Australia/Sydney"),
    ("z", "Etc/UTC"),
];

fn of_common_name(wanted: &str) -> Option<String> {
    let found = COMMON_NAMES.iter().find(|(names, _)| names.split(' ').any(|name| name == wanted));
    found.map(|(_, zone)| (*zone).to_owned())
}

/// How many changes of the clock are compared: those of some years, in most zones.
const COMPARED: usize = 8;

/// Returns whether two zones mean the same from now on; they may come from different versions of the database.
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
            let content = content.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::NotFound.into());
            let MachineZone { zone, unknown } = decide(name, content, now());
            assert_eq!(unknown.is_some(), called == Some("UTC"), "{name:?}");
            assert_eq!(zone.iana_name(), called, "{name:?}");
            assert_eq!(zone.to_offset(now()).seconds(), hours * 3600, "{name:?}");
        }
    }

    #[test]
    fn the_zone_of_this_machine_is_found_each_time() {
        assert_eq!(of_machine().zone, of_machine().zone);
        assert_eq!(MachineMark::now(), MachineMark::now());
    }

    #[test]
    fn every_zone_is_found_by_its_exact_name_and_nothing_else_is() {
        let database = TimeZoneDatabase::bundled();
        let names: Vec<_> = database.available().collect();
        assert!(names.len() > 400);
        for name in names.iter().filter(|name| name.as_str() != FACTORY) {
            assert!(built_in(name.as_str()).is_some(), "{name}");
        }
        for other in [FACTORY, "europe/berlin", "utc", "Etc/Unknown", "Europe/Berlin ", "/etc/localtime"] {
            assert_eq!(built_in(other), None, "{other}");
        }
    }

    #[test]
    fn what_was_meant_is_found() {
        let cases = [
            ("UTC+2", "Etc/GMT-2"),
            ("utc-11", "Etc/GMT+11"),
            ("GMT +01:00", "Etc/GMT-1"),
            ("+0530", "Asia/Kolkata"),
            ("UTC+5:30", "Asia/Kolkata"),
            ("UTC+7:20", ""),
            ("UTC2", ""),
            ("Etc/GMT-15", ""),
            ("Factory", ""),
            ("Mumbai", "Asia/Kolkata"),
            ("Asia/Beijing", "Asia/Shanghai"),
            ("Milan", "Europe/Rome"),
            ("Moskau", "Europe/Moscow"),
            ("Central European Time", "Europe/Berlin"),
            ("Gotham City", ""),
            ("+02", "Etc/GMT-2"),
            ("UTC+0", "Etc/UTC"),
            ("UTC+15", ""),
            ("Berlin", "Europe/Berlin"),
            ("berlin", "Europe/Berlin"),
            ("Europe/Berln", "Europe/Berlin"),
            ("europe/berlin", "Europe/Berlin"),
            ("New York", "America/New_York"),
            ("america/new york", "America/New_York"),
            ("Los Angelos", "America/Los_Angeles"),
            ("Tokio", "Asia/Tokyo"),
            ("PST", "America/Los_Angeles"),
            ("EDT", "America/New_York"),
            ("qqq", ""),
            ("", ""),
        ];
        for (name, expected) in cases {
            assert_eq!(closest(name).unwrap_or_default(), expected, "{name}");
        }
        assert_eq!(closest(&"x".repeat(1 << 20)), None);
    }
}
