//! What may stand in a routine's `repositories`: nothing there may become an option of git, run a command, or lead out of
//! the workbench.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invalid_field::InvalidField;
use crate::home::WORKBENCH_FILES;

/// A git repository that each run gets a fresh clone of.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// https, ssh, git or a local path.
    pub url: String,
    /// Branch or tag, if not the default branch.
    pub branch: Option<String>,
    /// In the workbench; named after the repository if absent.
    pub directory: Option<String>,
}

const MAX_REPOSITORIES: usize = 20;
const MAX_URL_CHARS: usize = 2000;
const MAX_BRANCH_CHARS: usize = 250;
const MAX_DIRECTORY_CHARS: usize = 200;

/// What stands in a shown URL in the place of a password.
const MASK: &str = "***";

/// Checks the repositories that a run would clone.
pub(super) fn check(repositories: &[Repository]) -> Result<(), InvalidField> {
    if repositories.len() > MAX_REPOSITORIES {
        let rule = format!("at most {MAX_REPOSITORIES} repositories; give fewer");
        return Err(InvalidField::new("repositories", repositories.len(), rule));
    }
    let mut taken: Vec<String> = Vec::new();
    for repository in repositories {
        check_url(&repository.url)?;
        repository.branch.as_deref().map_or(Ok(()), check_branch)?;
        let directory = directory_of(repository).unwrap_or_default();
        check_directory(&directory)?;
        // Many file systems take names that differ in case for the same.
        let directory = format!("{}/", directory.to_lowercase());
        if taken.iter().any(|other| other.starts_with(&directory) || directory.starts_with(other)) {
            let rule = "two repositories would be in one directory, or one within the other; give each its own";
            return Err(InvalidField::new(
                "repositories.directory",
                format_args!("'{}'", directory.trim_end_matches('/')),
                rule,
            ));
        }
        taken.push(directory);
    }
    Ok(())
}

/// Returns the directory in the workbench; `None` where neither it nor the URL names one.
pub fn directory_of(repository: &Repository) -> Option<String> {
    repository.directory.clone().or_else(|| name_of(&repository.url))
}

/// Returns the name of the repository that a URL ends with, as a plain file name.
pub fn name_of(url: &str) -> Option<String> {
    let last = url.trim_end_matches('/').rsplit(['/', ':']).next()?;
    let last = last.strip_suffix(".git").unwrap_or(last);
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = last.chars().take(64).map(plain).collect();
    let name = name.trim_start_matches(['.', '-']);
    (!name.is_empty()).then(|| name.to_owned())
}

/// Returns a text with the secrets of the URLs in it masked: passwords, and tokens in the place of a name.
pub fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || c.is_control()).unwrap_or(after.len());
        let (authority, tail) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((who, host)) => {
                match who.split_once(':') {
                    Some((name, _)) => shown.extend([name, ":", MASK]),
                    // ssh names a user there, and that is no secret.
                    None if before.ends_with("ssh://") => shown.push_str(who),
                    None => shown.push_str(MASK),
                }
                shown.extend(["@", host]);
            }
            None => shown.push_str(authority),
        }
        rest = tail;
    }
    shown + rest
}

/// Takes https, ssh (also as `user@host:path`), git and local paths. Everything else is refused, and so is what git or ssh
/// could take for an option, or a "transport::address", which runs a command.
fn check_url(url: &str) -> Result<(), InvalidField> {
    let refuse = |rule: &str| Err(InvalidField::new("repositories.url", format_args!("'{}'", masked(url)), rule));
    if url.chars().count() > MAX_URL_CHARS || url.chars().any(char::is_control) {
        return refuse(&format!("it must be one line of at most {MAX_URL_CHARS} characters"));
    }
    if url.starts_with('-') {
        return refuse("it begins with a dash, which git would take for an option; give a URL or an absolute path");
    }
    let scheme_end = url.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.'));
    if scheme_end.is_some_and(|end| url[end..].starts_with("::")) {
        return refuse("`transport::address` runs a command; give an https, ssh or git URL, or an absolute path");
    }
    if url.starts_with("http://") {
        return refuse("http:// is refused: anyone on the way can change what it brings; use https://");
    }
    let known = ["https://", "ssh://", "git://"].into_iter().find_map(|scheme| url.strip_prefix(scheme));
    if let Some(rest) = known {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (who, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        return if !is_host(host) || who.starts_with('-') {
            refuse("it names no host that can be looked up; give scheme://host/path")
        } else if who == MASK || who.ends_with(&format!(":{MASK}")) {
            refuse("its password is masked; give the real one, or better none and a credential helper")
        } else {
            Ok(())
        };
    }
    let local = url.strip_prefix("file://").unwrap_or(url);
    if local.starts_with('/') || is_scp_like(url) {
        return Ok(());
    }
    refuse("it must be https://, ssh://, user@host:path, git://, file:///path or an absolute path; give one of these")
}

/// Returns whether a text is a host, or an address in brackets, with a port or without.
fn is_host(text: &str) -> bool {
    let (host, port, more) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) => (address, port, ".-_:"),
        Some(None) => return false,
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (host, port, ".-_")
        }
    };
    let port_is_one =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let plain = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
    !host.is_empty() && !host.starts_with('-') && host.chars().all(plain) && port_is_one
}

