use super::*;

use proptest::prelude::*;

/// Everything that has to come back: files with their bytes, modes and links, the index, refs, the stash, what is under way.
const EVERYTHING: &str = r#"
git -c core.quotePath=false ls-files -z --cached --others --exclude-standard | sort -zu | while IFS= read -r -d '' path; do
    if [ -L "$path" ]; then printf 'link %q %q\n' "$path" "$(readlink -- "$path")"
    elif [ -f "$path" ]; then
        mode=$(stat -c %a -- "$path")
        case $mode in
        644 | 755) ;;
        *)  # Of a file that is as it was committed git knows one bit.
            if git ls-files --error-unmatch -- ":(literal)$path" >/dev/null 2>&1 && git diff --quiet HEAD -- ":(literal)$path"; then
                mode=$((${mode: -3:1} & 1 ? 755 : 644))
            fi 2>/dev/null ;;
        esac
        printf 'file %q %s %s\n' "$path" "$mode" "$(sha1sum <"$path")"
    elif [ -d "$path" ]; then printf 'directory %q\n' "$path"
    elif [ -e "$path" ]; then printf 'other %q\n' "$path"
    else printf 'gone %q\n' "$path"; fi
done
echo index; git ls-files -s -v -z | tr '\0' '\n'
echo status; git status --porcelain=v2 -z --untracked-files=all --ignore-submodules=all | tr '\0' '\n'
echo refs; git for-each-ref --format='%(refname) %(objectname)' refs/heads refs/tags refs/notes
echo head; git symbolic-ref -q HEAD || git rev-parse HEAD
echo stash; git log -g --format='%H %gs' refs/stash 2>/dev/null || true
echo history; git log --all --format=%H | sort
for name in MERGE_HEAD MERGE_MSG CHERRY_PICK_HEAD; do cat .git/$name 2>/dev/null || true; done
git fsck --no-dangling --no-progress
"#;

