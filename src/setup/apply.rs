//! From a plan to a file: what is there, what it becomes, and a backup of what it was.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use similar::TextDiff;

use super::hosts::{Host, Surroundings};
use super::{Entry, Problem};
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError};

/// The largest configuration that is read. Claude Code's holds its history, too.
const MAX_CONFIG_BYTES: u64 = 64 * 1024 * 1024;

const BACKUP: &str = ".moadim-backup";

/// The byte order mark, which some editors begin a file with.
const MARK: char = '\u{feff}';

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("cannot read {path} as {language}, so it is left as it was: {problem}\nFix it, and try again.{by_hand}")]
    Unreadable {
        path: PathBuf,
        language: &'static str,
        problem: Problem,
        /// What a person can put into it instead; empty if there is nothing.
        by_hand: String,
    },
    /// The file is not the one that the plan was made for.
    #[error(
        "another program changed {path}, so it is left as it is; quit the host if it is the one that writes, and try again"
    )]
    Changed { path: PathBuf },
    #[error(transparent)]
    File(#[from] FileError),
}

/// Of the files that a host's configuration may be in, returns the one to edit: the one that has an entry of this name, else
/// the one that the host prefers, else the one to make.
pub(crate) fn config_to_edit(host: &Host, here: &Surroundings, name: &str) -> PathBuf {
    let configs = host.configs(here);
    let has_entry = |path: &&PathBuf| {
        let text = read(path).ok().flatten();
        text.is_some_and(|text| host.has_entry(unmarked(&text), name) == Ok(true))
    };
    let is_there = |path: &&PathBuf| path.exists() || path.is_symlink();
    let chosen = configs.iter().find(has_entry).or_else(|| configs.iter().find(is_there)).or(configs.last());
    chosen.cloned().unwrap_or_default()
}

/// The change of a configuration.
#[derive(Debug)]
pub struct Plan {
    /// The real file, not the symlink that may lead to it.
    pub(crate) path: PathBuf,
    old: Option<String>,
    new: String,
    /// Whether the file has an entry of our name as it is.
    pub(crate) had_entry: bool,
}

impl Plan {
    /// Plans to add our entry to a host's configuration, or to correct it.
    pub fn adding(host: &Host, config: &Path, entry: &Entry) -> Result<Self, SetupError> {
        let block = host.with_entry("", entry).unwrap_or_default();
        let by_hand = format!(" Or put this into it by hand:\n\n{block}");
        Self::make(host, config, &entry.name, by_hand, |text| host.with_entry(text, entry))
    }

    /// Plans to remove our entry. If the file is a backup with our entry added, that backup is restored to the byte.
    pub fn removing(host: &Host, config: &Path, entry: &Entry) -> Result<Self, SetupError> {
        let name = &entry.name;
        let mut plan = Self::make(host, config, name, String::new(), |text| host.without_entry(text, name))?;
        if let (true, Some(now)) = (plan.changes(), &plan.old) {
            let was = |text: &String| {
                host.has_entry(unmarked(text), name) == Ok(false)
                    && edited(text, |text| host.with_entry(text, entry)).as_ref() == Ok(now)
            };
            if let Some(before) = backups(&plan.path).filter_map(|path| read(&path).ok().flatten()).find(was) {
                plan.new = before;
            }
        }
        Ok(plan)
    }

    fn make(
        host: &Host,
        config: &Path,
        name: &str,
        by_hand: String,
        edit: impl Fn(&str) -> Result<String, Problem>,
    ) -> Result<Self, SetupError> {
        let path = real(config)?;
        let old = read(&path)?;
        let text = old.as_deref().unwrap_or_default();
        let read = host.has_entry(unmarked(text), name).and_then(|had| Ok((had, edited(text, edit)?)));
        let (had_entry, new) = read.map_err(|problem| SetupError::Unreadable {
            path: path.clone(),
            language: host.language(),
            problem,
            by_hand,
        })?;
        Ok(Self { path, old, new, had_entry })
    }

    /// Returns whether there is anything to do.
    pub fn changes(&self) -> bool {
        self.old.as_deref().unwrap_or_default() != self.new
    }

    /// Returns what would change as a unified diff, without the names of files.
    pub fn diff(&self) -> String {
        let old = self.old.as_deref().unwrap_or_default();
        TextDiff::from_lines(old, &self.new).unified_diff().context_radius(3).to_string()
    }

    /// Writes it, keeping the file's mode, and returns the backup of what was there. A file that was not there is made, with
    /// its directory, for its user alone.
    ///
    /// # Errors
    /// Another program changed the file, or the system refused; the file is as it was.
    pub fn apply(&self) -> Result<Option<PathBuf>, SetupError> {
        let Some(old) = &self.old else {
            let directory = self.path.parent().unwrap_or(Path::new("/"));
            std::fs::create_dir_all(directory).map_err(|source| FileError::io("create", directory, source))?;
            let made = atomic_file::write_once(&self.path, self.new.as_bytes())?;
            return if made { Ok(None) } else { Err(SetupError::Changed { path: self.path.clone() }) };
        };
        let metadata = std::fs::metadata(&self.path).map_err(|source| FileError::io("look at", &self.path, source))?;
        let backup = free_backup_name(&self.path);
        atomic_file::write(&backup, old.as_bytes())?;
        let mode = metadata.permissions().mode() & 0o7777;
        let mut now = Ok(None);
        let still = || {
            now = read(&self.path);
            now.as_ref().is_ok_and(|now| now.as_ref() == Some(old))
        };
        if atomic_file::write_if(&self.path, self.new.as_bytes(), mode, still)? {
            return Ok(Some(backup));
        }
        let _ = std::fs::remove_file(&backup);
        now?;
        Err(SetupError::Changed { path: self.path.clone() })
    }
}

