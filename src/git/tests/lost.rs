//! What would be lost without a word: work that no ref names, objects that only a remote has, what a run laid in the way.

use super::*;

#[test]
fn work_without_a_name_gets_one() {
    let scene = Scene::of(
        "commit b; git push -q; git checkout -q -b o; echo 1 > a; git commit -qam 1; git checkout -q main; echo 2 > a; git commit -qam 2;
         echo dirty > b; ! git merge -q --autostash o 2>/dev/null; cp .git/MERGE_AUTOSTASH ../../id",
    );
    let packed = scene.pack("repo").unwrap();
    scene.sh("mv w/repo gone; mv r.git gone.git");
    scene.restore(&packed, false);
    let stash = scene.say(".", "cat id");
    let names = "cat .git/MERGE_AUTOSTASH; git for-each-ref --format='%(objectname) %(refname)' refs/recovered";
    assert_eq!(scene.say("restored", names), format!("{stash}{0} refs/recovered/{0}\n", stash.trim()));
    assert_eq!(
        scene.say("restored", "git merge --abort 2>/dev/null; cat a b; git status --porcelain"),
        "2\ndirty\n M b\n"
    );

    let scene = Scene::of(
        "git worktree add -q --detach ../linked; cd ../linked; commit b; git rev-parse HEAD > ../../id; cd ../repo; rm -rf ../linked; echo > new",
    );
    let packed = scene.pack("repo").unwrap();
    scene.restore(&packed, false);
    let id = scene.say(".", "cat id");
    assert_eq!(
        scene.say("restored", "git for-each-ref --format='%(refname)' refs/recovered"),
        format!("refs/recovered/{id}")
    );

    for script in [
        "git checkout -q -b o; commit b; echo 1 > a; git commit -qam 1; commit c; git checkout -q main; echo 2 > a; git commit -qam 2; ! git cherry-pick o~1 2>/dev/null",
        "git checkout -q --detach; commit b; echo > new",
        "echo x >> a; git stash -q",
    ] {
        let scene = Scene::of(script);
        let packed = scene.pack("repo").unwrap();
        scene.restore(&packed, false);
        assert_eq!(scene.say("restored", "git for-each-ref refs/recovered"), "", "{script}");
    }
}

#[test]
fn a_merge_of_what_only_a_remote_has_can_go_on_without_it() {
    let scene = Scene::of(
        "git checkout -q -b side; echo 1 > a; git commit -qam 1; git push -q origin side; git checkout -q main; git branch -qD side;
         echo 2 > a; git commit -qam 2; ! git merge -q origin/side",
    );
    let packed = scene.pack("repo").unwrap();
    scene.sh("mv w/repo gone; mv r.git gone.git");
    scene.restore(&packed, true);
    assert_eq!(scene.say("restored", "echo 3 > a; git commit -qam merged; git log -1 --format=%s HEAD^2"), "1\n");
}

#[test]
fn a_tag_of_a_tag_brings_its_commit() {
    let scene = Scene::of(
        "git checkout -q --detach; commit b; git tag -a -m 1 t1; git tag -a -m 2 t2 t1; git tag -a -m 3 t3 t2; git tag -d t1 t2 >/dev/null; git checkout -q main; commit c",
    );
    let packed = scene.pack("repo").unwrap();
    scene.sh("mv w/repo gone; mv r.git gone.git");
    scene.restore(&packed, false);
    assert_eq!(scene.say("restored", "git log -1 --format=%s t3"), "b\n");
    assert_eq!(
        counts(
            &Scene::of("t=$(echo x | git hash-object -w --stdin); git tag -a -m 1 t1 $t; git tag -a -m 2 t2 t1").work()
        ),
        (2, 0, 0, 0)
    );
}

#[test]
fn a_commit_of_the_work_that_is_not_in_the_archive_is_missed() {
    let scene = Scene::of("commit b");
    let packed = scene.pack("repo").unwrap();
    let (bases, scratch, directory) =
        (scene.dir.path().join("bases"), scene.dir.path().join("other"), scene.dir.path().join("archive"));
    let target = Target { directory: &directory, bases: &bases, scratch: &scratch, max_lfs_bytes: 0 };
    let base = packed.base_name.as_ref().map(|name| base_pack(&bases, name));
    let prove = |work: ObjectId| {
        scene.sh("rm -rf other; mkdir other");
        let work = std::collections::BTreeSet::from([work]);
        verify::verify(&scene.git(), &packed, &target, base.as_deref(), &[], &work, Instant::now() + LIMIT)
    };
    prove(packed.head.clone().unwrap()).unwrap();
    let lost: ObjectId = "1".repeat(40).parse().unwrap();
    assert!(prove(lost).unwrap_err().to_string().contains("not complete: 1111"));
}

/// A clone in which the remote's content of `a` was never fetched.
const PARTIAL: &str = "commit b; git push -q; cd ..; rm -rf repo; git -C ../r.git config uploadpack.allowFilter true;
    git clone -q --filter=blob:none --no-checkout file://$PWD/../r.git repo; cd repo; git sparse-checkout set --no-cone b c new; git checkout -q main;";

