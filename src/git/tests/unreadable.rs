//! What cannot be read is never taken for absent, and what only looks odd does not make a repository unreadable.

use super::*;

fn reason(work: &Work) -> String {
    work.unreadable.clone().unwrap_or_default()
}

#[test]
fn a_ref_that_cannot_be_read_is_not_an_absent_one() {
    for (script, named) in [
        ("commit b; git branch x; git reset -q --hard origin/main; : > .git/refs/heads/x", "refs/heads/x"),
        ("git tag x; head -c 41 /dev/zero > .git/refs/tags/x", "refs/tags/x"),
        ("printf '%040d\\n' 0 > .git/refs/heads/x", "refs/heads/x"),
        ("echo x >> a; git stash -q; : > .git/refs/stash", "refs/stash"),
        ("touch .git/refs/heads/a..b", "refs/heads/a..b"),
        ("mkdir .git/refs/remotes/forged; : > .git/refs/remotes/forged/x", "refs/remotes/forged/x"),
        ("git branch x; git pack-refs --all; : > .git/packed-refs", "packed-refs"),
        ("echo x >> a; git stash -q; head -c 80 /dev/zero > .git/logs/refs/stash", "logs/refs/stash"),
        (
            "git worktree add -q --detach ../linked; rm -rf ../linked; : > .git/worktrees/linked/HEAD",
            "worktrees/linked/HEAD",
        ),
        (": > .git/MERGE_HEAD", "MERGE_HEAD"),
    ] {
        let work = Scene::of(script).work();
        assert!(reason(&work).contains(named), "{script}: {work:?}");
    }
    for script in [
        "git symbolic-ref refs/remotes/origin/HEAD refs/remotes/origin/gone",
        ": > .git/refs/remotes/origin/HEAD; : > .git/refs/remotes/origin/x",
        "git symbolic-ref refs/heads/alias refs/heads/main",
        "git worktree add -q ../linked; rm -rf ../linked; git pack-refs --all",
    ] {
        assert_eq!(counts(&Scene::of(script).work()), (0, 0, 0, 0), "{script}");
    }
}

#[test]
fn a_working_tree_elsewhere_is_not_that_beside() {
    for (script, named) in [
        ("mkdir ../elsewhere; echo > ../elsewhere/new; git config core.worktree ../../elsewhere", "elsewhere"),
        ("git config core.worktree /nonexistent", "/nonexistent"),
        ("git config extensions.worktreeConfig true; git config --worktree core.worktree /nonexistent", "/nonexistent"),
    ] {
        let work = Scene::of(script).work();
        assert!(reason(&work).contains(named), "{script}: {work:?}");
    }
    for script in ["git config core.worktree ..", "git config core.worktree $PWD"] {
        assert_eq!(counts(&Scene::of(&format!("{script}; echo > new")).work()), (0, 0, 1, 0), "{script}");
    }
    let submodule = "git submodule add -q $PWD/../../r.git sub 2>/dev/null; git commit -qm sub; cd sub; echo > new;";
    for script in ["", "git sparse-checkout set --no-cone /nothing /new"] {
        let [_, sub] = &Scene::of(&format!("{submodule} {script}")).look()[..] else { panic!("{script}") };
        assert_eq!(counts(sub), (0, 0, 1, 0), "{script}");
    }
    let scene = Scene::of("git worktree add -q --detach ../linked; git config core.worktree ..; echo > ../linked/new");
    assert_eq!(scene.look().iter().map(counts).collect::<Vec<_>>(), [(0, 0, 1, 0), (0, 0, 0, 0)]);
}

#[test]
fn a_bare_repository_with_files_elsewhere_is_unreadable() {
    let files = "git init -q --bare ../x.git; mkdir ../files; echo > ../files/f;";
    for script in [
        "git --git-dir=../x.git --work-tree=../files add f",
        "git -C ../x.git config core.bare false; git -C ../x.git config core.worktree ../files",
    ] {
        let scene = Scene::of(&format!("{files} {script}"));
        let work = scene.look().into_iter().find(|work| work.path == "x.git").unwrap();
        assert!(reason(&work).contains("its files are"), "{script}: {work:?}");
    }
    let scene = Scene::of(
        "cd ..; rm -rf repo; git clone -q --separate-git-dir=separate.git ../r.git repo; cd repo; commit b; echo > new",
    );
    assert_eq!(scene.look().iter().map(counts).collect::<Vec<_>>(), [(1, 0, 1, 0), (1, 0, 0, 0)]);
}

#[test]
fn a_complaint_about_attributes_hides_nothing() {
    for (script, expected) in [
        ("printf '!x text\\n' > .gitattributes", (0, 0, 1, 0)),
        ("printf 'x foo+\\n' > .gitattributes; echo > new; git add new", (0, 1, 1, 0)),
        ("mkdir d; echo '[attr]x text' > d/.gitattributes; echo > d/x; git add d/x", (0, 1, 1, 0)),
        ("ln -s a .gitattributes", (0, 0, 1, 0)),
        ("ln -s a .gitignore", (0, 0, 1, 0)),
        ("(head -c 3000 /dev/zero | tr '\\0' x; echo ' text') > .gitattributes; echo > new; git add new", (0, 1, 1, 0)),
        (
            "printf 'abcd' > a; git commit -qam x; git push -q; printf '* working-tree-encoding=UTF-16\\n' > .gitattributes; printf 'wxyz' > a",
            (0, 1, 1, 0),
        ),
    ] {
        assert_eq!(counts(&Scene::of(script).work()), expected, "{script}");
    }
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

#[test]
fn how_many_lines_were_counted_in_time_is_no_change() {
    let scene = Scene::of("echo x >> a");
    let root = scene.root();
    let deadline = Instant::now() + LIMIT;
    let listed = find(&root, Closed::Report, deadline).unwrap().found;
    let (git, place) = (scene.git(), Place { root: &root, doomed: &root, listed: &listed });
    let shadow = Shadow::of(&git, &root, &listed[0], &scene.scratch(), deadline).unwrap();
    let mut seen = look(&shadow, &listed[0], &place, None, deadline).unwrap();
    assert_eq!(seen.work.insertions, 1);
    seen.work.insertions = 0;
    assert_eq!(look::fingerprint_of(&shadow, &seen), seen.fingerprint);
}

#[test]
fn a_fifo_as_an_object_holds_nothing_up_for_ever() {
    let scene = Scene::of("commit b; f=.git/objects/$(git rev-parse HEAD | sed 's,^..,&/,'); rm -f $f; mkfifo $f");
    let work = scene.look_until(&BTreeMap::new(), Instant::now() + Duration::from_secs(3)).remove(0);
    assert!(reason(&work).contains("timed out"), "{work:?}");
}

#[test]
fn two_names_never_become_one() {
    let work = Scene::of(
        "head=$(git rev-parse HEAD); for name in $'x\\xe4' $'x\\xf6'; do echo $head > .git/refs/heads/$name; done",
    )
    .work();
    assert!(reason(&work).contains("not UTF-8"), "{work:?}");
}

#[test]
fn a_sparse_index_is_read() {
    let script =
        "mkdir d e; commit d/x; commit e/x; git push -q; git sparse-checkout set --cone --sparse-index d; echo > new";
    let work = Scene::of(script).work();
    assert_eq!((work.unreadable.clone(), work.untracked_files), (None, 1), "{work:?}");
}
