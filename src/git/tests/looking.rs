use super::*;

#[test]
fn a_clone_in_which_nothing_was_done_is_saved() {
    let work = Scene::of("").work();
    assert_eq!((counts(&work), work.is_unsaved()), ((0, 0, 0, 0), false));
    assert_eq!((work.path.as_str(), work.branch.as_deref()), ("repo", Some("main")));
    assert!(work.remote.unwrap().ends_with("r.git") && work.head.unwrap().len() == 40);
}

#[test]
fn each_kind_of_work_is_counted() {
    let cases = [
        ("a commit", "commit b", (1, 0, 0, 0)),
        ("pushed", "commit b; git push -q", (0, 0, 0, 0)),
        ("an untracked file", "echo x > new", (0, 0, 1, 0)),
        ("a changed file", "echo x >> a", (0, 1, 0, 0)),
        ("a staged file", "echo x > b; git add b", (0, 1, 0, 0)),
        ("staged and changed again", "echo x >> a; git add a; echo y >> a", (0, 1, 0, 0)),
        ("a deleted file", "rm a", (0, 1, 0, 0)),
        ("a mode", "chmod +x a", (0, 1, 0, 0)),
        ("a stash", "echo x >> a; git stash -q", (0, 0, 0, 1)),
        ("three stashes", "for i in 1 2 3; do echo $i > a; git stash -q; done", (0, 0, 0, 3)),
        (
            "two branches",
            "git checkout -q -b one; commit b; git checkout -q -b two main; commit c; git checkout -q main",
            (2, 0, 0, 0),
        ),
        ("a branch without a commit of its own", "git branch other", (0, 0, 0, 0)),
        ("a detached head", "git checkout -q --detach; commit b", (1, 0, 0, 0)),
        ("a detached head, and back", "git checkout -q --detach; commit b; git checkout -q main", (0, 0, 0, 0)),
        (
            "a local tag on a commit that was left",
            "git checkout -q --detach; commit b; git tag t; git checkout -q main",
            (1, 0, 0, 0),
        ),
        ("a local tag on the commit", "commit b; git tag -a -m t t", (1, 0, 0, 0)),
        ("an annotated tag of a saved commit", "git tag -a -m t t", (0, 0, 0, 0)),
        ("thrown away", "commit b; git reset -q --hard origin/main", (0, 0, 0, 0)),
        ("amended", "commit b; git commit -q --amend -m c", (1, 0, 0, 0)),
        ("a note", "git notes add -m n", (1, 0, 0, 0)),
        ("a tag of a blob", "git tag t $(echo x | git hash-object -w --stdin)", (1, 0, 0, 0)),
        ("ignored", "echo 'x' > .git/info/exclude; echo > x", (0, 0, 0, 0)),
        ("ignored by .gitignore", "echo 'x' > .gitignore; echo > x", (0, 0, 1, 0)),
        ("assume-unchanged", "git update-index --assume-unchanged a; echo x > a", (0, 1, 0, 0)),
        ("skip-worktree", "git update-index --skip-worktree a; echo x > a", (0, 1, 0, 0)),
        ("sparse", "git sparse-checkout set --no-cone /nothing; test ! -e a", (0, 0, 0, 0)),
        ("a split index", "git update-index --split-index; echo x > b; git add b", (0, 1, 0, 0)),
        ("a stale lock", "touch .git/index.lock; echo x > new", (0, 0, 1, 0)),
        ("no index", "rm .git/index", (0, 1, 1, 0)),
        ("a file in place of a directory", "mkdir d; commit d/x; git push -q; rm -r d; echo > d", (0, 1, 1, 0)),
        ("a fifo in place of a tracked file", "rm a; mkfifo a", (0, 1, 0, 0)),
        ("odd names", "echo > $'new\\nline'; echo > $'\\xff'; echo > ' b '", (0, 0, 3, 0)),
        ("an empty .git directory below", "mkdir -p d/.git; echo > d/x", (0, 0, 1, 0)),
        ("no objects packed", "commit b; git gc -q", (1, 0, 0, 0)),
        (
            "a merge",
            "git checkout -q -b o; commit b; git checkout -q main; commit c; git merge -q --no-commit o",
            (2, 1, 0, 0),
        ),
        (
            "a conflict",
            "git checkout -q -b o; echo 1 > a; git commit -qam 1; git checkout -q main; echo 2 > a; git commit -qam 2; ! git merge -q o",
            (2, 1, 0, 0),
        ),
        (
            "a rebase",
            "git checkout -q -b o; echo 1 > a; git commit -qam 1; git checkout -q main; echo 2 > a; git commit -qam 2; ! git rebase -q o 2>&1",
            (2, 1, 0, 0),
        ),
        ("no remote any more", "git remote remove origin", (1, 0, 0, 0)),
        ("a remote that was moved away", "mv ../../r.git ../../gone", (1, 0, 0, 0)),
        (
            "a remote in the workbench",
            "mv ../../r.git ../r.git; git remote set-url origin ../r.git; mv ../r.git ../../keep; ln -s ../keep ../r.git",
            (0, 0, 0, 0),
        ),
        ("a tracking ref of no remote", "commit b; git update-ref refs/remotes/forged/main HEAD", (1, 0, 0, 0)),
        (
            "a helper as remote",
            "commit b; git update-ref refs/remotes/x/main HEAD; git config remote.x.url 'ext::touch /tmp/x'",
            (1, 0, 0, 0),
        ),
    ];
    for (name, script, expected) in cases {
        assert_eq!(counts(&Scene::of(script).work()), expected, "{name}: {script}");
    }
}