#[test]
fn a_partial_clone_without_its_remote_gives_back_what_was_done() {
    for (script, history) in [
        ("commit c; echo > new; echo x >> b", "c\n"),
        ("echo > new; echo x >> b; echo c > c", ""),
        ("git checkout -q --detach; echo > new; echo x >> b; echo c > c; git add c", ""),
    ] {
        let scene = Scene::of(&format!("{PARTIAL} {script}"));
        let packed = scene.pack("repo").unwrap();
        assert!(packed.needs_remote && packed.base_name.is_none(), "{script}");
        scene.sh("mv w/repo gone; mv r.git gone.git");
        let restored = scene.restore(&packed, true);
        let all = "git log --format=%s 2>/dev/null || true; cat b c; test -e new; git status -s >/dev/null";
        assert_eq!(scene.say("restored", all), format!("{history}b\nx\nc\n"), "{script}: {restored:?}");
        let has_no_head = restored.notes.iter().any(|note| note.contains("HEAD has no commit"));
        assert_eq!(has_no_head, history.is_empty(), "{script}: {restored:?}");
    }
}

#[test]
fn files_of_which_only_the_remote_has_the_content_are_named() {
    let scene = Scene::of(&format!("{PARTIAL} echo > new; git update-index --no-skip-worktree a"));
    let packed = scene.pack("repo").unwrap();
    // As if the file were there and as it was.
    scene.sh("mv w/repo gone; mv r.git gone.git; : > archive/deleted");
    let restored = scene.restore(&packed, true);
    assert!(restored.notes.iter().any(|note| note.contains("(2): a, b")), "{restored:?}");
    assert_eq!(scene.say("restored", "ls; git ls-files"), "new\na\nb\n");
}

#[test]
fn a_clone_that_lacks_nothing_needs_no_remote() {
    for script in [
        "git config remote.origin.promisor true; commit b; echo > new",
        "git -C ../../r.git config uploadpack.allowFilter true; cd ..; rm -rf repo; git clone -q --filter=blob:none file://$PWD/../r.git repo; cd repo; commit b; echo > new",
    ] {
        let scene = Scene::of(script);
        let packed = scene.pack("repo").unwrap();
        assert!(!packed.needs_remote && packed.base_name.is_some(), "{script}");
        let all = "git log --format=%s; cat a b; ls; git fsck --no-dangling --no-progress";
        let before = scene.say("w/repo", all);
        scene.sh("mv w/repo gone; mv r.git gone.git");
        scene.restore(&packed, true);
        assert_eq!(scene.say("restored", all), before, "{script}");
    }
}

#[test]
fn refs_that_cannot_be_restored_are_named() {
    let scene = Scene::of("git tag old; commit b; git push -q; commit c");
    let packed = scene.pack("repo").unwrap();
    scene.sh("mv w/repo gone; mv r.git gone.git");
    let restored = scene.restore(&packed, true);
    assert!(restored.notes.iter().any(|note| note.contains("refs/tags/old")), "{restored:?}");
}

#[test]
fn a_remote_that_was_rewritten_changes_nothing() {
    let scene = Scene::of("commit b; git push -q; commit c; echo > new");
    scene.sh(
        "git init -q other; cd other; commit z; git push -q --force ../r.git main; git -C ../r.git gc -q --prune=now",
    );
    let packed = scene.pack("repo").unwrap();
    scene.sh("mv w/repo gone");
    scene.restore(&packed, true);
    let shown =
        scene.say("restored", "git log --format=%s; git log --format=%s origin/main; ls; git fsck --no-dangling");
    assert_eq!(shown, "c\nb\nz\na\nb\nc\nnew\n");
}

#[test]
fn nothing_that_lies_where_a_repository_goes_is_run() {
    let scene = Scene::of(
        r#"
        evil="touch $PWD/../../EVIL"
        git clone -q --bare ../../r.git inner.git
        cd inner.git
        for hook in reference-transaction post-checkout post-index-change; do printf '#!/bin/sh\n%s\n' "$evil" > hooks/$hook; chmod +x hooks/$hook; done
        git update-ref refs/heads/own $(git commit-tree -m own HEAD^{tree})
        git config core.sshCommand "$evil;"; git config core.fsmonitor "$evil"; git config remote.origin.url ssh://127.0.0.1:1/x
        git config remote.origin.uploadpack "$evil"
        rm -f ../../../EVIL
        "#,
    );
    let outer = scene.pack("repo").unwrap();
    scene.restore(&outer, false);
    scene.sh("mv archive outer; rm -rf scratch/*");
    let inner = scene.pack("repo/inner.git").unwrap();
    let restored = scene.restore_to("restored/inner.git", &inner, true);
    assert!(!exists(&scene.dir.path().join("EVIL")));
    assert!(restored.notes.iter().any(|note| note.contains("inner.git-2")), "{restored:?}");
    assert_eq!(
        scene.say("restored/inner.git-2", "git log -1 --format=%s own; grep -c touch config || true"),
        "own\n0\n"
    );
}