/// Scripts run in a clone of one commit of the file `a`.
const CASES: [(&str, &str); 35] = [
    ("a commit", "commit b"),
    ("an untracked file", "echo x > new"),
    ("a changed file", "echo x >> a"),
    ("staged and unstaged in one file", "echo x >> a; git add a; echo y >> a"),
    ("a staged new file, removed again", "echo x > b; git add b; rm b"),
    ("deleted, and deleted in the index", "commit b; rm a; git rm -q b"),
    ("modes", "chmod 755 a; echo > b; chmod 600 b; echo > c; chmod 751 c; git add c"),
    ("an unreadable mode", "echo > b; chmod 400 b"),
    ("intent to add", "echo x > b; git add -N b"),
    ("a stash", "echo x >> a; git stash -q"),
    ("a stash with everything", "echo x >> a; git add a; echo y >> a; echo u > u; git stash -q -u -m 'my words'"),
    ("three stashes", "for i in 1 2 3; do echo $i > a; git stash -q; done; git stash drop -q stash@{1}"),
    ("two branches", "git checkout -q -b one; commit b; git checkout -q -b two main; commit c"),
    ("a branch without a commit of its own", "git branch other; echo > new"),
    ("a detached head", "git checkout -q --detach; commit b"),
    ("a detached head on a saved commit", "git checkout -q --detach; echo > new"),
    ("tags", "commit b; git tag light; git tag -a -m words heavy; git tag blob $(echo x | git hash-object -w --stdin)"),
    ("a note", "git notes add -m n"),
    ("thrown away, and taken up again", "commit b; git revert --no-edit HEAD; git revert --no-edit HEAD"),
    (
        "names",
        "echo > $'new\\nline'; echo > $'\\xff\\t\"\\\\'; echo > ' b '; mkdir 'git~1'; echo > 'git~1/x'; echo > -x",
    ),
    ("links", "ln -s /nonexistent absolute; ln -s a relative; rm a; ln -s b a"),
    ("a directory in place of a file", "rm a; mkdir a; echo > a/b"),
    ("a file in place of a directory", "mkdir d; commit d/x; rm -r d; echo > d"),
    (
        "attributes",
        "printf '* text eol=crlf\\n' > .gitattributes; git add .; git commit -qm x; rm .gitattributes; git checkout -q .gitattributes; printf '1\\n2\\r\\n' > mixed; printf '$Id$\\n' > a",
    ),
    ("an encoding", "printf '*.u working-tree-encoding=UTF-16\\n' > .gitattributes; printf 'x\\0' > y.u"),
    (
        "a filter",
        "echo 'f filter=x' > .gitattributes; git config filter.x.clean 'tr a b'; git config filter.x.smudge 'tr b a'; echo aaa > f; git add f; git commit -qm f; echo abab > f",
    ),
    ("a sparse checkout", "commit b; git sparse-checkout set --no-cone b; echo x > b"),
    ("a split index", "git update-index --split-index; echo x > b; git add b; echo y > c"),
    ("a merge", "git checkout -q -b o; commit b; git checkout -q main; commit c; git merge -q --no-commit o"),
    (
        "a conflict",
        "git checkout -q -b o; echo 1 > a; git commit -qam 1; git checkout -q main; echo 2 > a; git commit -qam 2; ! git merge -q o; echo > new",
    ),
    (
        "a cherry-pick",
        "git checkout -q -b o; echo 1 > a; git commit -qam 1; git checkout -q main; echo 2 > a; git commit -qam 2; ! git cherry-pick o 2>/dev/null",
    ),
    ("a commit that only a tag names", "git checkout -q --detach; commit b; git tag t; git checkout -q main"),
    ("a binary file and an empty one", "head -c 100000 /dev/urandom > binary; : > empty; git add empty"),
    ("many files", "for i in $(seq 300); do mkdir -p d$((i % 7)); echo $i > d$((i % 7))/$i; done"),
    ("nothing but the index", "echo x > b; git add b; git update-index --force-remove a"),
];

#[test]
fn what_was_archived_comes_back_byte_for_byte_without_its_remote() {
    for (name, script) in CASES {
        let scene = Scene::of(script);
        let packed = scene.pack("repo").unwrap_or_else(|error| panic!("{name}: {error}"));
        let before = scene.say("w/repo", EVERYTHING);
        scene.sh("mv w/repo gone; mv r.git gone.git");
        scene.restore(&packed, true);
        let after = scene.say("restored", EVERYTHING);
        assert_eq!(after, before, "{name}");
    }
}

#[test]
fn changes_that_were_hidden_come_back_and_show() {
    let scene = Scene::of(
        "commit b; git update-index --assume-unchanged a; echo x > a; git update-index --skip-worktree b; echo y > b",
    );
    let packed = scene.pack("repo").unwrap();
    scene.restore(&packed, false);
    assert_eq!(scene.say("restored", "cat a b; git status --porcelain"), "x\ny\n M a\n M b\n");
}

#[test]
fn with_its_remote_the_history_comes_back_too() {
    let scene = Scene::of("commit b; git push -q; commit c; echo > new; git tag mine");
    scene.sh("git clone -q r.git other; cd other; commit later; git tag theirs; git push -q origin main theirs");
    let packed = scene.pack("repo").unwrap();
    let before = scene.say("w/repo", EVERYTHING);
    scene.sh("mv w/repo gone");
    assert_eq!(scene.restore(&packed, true).notes, [""; 0]);
    assert_eq!(scene.say("restored", "git log --format=%s main"), "c\nb\na\n");
    assert_eq!(scene.say("restored", "git log --format=%s origin/main"), "later\nb\na\n");
    assert_eq!(scene.say("restored", "git tag; git rev-parse --is-shallow-repository"), "mine\ntheirs\nfalse\n");
    let files = |all: &str| all.split("refs\n").next().map(str::to_owned);
    assert_eq!(files(&scene.say("restored", EVERYTHING)), files(&before));
    scene.sh("rm -rf restored; mv r.git gone.git");
    let restored = scene.restore(&packed, true);
    assert!(restored.notes[0].contains("origin cannot be reached"), "{restored:?}");
    assert_eq!(scene.say("restored", "git log --format=%s main"), "c\nb\n", "as a shallow clone");
}

