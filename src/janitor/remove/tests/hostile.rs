//! Links and moves that would lead out of the tree, and rivals.

use std::sync::atomic::{AtomicBool, Ordering};

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
        // Only what a broken engine may destroy.
        let targets = [
            absolute(""),
            absolute("precious"),
            absolute("sub"),
            absolute("sub/empty"),
            "../outside".into(),
            "../outside/precious".into(),
            "../../outside".into(),
            ".".into(),
            "..".into(),
            "sub".into(),
            "sub/file".into(),
            "nowhere".into(),
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
    let removal = remove(&trash, OsStr::new("precious"), &never);
    assert_eq!((removal.finished, removal.failure_count), (false, 1));
    assert_eq!(removal.failures[0].path, trash);
    assert!(!measure(&trash, OsStr::new("sub"), &never).complete);
    outside.assert_intact();
}

#[test]
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
