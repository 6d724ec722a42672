//! Which host is chosen, and what it does without tmux.

use super::*;

#[test]
fn without_tmux_auto_is_detached_and_tmux_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    let words = ["true".into()];
    let host = |setting, program| SessionHost::with_program(&home, setting, program);

    let auto = host(SessionHostSetting::Auto, None);
    assert_eq!(
        (auto.kind, auto.why.as_str(), auto.version()),
        (HostKind::Detached, "tmux was not found on PATH", None)
    );
    auto.open("job-1", &words).unwrap();
    assert_eq!((auto.has_window("job-1"), auto.attach_command("job-1")), (false, None));

    let forced = host(SessionHostSetting::Tmux, None);
    assert_eq!((forced.kind, forced.attach_command("job-1")), (HostKind::Tmux, None));
    let error = forced.open("job-1", &words).unwrap_err().to_string();
    assert!(error.contains("was not found") && error.contains("config.toml"), "{error}");

    let broken = host(SessionHostSetting::Auto, Some("/bin/false".into()));
    assert_eq!(broken.kind, HostKind::Detached);
    assert!(broken.why.contains("/bin/false"), "{}", broken.why);
}

#[test]
fn an_old_tmux_is_told_from_a_new_one() {
    for (version, numbers) in [
        ("3.3a", Some((3, 3))),
        ("next-3.5", Some((3, 5))),
        ("2.9", Some((2, 9))),
        ("3.10", Some((3, 10))),
        ("master", None),
    ] {
        assert_eq!(major_and_minor(version), numbers, "{version}");
    }
    let dir = tempfile::tempdir().unwrap();
    let fake = dir.path().join("tmux");
    for (says, usable) in [("tmux 3.2", true), ("tmux master", true), ("tmux 3.1c", false), ("screen 4.0", false)] {
        write_script(&fake, &format!("echo '{says}'"));
        let (version, is_certain) = probe(Some(&fake));
        assert_eq!((version.is_ok(), is_certain), (usable, true), "{says}: {version:?}");
    }
    for answers_nothing in ["exit 1", "kill $$"] {
        write_script(&fake, answers_nothing);
        let (version, is_certain) = probe(Some(&fake));
        assert!(version.is_err() && !is_certain, "{answers_nothing}: {version:?}");
    }
}

#[test]
fn kinds_are_written_as_they_are_printed() {
    for kind in [HostKind::Tmux, HostKind::Detached] {
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
}