fn is_scp_like(url: &str) -> bool {
    let Some((user, rest)) = url.split_once('@') else { return false };
    let host_end = if rest.starts_with('[') { rest.find("]:").map(|end| end + 1) } else { rest.find(':') };
    let Some((host, path)) = host_end.map(|end| rest.split_at(end)) else { return false };
    let path = &path[1..];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let user_is_plain = !user.is_empty() && !user.starts_with('-') && user.chars().all(plain);
    user_is_plain && is_host(host) && !path.is_empty() && !path.starts_with('-')
}

/// The rules of git-check-ref-format(1), and no dash first.
fn check_branch(branch: &str) -> Result<(), InvalidField> {
    let odd = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    if branch.chars().count() > MAX_BRANCH_CHARS
        || branch.starts_with('-')
        || branch.chars().any(odd)
        || branch.contains("..")
        || branch.contains("@{")
        || branch.ends_with('.')
        || branch == "@"
        || branch.split('/').any(bad_part)
    {
        let rule = "it is no name of a branch or tag; give one without spaces, and no dash first";
        return Err(InvalidField::new("repositories.branch", format_args!("'{branch}'"), rule));
    }
    Ok(())
}

fn check_directory(directory: &str) -> Result<(), InvalidField> {
    let refuse = |rule: &str| Err(InvalidField::new("repositories.directory", format_args!("'{directory}'"), rule));
    if directory.is_empty() {
        return refuse("the URL ends with no name; give a `directory`");
    }
    if directory.chars().count() > MAX_DIRECTORY_CHARS || directory.chars().any(char::is_control) {
        return refuse(&format!("it must be one line of at most {MAX_DIRECTORY_CHARS} characters; give a shorter one"));
    }
    let parts: Vec<&str> = directory.split('/').collect();
    if parts.iter().any(|part| part.is_empty() || matches!(*part, "." | "..") || part.starts_with('-')) {
        return refuse("it must be a path within the workbench, such as \"src\" or \"libs/a\", without `..`");
    }
    // `.claude`, `.opencode`, `.qwen` and others: what is there decides what an agent runs.
    if parts.iter().any(|part| part.starts_with('.')) {
        return refuse(
            "agents take settings and hooks from such directories, and git `.git`; give a name without a dot first",
        );
    }
    if is_taken(directory) && !is_taken_since_it_could_be_saved(directory) {
        return refuse(TAKEN);
    }
    Ok(())
}

const TAKEN: &str = "that name is taken in every workbench; give another";

fn is_taken(directory: &str) -> bool {
    let first = directory.split('/').next().unwrap_or_default();
    WORKBENCH_FILES.iter().any(|ours| first.eq_ignore_ascii_case(ours))
}

/// Whether a name was free in 0.1.0: a routine that has it still loads.
fn is_taken_since_it_could_be_saved(directory: &str) -> bool {
    let first = directory.split('/').next().unwrap_or_default();
    ["answer.md", "previous", "question.md"].iter().any(|name| first.eq_ignore_ascii_case(name))
}