#[test]
fn lines_count_from_what_the_remote_has() {
    let work =
        Scene::of("printf '1\\n2\\n' > b; git add b; git commit -qm b; printf '1\\n3\\n' > b; echo > untracked").work();
    assert_eq!((work.insertions, work.deletions), (2, 0));
    let work = Scene::of("rm a").work();
    assert_eq!((work.insertions, work.deletions), (0, 1));
}

#[test]
fn every_repository_is_found_and_stands_for_itself() {
    let scene = Scene::of(
        "cd ..; git init -q own; cd own; commit x; cd ..; git init -q --bare deep/er/bare.git; mkdir -p plain/.git",
    );
    let paths: Vec<_> = scene.look().into_iter().map(|work| (work.path, work.unpushed_commits)).collect();
    assert_eq!(paths, [("deep/er/bare.git".to_owned(), 0), ("own".to_owned(), 1), ("repo".to_owned(), 0)]);
    let scene = Scene::of("cd ..; git init -q; commit x; echo repo > .git/info/exclude");
    assert_eq!(scene.look().iter().map(|work| work.path.as_str()).collect::<Vec<_>>(), [".", "repo"]);
}

#[test]
fn a_remote_in_the_workbench_keeps_nothing() {
    let scene = Scene::of(
        "git clone -q --bare ../../r.git ../inner.git; git remote set-url origin ../inner.git; commit b; git push -q",
    );
    let [inner, repo] = &scene.look()[..] else { panic!() };
    assert_eq!((inner.path.as_str(), counts(inner)), ("inner.git", (2, 0, 0, 0)));
    assert_eq!((repo.path.as_str(), counts(repo)), ("repo", (2, 0, 0, 0)));
}

#[test]
fn what_was_cloned_is_saved_whatever_became_of_the_remote() {
    let scene = Scene::of("commit b; git push -q; commit c; git remote remove origin");
    let cloned = Cloned { url: "https://h/r".into(), refs: BTreeMap::new() };
    let of = |cloned: Cloned| scene.look_with(&BTreeMap::from([("repo".into(), cloned)])).remove(0);
    assert_eq!(counts(&of(cloned.clone())), (3, 0, 0, 0));
    let head = scene.look().remove(0).head.unwrap();
    let refs = BTreeMap::from([("refs/heads/main".to_owned(), head.parse().unwrap())]);
    let work = of(Cloned { refs, ..cloned });
    assert_eq!((counts(&work), work.remote.as_deref()), ((0, 0, 0, 0), Some("https://h/r")));
}

#[test]
fn a_base_that_is_missing_hides_nothing() {
    let scene = Scene::of("commit b");
    let refs = BTreeMap::from([("refs/heads/x".to_owned(), "1".repeat(40).parse().unwrap())]);
    let cloned = BTreeMap::from([("repo".into(), Cloned { url: "u".into(), refs })]);
    assert_eq!(counts(&scene.look_with(&cloned)[0]), (1, 0, 0, 0));
}

#[test]
fn branches_that_were_pushed_since_the_clone_are_named() {
    let scene = Scene::of(
        "commit b; git push -q; git checkout -q -b new; commit c; git push -q origin new; git checkout -q -b unpushed; commit d",
    );
    let cloned = BTreeMap::from([("repo".into(), Cloned { url: "u".into(), refs: BTreeMap::new() })]);
    let work = scene.look_with(&cloned).remove(0);
    assert_eq!((work.pushed_branches, work.unpushed_commits), (vec!["main".to_owned(), "new".to_owned()], 1));
}

