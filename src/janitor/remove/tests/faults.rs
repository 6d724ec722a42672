//! What stands in the way: modes, immutable files, a budget that ends.

use std::cell::Cell;

use super::*;

#[test]
fn modes_do_not_stop_the_owner() {
    let test = "janitor::remove::tests::faults::as_an_ordinary_user";
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    if !is_root() {
        run_body(&["env"], test).unwrap();
    } else if Command::new(user[0]).args(&user[1..]).arg("true").status().is_ok_and(|status| status.success()) {
        run_body(&user, test).unwrap();
    } else {
        skip("modes_do_not_stop_the_owner", "no way to become an ordinary user (setpriv)");
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

#[test]
#[ignore = "run by the test above, as an ordinary user"]
fn as_an_ordinary_user() {
    if !is_body() {
        return;
    }
    assert!(!is_root());
    for (engine, remove) in ENGINES {
        // Without openat2, Linux has no safe way to open what may not even be read.
        let cannot_force = *engine == "portable" && cfg!(target_os = "linux");
        for mode in [0o555, 0o444, 0o000, 0o111, 0o333, 0o222] {
            if cannot_force && mode & 0o400 == 0 {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let outside = Outside::new(dir.path().join("outside"));
            let entry = dir.path().join("entry");
            for sub in ["one/two/three", "one/empty", "chain"] {
                fs::create_dir_all(entry.join(sub)).unwrap();
            }
            for below in ["", "one", "one/two", "one/two/three"] {
                fs::write(entry.join(below).join("file"), "").unwrap();
                symlink(outside.root.join("sub"), entry.join(below).join("link")).unwrap();
            }
            fs::hard_link(outside.root.join("sub/precious"), entry.join("one/two/name")).unwrap();
            for below in ["one/two/three", "one/two", "one/empty", "one", ""] {
                set_mode(&entry.join(below), mode);
            }
            if mode & 0o400 == 0 {
                assert!(!measured(&entry).complete, "measuring changes no mode");
                assert_eq!(entry.metadata().unwrap().mode() & 0o777, mode);
            }
            let removal = remove(&entry, &never);
            assert_gone(&entry, &removal);
            assert_eq!(removal.removed_entries, 6 + 8 + 1, "{engine} {mode:o}");
            outside.assert_intact();
        }
    }
}

/// Sets the immutable flag for a test's time, where that is permitted.
struct Immutable(PathBuf);

impl Immutable {
    fn set(path: PathBuf) -> Option<Self> {
        let done = Command::new("chattr").arg("+i").arg(&path).output();
        done.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn an_immutable_file_is_reported_and_the_rest_goes() {
    for (_, remove) in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let entry = dir.path().join("entry");
        let middle = entry.join("d/".repeat(150));
        fs::create_dir_all(middle.join("d/".repeat(150))).unwrap();
        let mut above = entry.clone();
        for _ in 0..300 {
            fs::write(above.join("file"), "").unwrap();
            above.push("d");
        }
        let Some(immutable) = Immutable::set(middle.join("file")) else {
            return skip("an_immutable_file_is_reported_and_the_rest_goes", "chattr +i is not permitted here");
        };
        let before = measured(&entry);
        let removal = remove(&entry, &never);
        assert_eq!((removal.finished, removal.failure_count), (true, 1), "{removal:?}");
        let failure = &removal.failures[0];
        assert_eq!((failure.path.as_path(), failure.source.raw_os_error()), (immutable.0.as_path(), Some(1)));
        assert!(failure.to_string().contains("chattr -i"), "{failure}");
        // The file and the 151 directories on the way to it.
        assert_eq!(removal.removed_entries, before.entries - 152);
        drop(immutable);
        assert_gone(&entry, &remove(&entry, &never));
    }
}

#[test]
fn many_failures_are_counted_and_the_first_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let entry = dir.path().join("entry");
    let stuck = entry.join("stuck");
    fs::create_dir_all(&stuck).unwrap();
    (0..150).for_each(|n| fs::write(stuck.join(format!("{n}")), "").unwrap());
    let Some(_immutable) = Immutable::set(stuck) else {
        return skip("many_failures_are_counted_and_the_first_are_kept", "chattr +i is not permitted here");
    };
    let removal = remove(dir.path(), OsStr::new("entry"), &never);
    assert_eq!((removal.failures.len(), removal.failure_count, removal.removed_entries), (100, 150, 0));
}

#[test]
fn the_path_of_a_failure_has_a_bounded_length() {
    let dir = tempfile::tempdir().unwrap();
    let entry = dir.path().join("entry");
    let last = make_chain(&entry, 3_000, 1);
    openat(&last, "the file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    // No path is long enough for chattr, but a descriptor of ours is.
    let short = PathBuf::from(format!("/proc/{}/fd/{}/.", std::process::id(), last.as_raw_fd()));
    let Some(immutable) = Immutable::set(short) else {
        return skip("the_path_of_a_failure_has_a_bounded_length", "chattr +i is not permitted here");
    };
    let removal = remove(dir.path(), OsStr::new("entry"), &never);
    assert_eq!((removal.failure_count, removal.removed_entries), (1, 2_999));
    let path = removal.failures[0].path.to_str().unwrap();
    assert!(path.starts_with(entry.join("d/d/d").to_str().unwrap()) && path.ends_with("/d/.../the file"), "{path}");
    assert!(path.len() < 4_200);
    drop(immutable);
    assert_gone(&entry, &remove(dir.path(), OsStr::new("entry"), &never));
}

#[test]
fn told_to_stop_it_stops_and_the_next_call_finishes() {
    for (engine, remove) in ENGINES {
        let dir = roomy_dir();
        let entry = dir.path().join("entry");
        for n in 0..40 {
            let sub = entry.join(format!("{n}")).join("d/".repeat(n * 3));
            fs::create_dir_all(&sub).unwrap();
            (0..20).for_each(|n| fs::write(sub.join(format!("{n}")), "x").unwrap());
        }
        let before = measured(&entry);
        assert!(!measure(dir.path(), OsStr::new("entry"), &|| true).complete);
        let (mut calls, mut removed, mut freed) = (0, 0, 0);
        loop {
            let budget = Cell::new(500);
            let removal = remove(&entry, &|| budget.replace(budget.get() - 1) <= 0);
            assert_eq!(removal.failure_count, 0, "{engine}: {removal:?}");
            assert!(removal.removed_entries > 0 && removal.removed_entries <= 500, "{engine}");
            (calls, removed, freed) = (calls + 1, removed + removal.removed_entries, freed + removal.freed_bytes);
            if removal.finished {
                break;
            }
            assert!(entry.exists());
        }
        assert!(calls > 3 && !entry.exists(), "{engine}: {calls}");
        assert_eq!((removed, freed), (before.entries, before.bytes), "{engine}");
    }
}