#[test]
fn an_archive_is_as_small_as_the_work() {
    let scene = Scene::of(
        "head -c 300000 /dev/urandom > big; git add big; git commit -qm big; git push -q; commit b; echo > new",
    );
    scene.pack("repo").unwrap();
    let bytes = |script: &str| scene.say(".", script).trim().parse::<u64>().unwrap();
    assert!(bytes("stat -c %s archive/work.pack") < 2000);
    assert!(bytes("stat -c %s bases/*.pack") > 300_000, "the base has the file, so that the archive stands alone");
    scene.sh("rm -rf archive scratch/*; touch -d @0 bases/*");
    scene.pack("repo").unwrap();
    assert_eq!(scene.say(".", "ls bases | wc -l; stat -c %Y bases/*"), "1\n0\n", "it is shared");
}

#[test]
fn special_repositories_come_back() {
    for (name, script, repository) in [
        ("made by the agent", "rm -rf .git; git init -q; commit x; echo > y", "repo"),
        ("without a commit", "rm -rf .git; git init -q; echo > y; git add y; echo > z", "repo"),
        ("sha256", "rm -rf .git a; git init -q --object-format=sha256; commit x; echo > y", "repo"),
        (
            "shallow",
            "commit b; commit c; git push -q; cd ..; rm -rf repo; git clone -q --depth 1 file://$PWD/../r.git repo; cd repo; commit d",
            "repo",
        ),
        ("shared", "cd ..; rm -rf repo; git clone -q --shared ../r.git repo; cd repo; commit d; echo > new", "repo"),
        (
            "remote in the workbench",
            "git clone -q --bare ../../r.git ../inner.git; git remote set-url origin ../inner.git; commit b; git push -q",
            "repo",
        ),
        (
            "linked",
            "git clone -q ../../r.git ../../main; git -C ../../main worktree add -q $PWD/../linked -b linked; cd ../linked; commit b; echo > new; git stash -q -u; echo > newer",
            "linked",
        ),
        (
            "linked and detached",
            "git clone -q ../../r.git ../../main; git -C ../../main worktree add -q --detach $PWD/../linked; cd ../linked; commit b; echo > new",
            "linked",
        ),
        (
            "a submodule",
            "git submodule add -q $PWD/../../r.git sub 2>/dev/null; cd sub; commit b; echo > new",
            "repo/sub",
        ),
    ] {
        let scene = Scene::of(script);
        let packed = scene.pack(repository).unwrap_or_else(|error| panic!("{name}: {error}"));
        let files = |all: &str| all.split("refs\n").next().map(str::to_owned);
        let head = |all: &str| all.split("head\n").nth(1).and_then(|rest| rest.lines().next()).map(str::to_owned);
        let before = scene.say(&format!("w/{repository}"), EVERYTHING);
        scene.sh("mv w gone; mkdir w; rm -rf r.git");
        scene.restore(&packed, true);
        let after = scene.say("restored", EVERYTHING);
        assert_eq!((files(&after), head(&after)), (files(&before), head(&before)), "{name}");
    }
}

#[test]
fn a_bare_repository_comes_back() {
    let scene = Scene::of(
        "git clone -q --bare ../../r.git ../inner.git; git remote add inner ../inner.git; commit b; git push -q inner main",
    );
    let packed = scene.pack("inner.git").unwrap();
    let before = scene.say("w/inner.git", "git log --all --format=%H");
    scene.restore(&packed, true);
    assert_eq!(scene.say("restored", "git log --all --format=%H"), before);
}

