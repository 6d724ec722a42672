//! The machine's time zone changes while servers run: in a mount namespace with an `/etc` of its own, see `harness/mounts.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{HOUR, MINUTE, Server, Stage, at, is_body, routine_view, text, wait_until, with_mounts};
use serde_json::Value;

/// The machine's settings of its zone, for us alone.
struct Machine {
    zones: PathBuf,
}

impl Machine {
    /// Puts a copy of `/etc` over it.
    fn new(scratch: &Path) -> Self {
        let copy = scratch.join("etc");
        run(Command::new("cp").arg("-a").arg("/etc").arg(&copy));
        run(Command::new("mount").arg("--bind").arg(&copy).arg("/etc"));
        let zones = scratch.join("zones");
        fs::create_dir(&zones).unwrap();
        Self { zones }
    }

    /// Sets the zone by a link, as `timedatectl` does.
    fn link(&self, zone: &str) {
        let staged = Path::new("/etc/localtime.new");
        std::os::unix::fs::symlink(format!("/usr/share/zoneinfo/{zone}"), staged).unwrap();
        fs::rename(staged, "/etc/localtime").unwrap();
        fs::write("/etc/timezone", format!("{zone}\n")).unwrap();
    }

    /// Puts a file with the rules of a zone in the place of the link's target, as containers get their host's zone.
    fn mount(&self, name: &str, rules: &str) {
        let file = self.zones.join(name);
        fs::write(&file, tzif(rules)).unwrap();
        fs::remove_file("/etc/localtime").unwrap();
        fs::write("/etc/localtime", "").unwrap();
        run(Command::new("mount").arg("--bind").arg(&file).arg("/etc/localtime"));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("/etc/localtime").output();
        let _ = Command::new("umount").args(["--lazy", "/etc"]).output();
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// A TZif file of a zone that its footer alone describes.
fn tzif(rules: &str) -> Vec<u8> {
    let mut header = b"TZif2".to_vec();
    header.extend([0; 15]);
    // Of the six counts, one type of local time, with a name of four bytes.
    for count in [0_u32, 0, 0, 0, 1, 4] {
        header.extend(count.to_be_bytes());
    }
    header.extend([0; 6]);
    header.extend(b"LMT\0");
    [header.clone(), header, format!("\n{rules}\n").into_bytes()].concat()
}

fn occurrences(stage: &Stage, slug: &str) -> Vec<String> {
    stage.ended(slug).iter().map(|run| text(&run["origin"]["occurrence"])).collect()
}

/// Waits until a routine is shown as in this zone, with a next fire at this hour of UTC.
fn wait_for_view(server: &mut Server, zone: &str, hour: &str) {
    wait_until("the list to show the new zone", || {
        let shown = routine_view(server, "job");
        let in_zone = text(&shown["schedule_description"]).ends_with(&format!("({zone})"));
        in_zone && text(&shown["next_fires"][0]).ends_with(hour)
    });
}

#[test]
fn a_schedule_without_a_zone_fires_by_the_one_that_the_machine_has_now() {
    with_mounts("time_zone::travelling");
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn travelling() {
    if !is_body() {
        return;
    }
    let stage = Stage::new("");
    let machine = Machine::new(stage.home.scratch());
    machine.link("Etc/UTC");
    stage.home.write("routines/job/prompt.md", ":");
    stage.home.write("routines/job/routine.toml", "title = 'job'\nagent = 'quick'\nschedule = '0 9 * * *'\n");
    // In a zone of its own, to see that a moment has passed.
    stage.routine("control", ":", "schedule = \"5 * * * *\"\noverlap = \"allow\"");
    let mut servers: Vec<Server> = (0..2).map(|_| stage.server()).collect();
    stage.wait_until_followed("job", "0 9 * * *");
    stage.wait_until_followed("control", "5 * * * *");
    wait_for_view(&mut servers[0], "Etc/UTC", "T09:00:00Z");
    let pass = |hour: u64| {
        stage.set_clock(hour * HOUR + 5 * MINUTE);
        wait_until("the control to fire", || occurrences(&stage, "control").contains(&at(hour * HOUR + 5 * MINUTE)));
    };
    pass(8);

    // West, before its moment: it fires by the new zone, and by that alone.
    machine.link("America/New_York");
    pass(9);
    assert_eq!((occurrences(&stage, "job"), stage.alive("job")), (vec![], vec![]), "the old zone's moment");
    wait_for_view(&mut servers[1], "America/New_York", ":00:00Z");
    pass(14);
    stage.wait_for_ended("job", 1);

    // Its file is being written, or damaged: it is said, and not only UTC.
    fs::remove_file("/etc/timezone").unwrap();
    fs::remove_file("/etc/localtime").unwrap();
    fs::write("/etc/localtime", "no zone").unwrap();
    let unknown = "UTC, because the machine's time zone is not known: /etc/localtime holds no time zone";
    wait_for_view(&mut servers[0], unknown, "T09:00:00Z");
    let problem = servers[1].problems().into_iter().find(|one| one["path"] == "/etc/localtime").expect("a problem");
    assert!(text(&problem["problem"]).contains("by UTC: 1"), "{problem}");
    // A file without a link or a name, as in containers.
    fs::write("/etc/localtime", tzif("EST5")).unwrap();
    wait_for_view(&mut servers[0], "/etc/localtime", "T14:00:00Z");
    assert!(!servers[1].problems().iter().any(|one| one["path"] == "/etc/localtime"));

    // East, and without a name.
    machine.mount("tokyo", "JST-9");
    wait_for_view(&mut servers[0], "/etc/localtime", "T00:00:00Z");
    pass(23);
    stage.set_clock(24 * HOUR);
    stage.wait_for_ended("job", 2);
    pass(38);
    assert_eq!(occurrences(&stage, "job"), [at(14 * HOUR), at(24 * HOUR)]);
    assert_eq!(stage.missed("job"), Vec::<Value>::new());
}
