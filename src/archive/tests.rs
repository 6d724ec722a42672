//! Archives of whole workbenches, made and brought back.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::look::ArchiveError;
use super::recover::{RecoverError, Recovered};
use super::*;
use crate::git::Closed;
use crate::home::Home;
use crate::run::id::RunId;
use crate::run::workbench::Workbench;

struct Scene {
    dir: tempfile::TempDir,
    home: Home,
    run: RunId,
}

impl Scene {
    fn of(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let scene = Self { home, run: "a-1".parse().unwrap(), dir };
        Workbench::of(&scene.home, &scene.run).make().unwrap();
        scene.sh(script);
        scene
    }

    fn sh(&self, script: &str) -> String {
        let prelude = "set -eu; export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a \
            GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a; commit() { echo $1 > $1; git add $1; git commit -q -m $1; }; ";
        let output = Command::new("bash")
            .args(["-c", &format!("{prelude}{script}")])
            .current_dir(Workbench::of(&self.home, &self.run).directory())
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn with<T>(&self, files: &[&str], act: impl FnOnce(&Wanted<'_>) -> T) -> T {
        let files: Vec<String> = files.iter().map(ToString::to_string).collect();
        act(&Wanted { run: &self.run, files: &files })
    }

    fn examine(&self, files: &[&str]) -> Unsaved {
        self.with(files, |wanted| examine(&self.home, wanted, Closed::Open).unwrap())
    }

    fn make(&self, files: &[&str], max: u64) -> Result<Archive, ArchiveError> {
        self.with(files, |wanted| Ok(make(&self.home, wanted, Closed::Open, max)?.put(&self.home)?))
    }

    fn recover(&self) -> Result<Recovered, RecoverError> {
        self.with(&[], |wanted| recover(&self.home, wanted, &self.target()))
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("recovered")
    }

    fn names(&self, path: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(path).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn an_empty_workbench_has_nothing_to_archive() {
    let scene = Scene::of("echo > prompt.md");
    let unsaved = scene.examine(&["report.md"]);
    assert!(!unsaved.is_something() && unsaved.work.is_empty());
}

#[test]
fn everything_comes_back_where_it_was() {
    let scene = Scene::of(
        "git init -q one; cd one; commit a; echo > new; cd ..; git init -q deep/two; cd deep/two; commit b; cd ../..;
         mkdir out; echo 1 > out/x.txt; echo 2 > out/y.log; ln -s nowhere out/z.txt; echo hello > report.md",
    );
    let files = ["report.md", "out/*.txt", "nothing", "../../secret", "/etc/passwd"];
    let unsaved = scene.examine(&files);
    assert_eq!(unsaved.files, ["out/x.txt", "out/z.txt", "report.md"].map(PathBuf::from));
    let archive = scene.make(&files, u64::MAX).unwrap();
    assert_eq!(archive.fingerprint, unsaved.fingerprint, "nothing happened between");
    assert_eq!((archive.unpushed_commits(), archive.file_count()), (2, 4));
    assert_eq!(read(&scene.home, &scene.run).unwrap().as_ref(), Some(&archive));
    assert_eq!(all(&scene.home).unwrap().0, std::slice::from_ref(&archive));
    scene.sh("rm -rf ../a-1/* ; cd ..; rmdir a-1");
    let recovered = scene.recover().unwrap();
    assert_eq!(recovered.repositories, ["deep/two", "one"].map(|path| scene.target().join(path)));
    assert_eq!(scene.names(&scene.target()), ["deep", "one", "out", "report.md"]);
    assert_eq!(std::fs::read_link(scene.target().join("out/z.txt")).unwrap(), Path::new("nowhere"));
    assert!(scene.target().join("one/new").exists());
    assert!(matches!(scene.recover(), Err(RecoverError::Exists(_))));
}

#[test]
fn what_still_stands_can_be_recovered_too() {
    let scene = Scene::of("git init -q one; cd one; commit a");
    scene.recover().unwrap();
    assert!(scene.target().join("one/a").exists());
    let scene = Scene::of("cd ..; rmdir a-1; mkdir a-2");
    assert!(matches!(Scene { run: "b-1".parse().unwrap(), ..scene }.recover(), Err(RecoverError::Nothing(_))));
}

#[test]
fn recovering_what_stands_neither_makes_nor_replaces_an_archive() {
    let scene = Scene::of("git init -q one; cd one; commit a; cd ..; echo 1 > report.md");
    let archive = scene.make(&["report.md"], u64::MAX).unwrap();
    scene.sh("rm -r one report.md");
    let recovered = scene.recover().unwrap();
    assert_eq!(recovered.failures, [""; 0]);
    assert!(scene.target().join("one/a").exists() && scene.target().join("report.md").exists(), "{recovered:?}");
    assert_eq!(read(&scene.home, &scene.run).unwrap(), Some(archive));
    let scene = Scene::of("git init -q one; cd one; commit a");
    scene.recover().unwrap();
    assert_eq!(read(&scene.home, &scene.run).unwrap(), None);
}

#[test]
fn what_an_earlier_archive_alone_has_is_taken_over() {
    let scene =
        Scene::of("git init -q one; cd one; commit a; cd ..; git init -q two; cd two; commit b; cd ..; echo 1 > x");
    scene.make(&["x"], u64::MAX).unwrap();
    scene.sh("rm -r one x; cd two; commit c");
    let archive = scene.make(&["x"], u64::MAX).unwrap();
    assert_eq!((archive.unpushed_commits(), archive.files.len()), (3, 1));
    scene.sh("rm -rf ../a-1/*; cd ..; rmdir a-1");
    assert_eq!(scene.recover().unwrap().failures, [""; 0]);
    for file in ["one/a", "two/b", "two/c", "x"] {
        assert!(scene.target().join(file).exists(), "{file}");
    }
    assert_eq!(scene.names(&scene.home.archive()), ["a-1", "bases", "routines"], "nothing else is left");
}

#[test]
fn what_was_undone_after_it_was_archived_stays_archived() {
    let scene =
        Scene::of("git init -q one; cd one; commit a; commit b; cd ..; git init -q two; echo 1 > two/x; echo 1 > y");
    scene.make(&["y"], u64::MAX).unwrap();
    scene.sh("rm -rf one; git init -q one; echo 2 >> two/x");
    let archive = scene.make(&[], u64::MAX).unwrap();
    assert_eq!((archive.repositories.len(), archive.unpushed_commits(), archive.files.len()), (2, 2, 1));
    scene.recover().unwrap();
    for file in ["one/b", "two/x", "y"] {
        assert!(scene.target().join(file).exists(), "{file}");
    }
}

#[test]
fn nothing_is_recovered_into_the_home() {
    let scene = Scene::of("git init -q one; cd one; commit a");
    let target = Workbench::of(&scene.home, &scene.run).directory().join("back");
    let recovered = scene.with(&[], |wanted| recover(&scene.home, wanted, &target));
    assert!(matches!(recovered, Err(RecoverError::InHome(_))));
}

#[test]
fn one_damaged_part_does_not_stop_the_others() {
    let scene =
        Scene::of("git init -q one; cd one; commit a; cd ..; git init -q two; cd two; commit b; cd ..; echo 1 > x");
    scene.make(&["x"], u64::MAX).unwrap();
    scene.sh("rm -rf ../a-1/*; cd ..; rmdir a-1; echo > ../archive/a-1/1/work.pack");
    let recovered = scene.recover().unwrap();
    assert!(matches!(&recovered.failures[..], [one] if one.contains("/one")), "{recovered:?}");
    assert!(scene.target().join("two/b").exists() && scene.target().join("x").exists());
}

#[test]
fn a_damaged_archive_hides_no_other() {
    let scene = Scene::of("git init -q one; cd one; commit a");
    let archive = scene.make(&[], u64::MAX).unwrap();
    scene.sh("mkdir ../../archive/b-2; echo x > ../../archive/b-2/archive.json; echo > ../../archive/bases/x.pack");
    let (archives, damaged) = all(&scene.home).unwrap();
    assert_eq!((archives, damaged.len()), (vec![archive], 1));
    remove_unused(&scene.home, |_| true).unwrap();
    assert!(scene.home.archive_bases().join("x.pack").exists(), "nobody knows what the damaged one stands on");
}

#[test]
fn directories_are_archived_whole_and_nothing_of_what_git_keeps() {
    let scene = Scene::of("git init -q one; mkdir -p out/deep; echo > out/a; echo > out/deep/b; echo > one/c");
    let files = |patterns: &[&str]| {
        let found = scene.examine(patterns).files;
        found.iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(files(&["./out/"]), ["out/a", "out/deep/b"]);
    assert_eq!(files(&["./out/a", "out/*"]), ["out/a"]);
    assert_eq!(files(&["**", "one/.git/config"]), ["one/c", "out/a", "out/deep/b"]);
}

#[test]
fn a_change_after_the_archive_shows() {
    let scene = Scene::of("git init -q one; cd one; commit a; echo 1 > new");
    let archive = scene.make(&[], u64::MAX).unwrap();
    for change in
        ["echo 2 > one/new", "cd one; git add new", "cd one; git commit -qm new", "cd one; git tag t", "touch one/b"]
    {
        let before = scene.examine(&[]).fingerprint;
        scene.sh(change);
        assert_ne!(scene.examine(&[]).fingerprint, before, "{change}");
    }
    let again = scene.make(&[], u64::MAX).unwrap();
    assert_ne!(again.fingerprint, archive.fingerprint);
    assert_eq!(read(&scene.home, &scene.run).unwrap(), Some(again), "it takes the place of the first");
}

#[test]
fn what_cannot_be_archived_leaves_no_archive() {
    let scene = Scene::of("git init -q one; cd one; commit a; mkfifo ../.fifo; rm .git/HEAD; mkfifo .git/HEAD");
    let error = scene.make(&[], u64::MAX).unwrap_err().to_string();
    assert!(error.contains("its repository one cannot be archived") && error.contains("HEAD"), "{error}");
    let scene = Scene::of("git init -q one; cd one; head -c 100000 /dev/urandom > big");
    let error = scene.make(&[], 50_000).unwrap_err();
    assert!(matches!(error, ArchiveError::TooLarge { bytes: 100_000.., .. }), "{error}");
    assert_eq!(scene.names(&scene.home.archive()), ["bases", "routines"], "nothing is left of it");
}
