//! Swaps and mounts that would lead out of the tree, as Linux can make them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rustix::fs::{RenameFlags, renameat_with};

use super::*;

/// Flips two names back and forth, at full speed, until told to stop.
fn flip(dir: &Path, pairs: &[(&str, &str)], stop: &AtomicBool, flips: &AtomicU32) {
    while !stop.load(Ordering::Relaxed) {
        for (one, other) in pairs {
            if renameat_with(CWD, dir.join(one), CWD, dir.join(other), RenameFlags::EXCHANGE).is_ok() {
                flips.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn a_directory_swapped_for_a_link_during_the_walk_is_not_followed() {
    for (engine, remove) in ENGINES {
        let dir = roomy_dir();
        let outside = Outside::new(dir.path().join("outside"));
        let (flips, mut interfered) = (AtomicU32::new(0), 0);
        let pairs = [("a", "link a"), ("b", "link b"), ("b/sub", "b/link")];
        for round in 0..150 {
            let entry = dir.path().join("entry");
            // Outside has the same names, so that a walk that were led there would find them. The chain is so long that
            // its ancestors have to be opened again while the names on the way flip.
            fs::create_dir_all(entry.join("a/sub/empty")).unwrap();
            fs::create_dir_all(entry.join("b").join("sub/".repeat(100))).unwrap();
            for below in ["a", "a/sub", "b", "b/sub", "b/sub/sub"] {
                (0..8).for_each(|n| fs::write(entry.join(format!("{below}/{n}")), "").unwrap());
                fs::write(entry.join(format!("{below}/precious")), "").unwrap();
            }
            symlink(&outside.root, entry.join("link a")).unwrap();
            symlink(&outside.root, entry.join("link b")).unwrap();
            symlink(outside.root.join("sub"), entry.join("b/link")).unwrap();
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let start = flips.load(Ordering::Relaxed);
                scope.spawn(|| flip(&dir.path().join("entry"), &pairs, &stop, &flips));
                while flips.load(Ordering::Relaxed) == start {
                    std::hint::spin_loop();
                }
                if round % 3 == 0 {
                    let _ = measured(&entry);
                }
                let removal = remove(&entry, &never);
                interfered += u32::from(removal.failure_count > 0);
                stop.store(true, Ordering::Relaxed);
            });
            outside.assert_intact();
            assert_gone(&entry, &remove(&entry, &never));
        }
        eprintln!("{engine}: {} flips, {interfered} walks disturbed", flips.load(Ordering::Relaxed));
        outside.assert_intact();
    }
}

#[test]
fn mounts_inside_are_reported_and_left_alone() {
    let test = "mounts_inside_are_reported_and_left_alone";
    let unshare: &[&str] = if is_root() { &["unshare", "--mount"] } else { &["unshare", "--map-root-user", "--mount"] };
    let can = Command::new(unshare[0]).args(&unshare[1..]).args(["mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if can.is_ok_and(|output| output.status.success()) {
        run_body(unshare, "janitor::remove::tests::mounts_and_swaps::with_mounts").unwrap();
    } else {
        let why = "mounting in an own namespace is not allowed here";
        assert!(std::env::var_os("MOADIM_REQUIRE_MOUNTS").is_none(), "{why}, and MOADIM_REQUIRE_MOUNTS is set");
        skip(test, why);
    }
}

#[test]
#[ignore = "run by the test above, in a mount namespace"]
fn with_mounts() {
    if !is_body() {
        return;
    }
    for (engine, remove) in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let outside = Outside::new(dir.path().join("outside"));
        let entry = dir.path().join("entry");
        for sub in ["a/bound", "b/tmpfs", "c/same", "d"] {
            fs::create_dir_all(entry.join(sub)).unwrap();
        }
        for below in ["a", "b", "c", "d"] {
            fs::write(entry.join(below).join("file"), "").unwrap();
        }
        fs::write(entry.join("d/bound file"), "").unwrap();
        let mount = |args: &[&OsStr]| assert!(Command::new("mount").args(args).status().unwrap().success());
        let (bind, tmpfs) = (OsStr::new("--bind"), OsStr::new("tmpfs"));
        mount(&[bind, outside.root.as_os_str(), entry.join("a/bound").as_os_str()]);
        mount(&[OsStr::new("-t"), tmpfs, OsStr::new("none"), entry.join("b/tmpfs").as_os_str()]);
        let on_tmpfs = Outside::new(entry.join("b/tmpfs/data"));
        // A directory bound onto itself: neither device nor inode number shows it.
        mount(&[bind, entry.join("c/same").as_os_str(), entry.join("c/same").as_os_str()]);
        fs::write(entry.join("c/same/file"), "").unwrap();
        mount(&[bind, outside.root.join("precious").as_os_str(), entry.join("d/bound file").as_os_str()]);

        assert!(!measured(&entry).complete);
        let removal = remove(&entry, &never);
        let mut failed: Vec<_> = removal
            .failures
            .iter()
            .map(|failure| {
                let below = failure.path.strip_prefix(&entry).unwrap().to_str().unwrap().to_owned();
                (below, Errno::from_io_error(&failure.source).unwrap())
            })
            .collect();
        failed.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [
            ("a/bound", Errno::XDEV),
            ("b/tmpfs", Errno::XDEV),
            ("c/same", Errno::XDEV),
            ("d/bound file", Errno::BUSY),
        ];
        assert_eq!(failed, expected.map(|(path, error)| (path.to_owned(), error)), "{engine}");
        assert!(removal.finished && removal.failure_count == 4, "{engine}");
        removal.failures.iter().for_each(|failure| assert!(failure.to_string().contains("unmount it"), "{failure}"));
        outside.assert_intact();
        on_tmpfs.assert_intact();
        assert!(entry.join("c/same/file").exists());
        for below in ["a", "b", "c", "d"] {
            assert!(!entry.join(below).join("file").exists(), "{engine}: the rest goes");
        }
        for mounted in ["a/bound", "b/tmpfs", "c/same", "d/bound file"] {
            assert!(Command::new("umount").arg(entry.join(mounted)).status().unwrap().success());
        }
        assert_gone(&entry, &remove(&entry, &never));
        outside.assert_intact();
    }
}