#[test]
fn a_partial_clone_needs_its_remote_and_says_so() {
    let scene = Scene::of(
        "commit b; git push -q; cd ..; rm -rf repo; git -C ../r.git config uploadpack.allowFilter true;
         git clone -q --filter=blob:none --no-checkout file://$PWD/../r.git repo; cd repo; git sparse-checkout set --no-cone b c new; git checkout -q main; commit c; echo > new",
    );
    let packed = scene.pack("repo").unwrap();
    assert!(packed.needs_remote && packed.base_name.is_none());
    scene.sh("mv w/repo gone");
    scene.restore(&packed, true);
    assert_eq!(scene.say("restored", "git log --format=%s; cat c; ls new"), "c\nb\na\nc\nnew\n");
}

#[test]
fn contents_that_lfs_keeps_come_back() {
    let oid = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4";
    let scene = Scene::of(&format!(
        "mkdir -p .git/lfs/objects/98/ea; printf 'hi there\\n' > .git/lfs/objects/98/ea/{oid};
         printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:{oid}\\nsize 9\\n' > big; git add big; git commit -qm big;
         printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:{}\\nsize 9\\n' > lost; git add lost", "0".repeat(64)
    ));
    let packed = scene.pack("repo").unwrap();
    assert_eq!(packed.missing_lfs, 1);
    scene.restore(&packed, false);
    assert_eq!(scene.say("restored", &format!("cat .git/lfs/objects/98/ea/{oid}")), "hi there\n");
}

#[test]
fn a_rebase_is_laid_beside_because_it_may_be_commands() {
    let scene = Scene::of(
        "git checkout -q -b o; echo 1 > a; git commit -qam 1; git checkout -q main; echo 2 > a; git commit -qam 2; commit c; ! git rebase -q o 2>/dev/null; echo 3 > a",
    );
    let packed = scene.pack("repo").unwrap();
    scene.restore(&packed, false);
    assert!(!exists(&scene.dir.path().join("restored/.git/rebase-merge")));
    assert!(exists(&scene.dir.path().join("restored.rebase-merge/git-rebase-todo")));
    assert_eq!(scene.say("restored", "git log -1 --format=%s main; cat a; git ls-files -u | wc -l"), "c\n3\n3\n");
}

#[test]
fn what_is_damaged_is_not_archived() {
    let scene = Scene::of(
        "commit b; echo c > c; git add c; git commit -qm c; for f in $(git rev-parse HEAD:c); do rm -f .git/objects/${f:0:2}/${f:2}; done",
    );
    let error = scene.pack("repo").unwrap_err().to_string();
    assert!(error.contains("pack-objects failed"), "{error}");
}

#[test]
fn nothing_that_a_repository_names_is_run_or_restored() {
    let scene = Scene::of(
        r#"
        printf '#!/bin/sh\ntouch %s\n' "$PWD/../../EVIL" > ../evil; chmod +x ../evil; evil=$PWD/../evil
        for hook in post-index-change post-checkout pre-commit reference-transaction; do cp ../evil .git/hooks/$hook; done
        echo '* filter=x' > .gitattributes; echo x >> a; echo new > new; git stash -q -u
        echo '* filter=x' > .gitattributes; echo x >> a
        printf '[filter "x"]\n\tclean = %s\n\tsmudge = %s\n[remote "x"]\n\turl = ext::%s\n\tpromisor = true\n[uploadpack]\n\tpackObjectsHook = %s\n' "$evil" "$evil" "$evil" "$evil" >> .git/config
        git config core.fsmonitor "$evil"
        rm -f ../../EVIL
        "#,
    );
    let packed = scene.pack("repo").unwrap();
    scene.restore(&packed, true);
    assert!(!exists(&scene.dir.path().join("EVIL")));
    assert_eq!(scene.say("restored", "ls .git/hooks 2>/dev/null | wc -l; grep -c evil .git/config || true"), "0\n0\n");
}