#[test]
fn linked_working_trees_and_submodules_stand_for_themselves() {
    let scene = Scene::of("git worktree add -q ../linked -b linked; cd ../linked; commit b; echo > new");
    let [linked, repo] = &scene.look()[..] else { panic!() };
    assert_eq!((counts(linked), counts(repo)), ((1, 0, 1, 0), (1, 0, 0, 0)));

    let scene =
        Scene::of("git worktree add -q --detach ../linked; cd ../linked; commit b; cd ../repo; rm -rf ../linked");
    assert_eq!(counts(&scene.work()), (1, 0, 0, 0), "its commit is in the repository that stays");

    let scene = Scene::of(
        "git clone -q ../../r.git ../../main; cd ../../main; git worktree add -q ../w/linked -b linked; cd ../w/linked; commit b; echo > new; git checkout -q --detach; commit c",
    );
    let [linked, _] = &scene.look()[..] else { panic!() };
    assert_eq!(counts(linked), (1, 0, 1, 0), "its branch stays with the repository outside");

    let scene =
        Scene::of("git submodule add -q $PWD/../../r.git sub 2>/dev/null; git commit -qm sub; cd sub; commit b");
    let [repo, sub] = &scene.look()[..] else { panic!() };
    assert_eq!((sub.path.as_str(), counts(sub)), ("repo/sub", (1, 0, 0, 0)));
    assert_eq!(counts(repo), (1, 1, 0, 0));
}

#[test]
fn special_clones_are_read_too() {
    let more = "git clone -q ../../r.git ../../s; cd ../../s; commit b; commit c; git push -q; cd ../w/repo; rm -rf ../repo/.git ../repo/a;";
    for (name, clone) in [
        ("shallow", "git clone -q --depth 1 file://$PWD/../../r.git ."),
        ("shared", "git clone -q --shared ../../r.git ."),
        (
            "partial",
            "git -C ../../r.git config uploadpack.allowFilter true; git clone -q --filter=blob:none file://$PWD/../../r.git .",
        ),
        (
            "separate git directory",
            "cd ..; rmdir repo; git clone -q --separate-git-dir=../repo.git ../r.git repo; cd repo",
        ),
        (
            "link to the git directory",
            "git clone -q ../../r.git .; mv .git ../../elsewhere; ln -s ../../elsewhere .git",
        ),
    ] {
        let scene = Scene::of(&format!("{more} {clone}; git checkout -q --detach; commit d; echo > new"));
        assert_eq!(counts(&scene.work()), (1, 0, 1, 0), "{name}");
    }
    let scene = Scene::of("cd ..; git init -q --object-format=sha256 x; cd x; commit a; echo > b; rm -rf ../repo");
    assert_eq!(counts(&scene.work()), (1, 0, 1, 0), "sha256");
}

#[test]
fn what_cannot_be_examined_says_why_and_hides_nothing_else() {
    for (script, reason) in [
        ("rm -rf .git; mkfifo .git", "neither a directory nor a file"),
        ("rm .git/HEAD; mkfifo .git/HEAD", "HEAD is damaged"),
        ("rm .git/index; mkfifo .git/index", "index is damaged"),
        ("mkfifo .git/objects/info/alternates", "alternates is damaged"),
        ("mkfifo .git/refs/heads/x", "refs/heads/x is damaged"),
        ("mv .git/refs ../refs; ln -s ../../refs .git/refs", "is not a directory"),
        ("rm .git/config; mkfifo .git/config", "config is damaged"),
        ("echo broken > .git/HEAD", "git"),
        ("echo x > b; git add b; rm .git/objects/*/*; commit c || true", "git"),
        ("git config extensions.future true; git config core.repositoryformatversion 1", "'future'"),
        ("rm -rf .git; echo 'gitdir: /nonexistent' > .git", "/nonexistent"),
    ] {
        let scene = Scene::of(&format!("git clone -q ../../r.git ../zz; {script}"));
        let [repo, other] = &scene.look()[..] else { panic!("{script}") };
        let why = repo.unreadable.clone().unwrap_or_default();
        assert!(why.contains(reason) && repo.is_unsaved(), "{script}: {repo:?}");
        assert_eq!(counts(other), (0, 0, 0, 0), "{script}");
    }
}