fn unmarked(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// Edits what comes after a byte order mark, which no parser wants to see.
fn edited(text: &str, edit: impl Fn(&str) -> Result<String, Problem>) -> Result<String, Problem> {
    let body = unmarked(text);
    Ok(format!("{}{}", &text[..text.len() - body.len()], edit(body)?))
}

/// Follows symlinks, so that what they lead to is replaced, not they.
fn real(path: &Path) -> Result<PathBuf, FileError> {
    match path.canonicalize() {
        Ok(real) => Ok(real),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => Ok(path.to_owned()),
        Err(source) => Err(FileError::io("follow", path, source)),
    }
}

fn read(path: &Path) -> Result<Option<String>, FileError> {
    let read = atomic_file::read_text_with_stamp(path, MAX_CONFIG_BYTES);
    atomic_file::if_present(read.map(|(text, _)| text))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn backups(path: &Path) -> impl Iterator<Item = PathBuf> {
    let start = format!("{}.", file_name(path));
    let entries = path.parent().and_then(|directory| std::fs::read_dir(directory).ok());
    entries.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()).filter(move |path| {
        let name = file_name(path);
        name.starts_with(&start) && name.ends_with(BACKUP)
    })
}

/// Returns a name with the time in it that no file has.
fn free_backup_name(path: &Path) -> PathBuf {
    let name = format!("{}.{}", file_name(path), UnixSeconds::now().to_string().replace(':', "-"));
    let names = std::iter::once(format!("{name}{BACKUP}")).chain((2u32..).map(|n| format!("{name}.{n}{BACKUP}")));
    let mut free = names.map(|name| path.with_file_name(name)).filter(|path| !path.exists());
    free.next().unwrap_or_else(|| path.with_file_name(format!("{name}{BACKUP}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_since_the_plan_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mcp.json");
        let plan = || {
            let entry = Entry::new(Path::new("/bin/moadim-mcp"), None).unwrap();
            Plan::adding(Host::by_name("cursor").unwrap(), &file, &entry).unwrap()
        };
        let of_none = plan();
        std::fs::write(&file, "{}").unwrap();
        let of_empty = plan();
        std::fs::write(&file, "{ }").unwrap();
        for plan in [of_none, of_empty] {
            assert!(matches!(plan.apply(), Err(SetupError::Changed { .. })));
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{ }");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no backup, no temporary file");
    }

    const THEIRS: &str = "{ \"theirs\": true }";

    /// Applies a plan while somebody else writes the file; returns what came of it, unless they were too late.
    fn applied_beside_another_writer(path: &Path, old: Option<&str>) -> Option<Result<Option<PathBuf>, SetupError>> {
        // So large that writing it takes a while.
        let new = " ".repeat(32 * 1024 * 1024);
        let plan = Plan { path: path.to_owned(), old: old.map(str::to_owned), new, had_entry: false };
        let is_being_written = || {
            let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
            let mut names = entries.map(|entry| file_name(&entry.unwrap().path()));
            names.any(|name| atomic_file::is_temporary(&name) && !name.contains(BACKUP))
        };
        std::thread::scope(|scope| {
            let applied = scope.spawn(|| plan.apply());
            while !is_being_written() && !applied.is_finished() {}
            std::fs::write(path, THEIRS).unwrap();
            let in_time = is_being_written();
            let applied = applied.join().unwrap();
            in_time.then_some(applied)
        })
    }

    #[test]
    fn what_another_writes_while_we_do_is_left_as_it_is() {
        for old in [Some("{}"), None] {
            let directory = tempfile::tempdir().unwrap();
            let attempt = |n: u32| {
                let path = directory.path().join(n.to_string()).join("mcp.json");
                std::fs::create_dir(path.parent().unwrap()).unwrap();
                if let Some(old) = old {
                    std::fs::write(&path, old).unwrap();
                }
                Some((applied_beside_another_writer(&path, old)?, path))
            };
            let (applied, path) = (0..50).find_map(attempt).expect("a writer in time");
            assert!(matches!(applied, Err(SetupError::Changed { .. })), "{applied:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), THEIRS);
            let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
            assert_eq!(left, 1, "no backup, no temporary file");
        }
    }

    #[test]
    fn backups_of_one_second_have_names_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("settings.json");
        for _ in 0..3 {
            std::fs::write(free_backup_name(&file), "").unwrap();
        }
        assert_eq!(backups(&file).count(), 3);
    }
}
