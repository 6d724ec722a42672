//! What `git status` and `git ls-files` print, taken apart.

use super::program::{GitError, ObjectId};

/// The paths in which a working tree differs from its index, or its index from `HEAD`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// Tracked files, unmerged ones included.
    pub(super) changed: Vec<Vec<u8>>,
    /// Those of them that were added without their content (`git add -N`).
    pub(super) intended: Vec<Vec<u8>>,
    /// Files that are not tracked and not ignored.
    pub(super) untracked: Vec<Vec<u8>>,
    /// Directories that git takes for repositories of their own.
    pub(super) nested: Vec<Vec<u8>>,
}

/// Parses `git status --porcelain=v2 -z --no-renames`.
pub(super) fn parse_status(printed: &[u8]) -> Result<Status, GitError> {
    let mut status = Status::default();
    for line in records(printed) {
        // Fields before the path: `1 XY sub mH mI mW hH hI`, `u XY sub m1 m2 m3 mW h1 h2 h3`.
        let fields = match line.first() {
            Some(b'1') => 8,
            Some(b'u') => 10,
            Some(b'?') => 1,
            _ => return Err(unexpected("status", line)),
        };
        let path = after_fields(line, fields).ok_or_else(|| unexpected("status", line))?;
        match path.strip_suffix(b"/") {
            Some(directory) => status.nested.push(directory.to_vec()),
            None if line.starts_with(b"1 .A ") => {
                status.intended.push(path.to_vec());
                status.changed.push(path.to_vec());
            }
            None if line.starts_with(b"?") => status.untracked.push(path.to_vec()),
            None => status.changed.push(path.to_vec()),
        }
    }
    Ok(status)
}

/// Whether a line of what `git status` complains about hides nothing: it names an attribute, a pattern or an encoding
/// that git does not heed, so that at most a file too many shows as changed or untracked. Whatever is not known here
/// may hide something.
pub(super) fn is_harmless(complaint: &str) -> bool {
    const ABOUT_ATTRIBUTES: [&str; 8] = [
        "warning: Negative patterns are ignored in git attributes",
        "Use '\\!' for literal leading exclamation.",
        "warning: ignoring overly long attributes line ",
        "warning: ignoring overly large gitattributes ",
        "error: BOM is required in '",
        "error: BOM is prohibited in '",
        "error: failed to encode '",
        "hint: The file '",
    ];
    // As in "x+ is not a valid attribute name: d/.gitattributes:1".
    let is_refused = || {
        let (what, number) = complaint.rsplit_once(':')?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let says = |words: &str| what.contains(words);
        let is_attribute = says(" is not a valid attribute name: ") || says(" not allowed: ");
        let is_more = ["warning: ", "error: ", "fatal: "].iter().any(|kind| what.starts_with(kind));
        Some(is_number && is_attribute && !is_more && what.ends_with(".gitattributes"))
    };
    // Git does not follow a link there, nor did it for the agent.
    let is_link = || {
        let file = complaint.strip_prefix("warning: unable to access '")?;
        let file = file.strip_suffix("': Too many levels of symbolic links")?;
        Some(file.ends_with(".gitattributes") || file.ends_with(".gitignore"))
    };
    ABOUT_ATTRIBUTES.iter().any(|begin| complaint.starts_with(begin))
        || is_refused().unwrap_or(false)
        || is_link().unwrap_or(false)
}

/// An entry of an index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) mode: u32,
    pub(super) id: ObjectId,
    /// 0, or which side of a conflict it is.
    pub(super) stage: u8,
    pub(super) path: Vec<u8>,
    pub(super) is_assumed_unchanged: bool,
    pub(super) is_skipped: bool,
}

/// The mode of a submodule.
pub(super) const GITLINK: u32 = 0o160_000;

