//! What cannot be read is never taken for absent, and what only looks odd does not make a repository unreadable.

use super::*;

fn reason(work: &Work) -> String {
    work.unreadable.clone().unwrap_or_default()
}

#[test]
fn a_repository_is_found_however_deep_it_is() {
    let scene = Scene::of("mkdir -p ../1/2/3/4/5/6/7/deep; cd ../1/2/3/4/5/6/7/deep; git init -q; commit x");
    let deep = scene.look().into_iter().find(|work| work.path == "1/2/3/4/5/6/7/deep").unwrap();
    assert_eq!(counts(&deep), (1, 0, 0, 0));
    let scene = Scene::of("mkdir -p 1/2/3/4/5; cd 1/2/3/4/5; git init -q; commit x");
    assert_eq!(scene.look().iter().map(counts).collect::<Vec<_>>(), [(0, 0, 0, 0), (1, 0, 0, 0)]);
}

#[test]
fn repositories_beyond_the_most_are_named() {
    let scene = Scene::of(
        "mkdir d; git init -q d/inner; echo > d/inner/x; for i in $(seq 66); do mkdir -p ../many-$i/.git; echo x > ../many-$i/.git/HEAD; done",
    );
    let listing = find(&scene.root(), Closed::Report, Instant::now() + LIMIT).unwrap();
    assert_eq!((listing.found.len(), listing.skipped.len()), (64, 4));
    assert!(listing.skipped.iter().any(|(path, why)| path.ends_with("repo/d/inner") && why.contains("64")));
    let scene = Scene::of(
        "mkdir d; git init -q d/inner; echo > d/inner/x; for i in $(seq 63); do mkdir -p ../many-$i/.git; echo x > ../many-$i/.git/HEAD; done",
    );
    let repo = scene.look().into_iter().find(|work| work.path == "repo").unwrap();
    assert!(reason(&repo).contains("repo/d/inner in it was not examined"), "{repo:?}");
}

#[test]
fn a_closed_directory_is_opened_only_when_that_is_asked_for() {
    use std::os::unix::fs::MetadataExt;
    let scene = Scene::of("mkdir -p ../d; git init -q ../d/inner; echo > ../d/inner/x; chmod 0 ../d");
    let mode = || scene.root().join("d").symlink_metadata().unwrap().mode() & 0o777;
    let find = |closed| find(&scene.root(), closed, Instant::now() + LIMIT).unwrap();
    let listing = find(Closed::Report);
    // Root may list anything.
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(
        (mode(), listing.found.len(), listing.skipped.len()),
        (0, if is_root { 2 } else { 1 }, if is_root { 0 } else { 1 })
    );
    let listing = find(Closed::Open);
    assert_eq!((mode(), listing.found.len(), listing.skipped.len()), (0o700, 2, 0));
}
