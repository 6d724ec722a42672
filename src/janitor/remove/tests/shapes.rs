//! What a tree may look like: deep, wide, strangely named, linked.

use std::ffi::OsString;
use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn a_tree_60_000_deep_is_measured_and_removed() {
    for ((engine, remove), depth) in ENGINES.iter().zip([60_000, 10_000]) {
        let dir = roomy_dir();
        let entry = dir.path().join("deep");
        make_chain(&entry, depth, 100);
        let before = measured(&entry);
        assert!(before.complete, "{engine}");
        assert_eq!(before.entries, (depth + depth / 100 - 1) as u64, "{engine}");
        let removal = remove(&entry, &never);
        assert_gone(&entry, &removal);
        assert_eq!((removal.removed_entries, removal.freed_bytes), (before.entries, before.bytes), "{engine}");
    }
}

#[test]
fn few_descriptors_are_enough_for_any_depth() {
    run_body(
        &["sh", "-c", "ulimit -n 30 && exec \"$0\" \"$@\""],
        "janitor::remove::tests::shapes::with_few_descriptors",
    )
    .unwrap();
}

#[test]
#[ignore = "run by the test above, under a limit"]
fn with_few_descriptors() {
    if is_body() {
        for (_, remove) in ENGINES {
            let dir = roomy_dir();
            let entry = dir.path().join("deep");
            make_chain(&entry, 2_000, 10);
            let before = measured(&entry);
            let removal = remove(&entry, &never);
            assert_gone(&entry, &removal);
            assert_eq!((before.complete, before.entries), (true, removal.removed_entries));
        }
    }
}

#[test]
fn a_wide_tree_with_deep_branches_is_measured_and_removed() {
    for (engine, remove) in ENGINES {
        let dir = roomy_dir();
        let entry = dir.path().join("wide");
        fs::create_dir(&entry).unwrap();
        // More names than are noted at a time, so that the directory is closed before it was read to its end.
        for n in 0..1_500 {
            let sub = entry.join(format!("{n:0>200}"));
            if n % 250 == 0 {
                make_chain(&sub, 150, 20);
            } else {
                fs::create_dir(&sub).unwrap();
            }
            fs::write(entry.join(format!("file {n}")), vec![0; n]).unwrap();
        }
        let before = measured(&entry);
        let removal = remove(&entry, &never);
        assert_gone(&entry, &removal);
        assert_eq!(before.entries, 1 + 1_500 + 1_500 + 6 * (149 + 7), "{engine}");
        assert_eq!((removal.removed_entries, removal.freed_bytes), (before.entries, before.bytes), "{engine}");
        assert!(before.complete && before.bytes > 0);
    }
}

#[test]
fn names_are_bytes() {
    for (_, remove) in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let longest = vec![b'n'; 255];
        let names: [&[u8]; 8] =
            [b"new\nline", b"\xff\xfe not UTF-8", &longest, b"-rf", b"*", b" ", b"...", b"\x1b[31m\x07"];
        for name in names {
            let name = OsStr::from_bytes(name);
            let entry = dir.path().join(name);
            match fs::create_dir_all(entry.join(name).join(name)) {
                // Some file systems (APFS) take UTF-8 only.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::ILSEQ) => continue,
                outcome => outcome.unwrap(),
            }
            fs::write(entry.join(name).join("file").with_extension("x"), "").unwrap();
            assert_gone(&entry, &remove(&entry, &never));
        }
    }
}

#[test]
fn sockets_fifos_and_devices_are_unlinked_without_being_opened() {
    for (_, remove) in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let entry = dir.path().join("special");
        fs::create_dir(&entry).unwrap();
        let _listener = UnixListener::bind(entry.join("socket")).unwrap();
        assert!(Command::new("mkfifo").arg(entry.join("fifo")).status().unwrap().success());
        if is_root() {
            let _ = Command::new("mknod").arg(entry.join("device")).args(["c", "1", "3"]).status();
        }
        let before = measured(&entry);
        let removal = remove(&entry, &never);
        assert_gone(&entry, &removal);
        assert_eq!(removal.removed_entries, before.entries);

        let fifo = dir.path().join("the entry itself");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert_gone(&fifo, &remove(&fifo, &never));
    }
}

#[test]
fn another_name_of_a_file_keeps_its_mode_and_content() {
    for (_, remove) in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let outside = Outside::new(dir.path().join("outside"));
        let entry = dir.path().join("entry");
        fs::create_dir_all(entry.join("sub")).unwrap();
        fs::hard_link(outside.root.join("sub/precious"), entry.join("sub/name")).unwrap();
        fs::hard_link(outside.root.join("precious"), entry.join("name")).unwrap();
        fs::set_permissions(entry.join("sub"), PermissionsExt::from_mode(0o555)).unwrap();
        let directories = directory_bytes(&entry) + directory_bytes(&entry.join("sub"));
        assert_eq!(measured(&entry).bytes, directories);
        let removal = remove(&entry, &never);
        assert_gone(&entry, &removal);
        assert_eq!(removal.freed_bytes, directories, "what another name keeps is not freed");
        outside.assert_intact();
    }
}

#[test]
fn a_file_with_all_its_names_in_the_tree_counts_once() {
    for (_, remove) in ENGINES {
        let dir = tempfile::tempdir().unwrap();
        let entry = dir.path().join("entry");
        fs::create_dir_all(entry.join("sub")).unwrap();
        fs::write(entry.join("one"), vec![7; 100_000]).unwrap();
        fs::hard_link(entry.join("one"), entry.join("two")).unwrap();
        fs::hard_link(entry.join("one"), entry.join("sub/three")).unwrap();
        let before = measured(&entry);
        let removal = remove(&entry, &never);
        assert_gone(&entry, &removal);
        assert!(before.bytes >= 100_000 && before.bytes < 200_000, "{before:?}");
        assert_eq!((removal.freed_bytes, removal.removed_entries), (before.bytes, before.entries));
    }
}

#[test]
fn what_is_not_there_is_removed_already() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = OsStr::new("nothing");
    for removal in [remove(dir.path(), nothing, &never), remove(&dir.path().join("nothing"), nothing, &never)] {
        assert!(removal.finished && removal.failure_count == 0 && removal.removed_entries == 0, "{removal:?}");
    }
    assert_eq!(measure(dir.path(), nothing, &never), Measured { bytes: 0, entries: 0, complete: true });
}

#[test]
fn only_a_plain_name_is_an_entry() {
    let dir = tempfile::tempdir().unwrap();
    let trash = dir.path().join("trash");
    fs::create_dir_all(trash.join("a/b")).unwrap();
    for name in ["", ".", "..", "a/b", "/", "../trash", "a\0"] {
        assert_eq!(entry_name(OsStr::new(name)), Err(Errno::INVAL), "{name:?}");
    }
    for name in ["", "a/b", "../trash"].map(OsString::from) {
        let removal = remove(&trash, &name, &never);
        assert_eq!((removal.finished, removal.failure_count), (false, 1), "{name:?}");
        assert!(!measure(&trash, &name, &never).complete);
    }
    assert!(trash.join("a/b").exists());
}

fn directory_bytes(path: &Path) -> u64 {
    path.metadata().unwrap().blocks() * 512
}