/// Checks what is saved now, where more names are taken than in a file that is there already.
pub(super) fn check_names(repositories: &[Repository]) -> Result<(), InvalidField> {
    let taken = repositories.iter().filter_map(directory_of).find(|directory| is_taken(directory));
    taken.map_or(Ok(()), |name| Err(InvalidField::new("repositories.directory", format_args!("'{name}'"), TAKEN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(url: &str, branch: Option<&str>, directory: Option<&str>) -> Repository {
        Repository { url: url.into(), branch: branch.map(Into::into), directory: directory.map(Into::into) }
    }

    fn refusal(repository: Repository) -> String {
        check(&[repository]).unwrap_err().to_string()
    }

    #[test]
    fn the_usual_urls_are_taken() {
        for (url, name) in [
            ("https://example.com/a/b.git", "b"),
            ("https://user:secret@example.com:8443/a/b", "b"),
            ("https://[::1]/b", "b"),
            ("ssh://git@example.com:22/a/b.git/", "b"),
            ("git@example.com:a/b.git", "b"),
            ("git@example.com:b", "b"),
            ("git@[::1]:b", "b"),
            ("git://example.com/b", "b"),
            ("file:///srv/b.git", "b"),
            ("/srv/my repos/b c.git", "b-c"),
        ] {
            assert!(check(&[at(url, Some("main"), None)]).is_ok(), "{url}");
            assert_eq!(name_of(url).as_deref(), Some(name), "{url}");
        }
    }

    #[test]
    fn what_runs_a_command_or_looks_like_an_option_is_refused() {
        for url in [
            "",
            "-u",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c id",
            "fd::17/x",
            "ext::https://example.com/x",
            "HTTPS://example.com/x",
            "http://example.com/x",
            "ftp://example.com/x",
            "file://host/x",
            "relative/path",
            "./path",
            "~/path",
            "host:path",
            "ssh://-oProxyCommand=id/x",
            "ssh://git@-oProxyCommand=id/x",
            "ssh://-oProxyCommand=id@host/x",
            "ssh://%2DoProxyCommand=id/x",
            "git@-oProxyCommand=id:x",
            "-oProxyCommand=id@host:x",
            "ssh://[-oProxyCommand=id]/x",
            "git@[-oProxyCommand=id]:x",
            "ssh://[::1/x",
            "https://host:port/x",
            "https@]:@-",
            "git@host:-x",
            "git@host:",
            "https:///x",
            "https://example.com/a\nb",
            "https://example.com/\u{0}",
            "https://user:***@example.com/x",
        ] {
            let error = refusal(at(url, None, Some("d")));
            assert!(error.contains("repositories.url"), "{url}: {error}");
        }
    }

    #[test]
    fn a_branch_is_no_option_and_no_expression() {
        for branch in
            ["", "-b", "--upload-pack=x", "a b", "a..b", "a~1", "a^", "a:b", "@", "a@{1}", "a/", "/a", "a.lock"]
        {
            assert!(refusal(at("/r", Some(branch), None)).contains("repositories.branch"), "{branch}");
        }
        for branch in ["main", "feature/x-1", "v1.0", "user@work"] {
            assert!(check(&[at("/r", Some(branch), None)]).is_ok(), "{branch}");
        }
    }

    #[test]
    fn a_directory_stays_in_the_workbench_and_apart() {
        for directory in [
            "",
            "/etc",
            "..",
            "a/../b",
            ".",
            "a//b",
            "a/",
            ".git",
            "a/.GIT/b",
            "Prompt.md",
            "agent.log",
            "outcome.json/x",
            "-a",
        ] {
            assert!(refusal(at("/r", None, Some(directory))).contains("repositories.directory"), "{directory}");
        }
        assert!(refusal(at("/", None, None)).contains("give a `directory`"));
        for (a, b) in [("a", "a"), ("a", "A"), ("a", "a/b"), ("a/b", "a")] {
            assert!(check(&[at("/r", None, Some(a)), at("/s", None, Some(b))]).is_err(), "{a} {b}");
        }
        assert!(check(&[at("/r", None, Some("a/b")), at("/s", None, Some("a/bc")), at("/r.git", None, None)]).is_ok());
    }

    #[test]
    fn secrets_in_urls_are_masked() {
        for (text, shown) in [
            ("fatal: 'https://u:p@h/x': no", "fatal: 'https://u:***@h/x': no"),
            ("https://ghp_token@h/x and https://u:p@q@h", "https://***@h/x and https://u:***@h"),
            ("ssh://git@h/x git@h:x /a@b", "ssh://git@h/x git@h:x /a@b"),
            ("https://h/a@b", "https://h/a@b"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_no_option_and_no_command(url in "(https|ext|ssh|git)?[-:/@a.%\\[\\]]{0,12}") {
            if check(&[at(&url, None, Some("d"))]).is_ok() {
                // As git parts it: a path that a shell of the other side gets, and what ssh gets.
                let (authority, path) = match url.split_once("://") {
                    Some((_, rest)) => (rest.split('/').next().unwrap_or_default(), "/"),
                    None if url.starts_with('/') => ("", url.as_str()),
                    None => url.split_once(if url.contains("@[") { "]:" } else { ":" }).unwrap_or((&url, "")),
                };
                let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).trim_start_matches('[');
                prop_assert!(![url.as_str(), authority, host, path].iter().any(|part| part.starts_with('-')));
                prop_assert!(["https://", "ssh://", "git://", "/"].iter().any(|start| url.starts_with(start))
                    || url.split_once(':').is_some_and(|(before, _)| before.contains('@')));
            }
        }

        #[test]
        fn a_directory_that_is_taken_is_below_the_workbench(directory in "[./a-]{0,8}") {
            if check(&[at("/r", None, Some(&directory))]).is_ok() {
                let path = std::path::Path::new(&directory);
                prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }

        #[test]
        fn a_name_of_any_url_is_a_plain_file_name(url: String) {
            if let Some(name) = name_of(&url) {
                prop_assert!(check_directory(&name).is_ok() || WORKBENCH_FILES.contains(&name.to_lowercase().as_str()));
            }
        }

        #[test]
        fn no_password_survives_the_mask(name in "[a-z]{1,5}", password in "[a-zA-Z0-9:@]{8,12}") {
            let shown = masked(&format!("x https://{name}:{password}@host/p"));
            prop_assert!(!shown.contains(&password), "{}", shown);
        }
    }
}