/// Names that scripts and file formats get wrong.
const NAMES: [&str; 8] = ["a", "b", "dir/c", " space ", "$'new\\nline'", "$'\\xff'", "-dash", "'git~1/x'"];

/// One thing that an agent may do next, as a line of shell. What fails changes nothing.
fn step() -> impl Strategy<Value = String> {
    let name = (0..NAMES.len()).prop_map(|at| NAMES[at].replace(' ', "\\ "));
    (0..14_u8, name, 0..1000_u32).prop_map(|(action, name, number)| match action {
        0..4 => format!("mkdir -p -- $(dirname -- {name}) && echo {number} > ./{name}"),
        4 => format!("printf '{number}\\r\\n\\0' >> ./{name}"),
        5 => format!("rm -rf -- {name}"),
        6 => format!("chmod {:o} -- {name}", 0o400 | (number & 0o377)),
        7 => format!("rm -rf -- {name}; ln -s target{number} ./{name}"),
        8 | 9 => format!("git add -A -- {name}"),
        10 => format!("git commit -q -m {number}"),
        11 => format!("git stash -q -u -m {number}"),
        12 => format!("git checkout -q -b branch{number}"),
        _ => format!("git tag tag{number}; git checkout -q --detach"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn whatever_an_agent_did_comes_back(steps in proptest::collection::vec(step(), 1..25)) {
        let script: String = steps.iter().map(|step| format!("( {step} ) >/dev/null 2>&1 || true\n")).collect();
        let scene = Scene::of(&script);
        if scene.work().is_unsaved() {
            let packed = scene.pack("repo").unwrap();
            let before = scene.say("w/repo", EVERYTHING);
            scene.sh("mv w/repo gone; mv r.git gone.git");
            scene.restore(&packed, true);
            prop_assert_eq!(scene.say("restored", EVERYTHING), before, "{}", script);
        }
    }
}

#[test]
fn tags_of_what_remotes_have_bring_no_history() {
    let scene = Scene::of(
        "for i in $(seq 30); do head -c 20000 /dev/urandom > big; git add big; git commit -qm $i; git tag -a -m t t$i; done; git push -q; commit b",
    );
    scene.pack("repo").unwrap();
    let bytes: u64 = scene.say(".", "stat -c %s archive/work.pack").trim().parse().unwrap();
    assert!(bytes < 20_000, "{bytes}");
}

#[test]
fn what_git_would_not_make_comes_back_too() {
    let scene = Scene::of("git config remote.'foo bar'.url ../x; commit b; git update-ref refs/stash HEAD; echo > new");
    let packed = scene.pack("repo").unwrap();
    let restored = scene.restore(&packed, false);
    assert!(restored.notes.iter().any(|note| note.contains("no stash")), "{restored:?}");
    assert_eq!(scene.say("restored", "git log --format=%s; ls"), "b\na\na\nb\nnew\n");
    let scene = Scene::of("mkdir src; commit src/a; mv src src2; ln -s src2 src");
    let packed = scene.pack("repo").unwrap();
    let before = scene.say("w/repo", EVERYTHING);
    scene.restore(&packed, false);
    assert_eq!(scene.say("restored", EVERYTHING), before);
}

#[test]
fn nothing_is_written_through_a_link_that_came_back() {
    let scene = Scene::of("ln -s ../outside link; git add link; git commit -qm link; echo > new");
    let packed = scene.pack("repo").unwrap();
    scene.sh("mkdir outside; echo kept > outside/x; printf 'link/x\\0' >> archive/deleted; printf '777 link/x\\0' >> archive/modes; chmod 600 outside/x");
    scene.restore(&packed, false);
    assert_eq!(scene.say("outside", "cat x; stat -c %a x"), "kept\n600\n");
}