#[test]
fn nothing_that_a_repository_names_is_run() {
    let scene = Scene::of(
        r#"
        evil="touch $PWD/../../EVIL"
        printf '#!/bin/sh\n%s\n' "$evil" > ../evil; chmod +x ../evil
        evil=$PWD/../evil
        for hook in post-index-change post-checkout pre-commit reference-transaction; do cp ../evil .git/hooks/$hook; done
        echo '* filter=x diff=x merge=x' > .gitattributes
        echo x >> a; echo new > new
        git config core.hooksPath .git/hooks
        git config filter.x.clean "$evil"; git config filter.x.smudge "$evil"; git config filter.x.process "$evil"
        git config diff.x.textconv "$evil"; git config diff.external "$evil"; git config diff.x.command "$evil"
        git config core.fsmonitor "$evil"; git config core.sshCommand "$evil"; git config core.pager "$evil"
        git config gpg.program "$evil"; git config uploadpack.packObjectsHook "$evil"; git config core.editor "$evil"
        git config core.askPass "$evil"; git config credential.helper "$evil"; git config alias.status "!$evil"
        git config remote.x.promisor true; git config remote.x.url "ext::$evil"; git config core.gitProxy "$evil"
        mkfifo ../fifo
        printf '[core]\n\tbare = true\n[include]\n\tpath = ../../fifo\n' >> .git/config
        rm -f ../../EVIL
        "#,
    );
    assert_eq!(counts(&scene.work()), (0, 1, 2, 0));
    assert!(!exists(&scene.dir.path().join("EVIL")));
}

#[test]
fn git_must_be_there_and_new_enough() {
    let scene = Scene::of("");
    let bin = scene.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let find = || Git::find(bin.clone().into(), Vec::new(), &scene.scratch());
    assert!(matches!(find(), Err(GitError::Missing)));
    scene.sh("printf '#!/bin/sh\\necho git version 2.38.9\\n' > bin/git; chmod +x bin/git");
    assert!(matches!(find(), Err(GitError::TooOld { .. })));
    scene.sh("printf '#!/bin/sh\\necho git version 2.47.3.windows.1\\n' > bin/git");
    assert!(find().is_ok());
}

#[test]
fn a_command_that_hangs_is_ended_with_its_children() {
    let scene = Scene::of("");
    let fake = scene.dir.path().join("bin/git");
    scene.sh("mkdir bin; printf '#!/bin/bash\\n[ \"$1\" = version ] && echo git version 2.40.0 && exit\\n/bin/sleep 1000 & echo $! > ../child; wait\\n' > bin/git; chmod +x bin/git");
    let git = Git::find(fake.parent().unwrap().into(), Vec::new(), &scene.scratch()).unwrap();
    let error = git.command(&["status".as_ref()]).run(program::Input::Nothing, Instant::now() + Duration::from_secs(1));
    assert!(matches!(error, Err(GitError::TimedOut { command }) if command == "status"));
    let child: i32 = std::fs::read_to_string(scene.dir.path().join("child")).unwrap().trim().parse().unwrap();
    let until = Instant::now() + LIMIT;
    while rustix::process::test_kill_process(rustix::process::Pid::from_raw(child).unwrap()).is_ok() {
        assert!(Instant::now() < until, "the child {child} is left");
        std::thread::yield_now();
    }
}

#[test]
fn what_belongs_to_a_repository_and_is_not_looked_at_makes_it_unreadable() {
    for (script, hidden) in [
        (
            "git submodule add -q $PWD/../../r.git sub 2>/dev/null; git commit -qm sub; cd sub; commit b; cd ..; git submodule deinit -q -f sub",
            "modules/sub",
        ),
        (
            "for i in $(seq 63); do mkdir -p ../many-$i/.git; echo x > ../many-$i/.git/HEAD; done; git worktree add -q 1/2/3 -b x; echo 1 > .git/info/exclude; echo > 1/2/3/new",
            "worktrees/3",
        ),
    ] {
        let scene = Scene::of(script);
        let work = scene.look().into_iter().find(|work| work.path == "repo").unwrap();
        assert!(work.unreadable.clone().is_some_and(|why| why.contains(hidden)), "{script}: {work:?}");
    }
    let scene = Scene::of(
        "git clone -q --bare ../../r.git ../bare; git -C ../bare worktree add -q tree main; echo > ../bare/tree/new",
    );
    let paths: Vec<_> = scene.look().into_iter().map(|work| (work.path, work.untracked_files)).collect();
    assert_eq!(paths, [("bare".to_owned(), 0), ("bare/tree".to_owned(), 1), ("repo".to_owned(), 0)]);
}

#[test]
fn what_is_pushed_elsewhere_is_not_saved() {
    for script in [
        "git init -q --bare ../inner.git; git remote set-url --push origin ../inner.git; commit b; git push -q origin main; rm -rf ../inner.git",
        "git clone -q --bare ../../r.git ../inner.git; git config url.$PWD/../inner.git.pushInsteadOf $PWD/../../r.git; commit b; git push -q; rm -rf ../inner.git",
    ] {
        let work = Scene::of(script).work();
        assert!(work.unpushed_commits > 0, "{script}: {work:?}");
    }
}
