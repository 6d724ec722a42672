//! Links, swaps and mounts that would lead out of the tree.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::*;

#[test]
fn links_go_and_what_they_show_stays() {
    for (_, remove) in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let outside = Outside::new(dir.path().join("outside"));
        let entry = dir.path().join("entry");
        fs::create_dir_all(entry.join("sub/inner")).unwrap();
        fs::write(entry.join("sub/file"), "x").unwrap();
        let absolute = |below: &str| outside.root.join(below).into_os_string().into_string().unwrap();
        let targets = [
            absolute(""),
            absolute("precious"),
            absolute("sub"),
            absolute("sub/empty"),
            "../outside".into(),
            "../outside/precious".into(),
            "../../outside".into(),
            "/".into(),
            ".".into(),
            "..".into(),
            "sub".into(),
            "sub/file".into(),
            "nowhere".into(),
            "/proc/self/cwd".into(),
            "x".repeat(4000),
        ];
        for (n, target) in targets.iter().enumerate() {
            symlink(target, entry.join(format!("link {n}"))).unwrap();
            symlink(target, entry.join(format!("sub/inner/link {n}"))).unwrap();
        }
        symlink("loop b", entry.join("loop a")).unwrap();
        symlink("loop a", entry.join("loop b")).unwrap();
        symlink("itself", entry.join("itself")).unwrap();
        let before = measured(&entry);
        let removal = remove(&entry, &never);
        assert_gone(&entry, &removal);
        assert_eq!(removal.removed_entries, 1 + 3 + 2 * targets.len() as u64 + 3);
        assert_eq!((removal.removed_entries, removal.freed_bytes), (before.entries, before.bytes));
        outside.assert_intact();
    }
}

#[test]
fn of_an_entry_that_is_a_link_only_the_link_goes() {
    for (_, remove) in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let outside = Outside::new(dir.path().join("outside"));
        for target in ["outside", "outside/precious", "nowhere", "link"] {
            let link = dir.path().join("link");
            symlink(target, &link).unwrap();
            assert_eq!(measured(&link).entries, 1);
            let removal = remove(&link, &never);
            assert_gone(&link, &removal);
            assert_eq!(removal.removed_entries, 1);
        }
        outside.assert_intact();
    }
}

#[test]
fn a_trash_that_is_a_link_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let outside = Outside::new(dir.path().join("outside"));
    let trash = dir.path().join("trash");
    symlink("outside", &trash).unwrap();
    for removal in [empty(&trash, &never), remove(&trash, OsStr::new("precious"), &never)] {
        assert_eq!((removal.finished, removal.failure_count), (false, 1));
        assert_eq!(removal.failures[0].path, trash);
    }
    assert!(!measure(&trash, OsStr::new("sub"), &never).complete);
    outside.assert_intact();
}

/// Flips two names back and forth, at full speed, until told to stop.
#[cfg(target_os = "linux")]
fn flip(dir: &Path, pairs: &[(&str, &str)], stop: &AtomicBool, flips: &AtomicU32) {
    use rustix::fs::{RenameFlags, renameat_with};
    while !stop.load(Ordering::Relaxed) {
        for (one, other) in pairs {
            if renameat_with(CWD, dir.join(one), CWD, dir.join(other), RenameFlags::EXCHANGE).is_ok() {
                flips.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
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
#[cfg(target_os = "linux")]
fn a_directory_moved_out_during_the_walk_does_not_lead_out() {
    for (_, remove) in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let outside = Outside::new(dir.path().join("outside"));
        let entry = dir.path().join("entry");
        let chain = "sub/".repeat(200);
        fs::create_dir_all(entry.join(&chain)).unwrap();
        fs::write(entry.join(&chain).join("last"), "").unwrap();
        // At the bottom of the chain its middle moves away; on the way up its old ancestors must not be taken for it.
        let moved = AtomicBool::new(false);
        let removal = remove(&entry, &|| {
            let at_the_bottom = !entry.join(&chain).join("last").exists();
            if at_the_bottom && !moved.swap(true, Ordering::Relaxed) {
                fs::rename(entry.join("sub/".repeat(100)), dir.path().join("outside/sub/moved")).unwrap();
            }
            false
        });
        assert!(moved.load(Ordering::Relaxed));
        assert_gone(&entry, &removal);
        fs::remove_dir_all(outside.root.join("sub/moved")).unwrap();
        outside.assert_intact();
    }
}

#[test]
fn two_removals_at_once_get_along() {
    for (_, remove) in ENGINES {
        for _ in 0..8 {
            let dir = roomy_dir();
            let entry = dir.path().join("entry");
            for n in 0..30 {
                let sub = entry.join(format!("{n}")).join("sub/".repeat(1 + n * 4));
                fs::create_dir_all(&sub).unwrap();
                (0..10).for_each(|n| fs::write(sub.join(format!("{n}")), "").unwrap());
            }
            let before = measured(&entry);
            let removals = std::thread::scope(|scope| {
                let threads = [(); 3].map(|()| scope.spawn(|| remove(&entry, &never)));
                threads.map(|thread| thread.join().unwrap())
            });
            removals.iter().for_each(|removal| assert_gone(&entry, removal));
            let total: u64 = removals.iter().map(|removal| removal.removed_entries).sum();
            assert_eq!(total, before.entries);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn mounts_inside_are_reported_and_left_alone() {
    let test = "mounts_inside_are_reported_and_left_alone";
    let unshare: &[&str] = if is_root() { &["unshare", "--mount"] } else { &["unshare", "--map-root-user", "--mount"] };
    let can = Command::new(unshare[0]).args(&unshare[1..]).args(["mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if can.is_ok_and(|output| output.status.success()) {
        run_body(unshare, "janitor::remove::tests::hostile::with_mounts").unwrap();
    } else {
        let why = "mounting in an own namespace is not allowed here";
        assert!(std::env::var_os("MOADIM_REQUIRE_MOUNTS").is_none(), "{why}, and MOADIM_REQUIRE_MOUNTS is set");
        skip(test, why);
    }
}

#[test]
#[cfg(target_os = "linux")]
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