#[test]
fn lfs_is_found_where_it_was_moved() {
    let oid = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4";
    let of = |storage: &str| {
        Scene::of(&format!(
            "git config lfs.storage {storage}; mkdir -p .git/moved/objects/98/ea; printf 'hi there\\n' > .git/moved/objects/98/ea/{oid};
             printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:{oid}\\nsize 9\\n' > big; git add big; git commit -qm big"
        ))
    };
    for storage in ["moved", "$PWD/.git/moved"] {
        let scene = of(storage);
        let error = scene.pack_within("repo", 8).unwrap_err();
        assert!(matches!(error, GitError::TooMuchLfs { bytes: 9, max: 8 }) && error.may_pass(), "{error}");
        scene.sh("rm -rf archive scratch/*");
        let packed = scene.pack("repo").unwrap();
        assert_eq!(packed.missing_lfs, 0);
        scene.restore(&packed, false);
        assert_eq!(scene.say("restored", &format!("cat .git/lfs/objects/98/ea/{oid}")), "hi there\n");
    }
    let error = of("$PWD/../../outside; mkdir ../../outside").pack("repo").unwrap_err();
    assert!(error.to_string().contains("outside"), "{error}");
}

#[test]
fn what_git_keeps_elsewhere_comes_back() {
    let scene = Scene::of(
        "rm -rf .git a; git init -q --ref-format=reftable; commit a; git checkout -q -b o; echo 1 > a; git commit -qam 1; git tag t; git checkout -q main;
         echo 2 > a; git commit -qam 2; for i in 1 2; do echo $i > s; git stash -q -u; done; ! git cherry-pick o 2>/dev/null",
    );
    let packed = scene.pack("repo").unwrap();
    let all = "git for-each-ref --format='%(refname) %(objectname)'; git rev-parse CHERRY_PICK_HEAD; git stash list --format=%H; git status --porcelain; cat a";
    let before = scene.say("w/repo", all);
    scene.sh("mv w/repo gone");
    scene.restore(&packed, false);
    assert_eq!(scene.say("restored", all), before);

    let scene = Scene::of("commit b; commit c; git replace HEAD $(git commit-tree -m r HEAD^{tree})");
    let packed = scene.pack("repo").unwrap();
    let all = "git log --format=%s; GIT_NO_REPLACE_OBJECTS=1 git log --format=%s";
    let before = scene.say("w/repo", all);
    scene.restore(&packed, true);
    assert_eq!(scene.say("restored", all), before);

    let scene = Scene::of("rm a; mkfifo a");
    let packed = scene.pack("repo").unwrap();
    scene.restore(&packed, false);
    assert_eq!(scene.say("restored", "git status --porcelain; ls"), " D a\n");

    let scene = Scene::of(
        "cd ..; rm -rf repo; git clone -q --separate-git-dir=separate.git ../r.git repo; cd repo; commit b; echo > new; echo x >> a",
    );
    let packed = scene.pack("repo").unwrap();
    scene.restore(&packed, false);
    assert_eq!(scene.say("restored", "git log --format=%s; git status --porcelain"), "b\na\n M a\n?? new\n");
}

#[test]
fn files_where_a_submodule_would_be_come_back() {
    let link = "git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,sub; git commit -qm link; git push -q;";
    let scene = Scene::of(&format!("{link} mkdir sub"));
    assert!(!scene.work().is_unsaved(), "as a clone leaves it");
    let scene = Scene::of(&format!("{link} mkdir -p sub/deep; echo 1 > sub/notes; echo 2 > sub/deep/more"));
    assert_eq!(scene.work().untracked_files, 2);
    let packed = scene.pack("repo").unwrap();
    scene.restore(&packed, true);
    assert_eq!(scene.say("restored", "cat sub/notes sub/deep/more"), "1\n2\n");
}

#[test]
fn what_git_would_leave_out_of_a_tree_is_refused() {
    let scene = Scene::of("mkdir -p .GIT; echo > .GIT/x; echo > new");
    let error = scene.pack("repo").map(drop).unwrap_err().to_string();
    assert!(error.contains(".GIT/x"), "{error}");
}

#[test]
fn a_base_that_is_damaged_is_made_again() {
    let scene = Scene::of("echo > new");
    let packed = scene.pack("repo").unwrap();
    scene.sh("for base in bases/*.pack; do chmod +w $base; echo x > $base; done; rm -rf archive");
    scene.pack("repo").unwrap();
    scene.sh("mv w/repo gone; mv r.git gone.git");
    scene.restore(&packed, false);
    assert_eq!(scene.say("restored", "ls"), "a\nnew\n");
}

#[test]
fn a_remote_that_git_takes_no_name_of_keeps_from_no_other() {
    let scene = Scene::of("git config remote.'a b'.url ../../r.git; git config remote.a..b.url ../../r.git; commit b");
    let packed = scene.pack("repo").unwrap();
    let restored = scene.restore(&packed, true);
    let is_about_these = |note: &String| note.contains("a b") || note.contains("a..b");
    assert!(restored.notes.iter().all(is_about_these), "{:?}", restored.notes);
    assert!(!scene.say("restored", "git rev-parse origin/main").is_empty());
}