/// Parses `git ls-files -z -s -v`.
pub(super) fn parse_index(printed: &[u8]) -> Result<Vec<IndexEntry>, GitError> {
    let parse = |line: &[u8]| {
        let (tag, rest) = line.split_first()?;
        let tab = rest.iter().position(|byte| *byte == b'\t')?;
        let mut words = std::str::from_utf8(&rest[..tab]).ok()?.split_whitespace();
        Some(IndexEntry {
            mode: u32::from_str_radix(words.next()?, 8).ok()?,
            id: words.next()?.parse().ok()?,
            stage: words.next()?.parse().ok()?,
            path: rest[tab + 1..].to_vec(),
            is_assumed_unchanged: tag.is_ascii_lowercase(),
            is_skipped: tag.eq_ignore_ascii_case(&b'S'),
        })
    };
    records(printed).map(|line| parse(line).ok_or_else(|| unexpected("ls-files", line))).collect()
}

/// Parses `git diff --shortstat`: insertions and deletions.
pub(super) fn parse_shortstat(printed: &str) -> (u64, u64) {
    let number = |word: &str| {
        let part = printed.split(',').find(|part| part.contains(word))?;
        part.split_whitespace().next()?.parse().ok()
    };
    (number("insertion").unwrap_or(0), number("deletion").unwrap_or(0))
}

fn records(printed: &[u8]) -> impl Iterator<Item = &[u8]> {
    printed.split(|byte| *byte == 0).filter(|line| !line.is_empty())
}

fn after_fields(line: &[u8], fields: usize) -> Option<&[u8]> {
    line.splitn(fields + 1, |byte| *byte == b' ').nth(fields)
}

fn unexpected(command: &str, line: &[u8]) -> GitError {
    GitError::Unexpected { command: command.to_owned(), what: format!("{:?}", String::from_utf8_lossy(line)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_changed_untracked_and_nested() {
        let id = "0".repeat(40);
        let printed = format!(
            "1 .A N... 000000 000000 100644 {id} {id} n\x001 .M N... 100644 100644 100644 {id} {id} a b\0u UU N... 100644 100644 100644 100644 {id} {id} {id} c\nd\0\
             ? new file\0? inner/\0"
        );
        let status = parse_status(printed.as_bytes()).unwrap();
        let paths = |paths: &[&str]| paths.iter().map(|path| path.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!((status.changed, status.intended), (paths(&["n", "a b", "c\nd"]), paths(&["n"])));
        assert_eq!((status.untracked, status.nested), (paths(&["new file"]), paths(&["inner"])));
        assert!(parse_status(b"X what\0").is_err());
    }

    #[test]
    fn a_complaint_is_harmless_only_if_it_is_about_attributes() {
        for harmless in [
            "foo+ is not a valid attribute name: d/.gitattributes:12",
            "[attr]bin text not allowed: d/.gitattributes:1",
            "warning: unable to access 'd/.gitattributes': Too many levels of symbolic links",
        ] {
            assert!(is_harmless(harmless), "{harmless}");
        }
        for other in [
            "warning: could not open directory 'd/': Permission denied",
            "warning: unable to access '.gitattributes': Permission denied",
            "error: x is not a valid attribute name: .gitattributes:1",
            "warning: could not open directory 'x is not a valid attribute name: .gitattributes:1/': Permission denied",
            "",
        ] {
            assert!(!is_harmless(other), "{other}");
        }
    }

    #[test]
    fn flags_of_index_entries_are_letters() {
        let id = "0".repeat(40);
        let printed = format!("H 100644 {id} 0\ta\0h 100644 {id} 0\tb\0S 160000 {id} 0\tc\td\0s 100755 {id} 0\te\0");
        let entries = parse_index(printed.as_bytes()).unwrap();
        let flags: Vec<_> = entries.iter().map(|entry| (entry.is_assumed_unchanged, entry.is_skipped)).collect();
        assert_eq!(flags, [(false, false), (true, false), (false, true), (true, true)]);
        assert_eq!((entries[2].mode, entries[2].path.as_slice()), (GITLINK, &b"c\td"[..]));
    }

    #[test]
    fn a_shortstat_may_lack_either_number() {
        assert_eq!(parse_shortstat(" 2 files changed, 3 insertions(+), 1 deletion(-)\n"), (3, 1));
        assert_eq!(parse_shortstat(" 1 file changed, 4 deletions(-)\n"), (0, 4));
        assert_eq!(parse_shortstat(""), (0, 0));
    }
}
