//! What a repository's remotes are sure to have: the base that its work is compared with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::program::ObjectId;

/// The refs of a clone of ours when it was made, recorded where its agent cannot reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cloned {
    /// Where it came from.
    pub(crate) url: String,
    /// Every ref by its full name.
    pub(crate) refs: BTreeMap<String, ObjectId>,
}

/// A remote's refs are under this prefix and its name.
pub(super) const REMOTE_REFS: &str = "refs/remotes/";

/// Returns the remote that a remote-tracking ref belongs to: of names that begin alike, the longest.
pub(super) fn remote_of<'a>(reference: &str, remotes: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rest = reference.strip_prefix(REMOTE_REFS)?;
    let is_its = |name: &&str| rest.strip_prefix(*name).is_some_and(|rest| rest.starts_with('/'));
    remotes.filter(is_its).max_by_key(|name| name.len())
}

/// Where a remote is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remote {
    /// On another machine, or what looks so.
    Network,
    /// In this directory, which need not be there.
    Local(PathBuf),
    /// Behind a program that its URL names.
    Helper,
}

/// Transports of git's own.
const SCHEMES: [&str; 8] = ["https", "http", "ssh", "git", "git+ssh", "ssh+git", "ftp", "ftps"];

/// Says where a URL leads, seen from a repository's directory, as git decides that.
pub(super) fn place_of(url: &str, from: &Path) -> Remote {
    if let Some(path) = url.strip_prefix("file://") {
        return Remote::Local(PathBuf::from(path));
    }
    if let Some((scheme, _)) = url.split_once("://") {
        return if SCHEMES.contains(&scheme) { Remote::Network } else { Remote::Helper };
    }
    let before_slash = url.split('/').next().unwrap_or_default();
    match before_slash.split_once(':') {
        Some((_, rest)) if rest.starts_with(':') => Remote::Helper,
        // host:path
        Some(_) => Remote::Network,
        None => Remote::Local(from.join(url)),
    }
}

/// Whether a remote still has what was pushed to it once everything in `doomed` is gone.
pub(super) fn outlives(url: &str, from: &Path, doomed: &Path) -> bool {
    match place_of(url, from) {
        Remote::Network => true,
        Remote::Helper => false,
        Remote::Local(path) => match (path.canonicalize(), doomed.canonicalize()) {
            (Ok(path), Ok(doomed)) => !path.starts_with(doomed),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_where_git_says() {
        let from = Path::new("/w/repo");
        let place = |url| place_of(url, from);
        for network in ["https://h/x.git", "ssh://h/x", "git@h:x/y.git", "h:x", "git://h/x"] {
            assert_eq!(place(network), Remote::Network, "{network}");
        }
        for (url, path) in [
            ("../in.git", "/w/repo/../in.git"),
            ("/a/b:c", "/a/b:c"),
            ("file:///a/b", "/a/b"),
            ("./a:b", "/w/repo/./a:b"),
        ] {
            assert_eq!(place(url), Remote::Local(path.into()), "{url}");
        }
        for helper in ["ext::sh -c x", "persistent-https://h/x", "foo::bar"] {
            assert_eq!(place(helper), Remote::Helper, "{helper}");
        }
    }

    #[test]
    fn a_remote_that_goes_with_the_repository_or_is_gone_keeps_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (doomed, kept) = (dir.path().join("w"), dir.path().join("kept"));
        for path in [&doomed.join("repo"), &doomed.join("in.git"), &kept] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::os::unix::fs::symlink(doomed.join("in.git"), dir.path().join("link")).unwrap();
        let outlives = |url: &str| outlives(url, &doomed.join("repo"), &doomed);
        assert!(outlives(kept.to_str().unwrap()) && outlives("https://h/x"));
        assert!(!outlives("../in.git") && !outlives("../gone.git"));
        assert!(!outlives(dir.path().join("link").to_str().unwrap()), "by way of a link");
    }

    #[test]
    fn a_tracking_ref_belongs_to_the_longest_name() {
        let of = |reference| remote_of(reference, ["a", "a/b", "c"].into_iter());
        assert_eq!((of("refs/remotes/a/x"), of("refs/remotes/a/b/x")), (Some("a"), Some("a/b")));
        assert_eq!((of("refs/remotes/d/x"), of("refs/heads/a")), (None, None));
    }
}
