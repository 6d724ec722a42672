//! Routines on disk: `routines/<slug>/routine.toml` and `prompt.md`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::invalid_field::InvalidField;
use super::ledger::{self, Ledger};
use super::model::{Definition, Routine};
use super::prompt;
use super::schedule::Schedule;
use super::slug::Slug;
use crate::clock::UnixSeconds;
use crate::home::atomic_file::{self, FileError, MAX_RECORD_BYTES};
use crate::home::config::Config;
use crate::home::file_cache::Stamp;
use crate::home::lock::{FileLock, LockError, Mode};
use crate::home::{self, Home, names, toml_text};

/// How long a call waits for the routines' lock, which guards short work.
pub const ROUTINES_LOCK_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) const DEFINITION_FILE: &str = "routine.toml";

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("there is no routine '{slug}'{closest}; see them all with list_routines (moadim-mcp routines)")]
    NotFound {
        slug: Slug,
        /// Names that are close to it, in words.
        closest: String,
    },
    #[error(
        "the routine '{slug}' exists already (titled '{title}'); trigger that one, or give this one another `title` or `slug`"
    )]
    Taken { slug: Slug, title: String },
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process is changing routines and does not end.
    #[error("{0}; try again")]
    Locked(#[from] LockError),
}

/// Chooses the slug of a new routine: the one that was given, else the one that its title makes.
pub fn new_slug(given: Option<Slug>, title: &str) -> Result<Slug, InvalidField> {
    given.or_else(|| Slug::from_title(title)).ok_or_else(|| {
        let rule = "it makes no slug; give a `slug`, or a title with at least one letter or digit";
        InvalidField::new("title", format_args!("'{title}'"), rule)
    })
}

/// Saves a new routine; after an error nothing is left behind.
pub fn create(
    home: &Home,
    config: &Config,
    slug: Slug,
    definition: Definition,
    prompt: &str,
) -> Result<Routine, StoreError> {
    let text = text_of(home, &slug, &definition)?;
    create_with_text(home, config, slug, definition, &text, prompt)
}

fn text_of(home: &Home, slug: &Slug, definition: &Definition) -> Result<String, FileError> {
    toml::to_string_pretty(definition).map_err(|error| FileError::damaged(&definition_file(home, slug), error))
}

/// Saves a new routine with this text for its definition, which has to mean that; after an error nothing is left behind.
pub fn create_with_text(
    home: &Home,
    config: &Config,
    slug: Slug,
    definition: Definition,
    text: &str,
    prompt: &str,
) -> Result<Routine, StoreError> {
    definition.check(config)?;
    definition.check_new_schedule(&Definition::default(), UnixSeconds::now())?;
    prompt::check(prompt)?;
    let routine = Routine { slug, definition };
    let staged = home.routines().join(format!(".{}.tmp", home::random_suffix()));
    let published = stage(&staged, &routine.definition, text, prompt).and_then(|()| publish(home, &staged, &routine));
    if published.is_err() {
        // Only our own two files are in there, and it never had a name that anyone looks for.
        let _ = std::fs::remove_dir_all(&staged);
    }
    published.map(|()| routine)
}

fn stage(staged: &Path, definition: &Definition, text: &str, prompt: &str) -> Result<(), StoreError> {
    home::make_directory(staged).map_err(|source| FileError::io("make", staged, source))?;
    atomic_file::write(&staged.join(prompt::PROMPT_FILE), prompt.as_bytes())?;
    if definition.has_schedule() {
        // From now on, and not from when somebody first looks at it.
        let mut ledger = Ledger::default();
        ledger.follow(definition, definition.created_at);
        atomic_file::write_json(&staged.join(ledger::LEDGER_FILE), &ledger)?;
    }
    Ok(atomic_file::write(&staged.join(DEFINITION_FILE), text.as_bytes())?)
}

fn publish(home: &Home, staged: &Path, routine: &Routine) -> Result<(), StoreError> {
    let _lock = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
    let directory = routine.slug.directory(home);
    // Also a directory without a readable routine in it is somebody's, and is not written over.
    if directory.symlink_metadata().is_ok() {
        let title = load(home, &routine.slug).map_or_else(|_| "unreadable".to_owned(), |taken| taken.definition.title);
        return Err(StoreError::Taken { slug: routine.slug.clone(), title });
    }
    std::fs::rename(staged, &directory).map_err(|source| FileError::io("make", &directory, source))?;
    Ok(atomic_file::sync_directory(&home.routines())?)
}

pub fn load(home: &Home, slug: &Slug) -> Result<Routine, StoreError> {
    read(home, slug).map(|Read { definition, .. }| Routine { slug: slug.clone(), definition })
}

pub fn load_with_schedule(home: &Home, slug: &Slug) -> Result<(Definition, Option<Schedule>), StoreError> {
    read(home, slug).map(|Read { definition, schedule, .. }| (definition, schedule))
}

/// A definition, the schedule in it, and the text and the file that it was read from.
pub(super) struct Read {
    pub definition: Definition,
    pub schedule: Option<Schedule>,
    pub text: String,
    pub stamp: Stamp,
}

pub(super) fn read(home: &Home, slug: &Slug) -> Result<Read, StoreError> {
    let read = read_definition(&definition_file(home, slug));
    if read.as_ref().is_err_and(FileError::is_not_found) {
        check_exists(home, slug)?;
    }
    Ok(read?)
}

fn read_definition(file: &Path) -> Result<Read, FileError> {
    let (text, stamp) = atomic_file::read_text_with_stamp(file, MAX_RECORD_BYTES)?;
    let mut definition: Definition = toml_text::parse(&text).map_err(|problem| FileError::damaged(file, problem))?;
    definition.date(stamp.modified().into());
    let schedule = definition.checked_schedule().map_err(|problem| FileError::damaged(file, problem))?;
    Ok(Read { definition, schedule, text, stamp })
}

/// Lists the slugs of all routines, readable or not, in order.
pub fn slugs(home: &Home) -> Result<Vec<Slug>, FileError> {
    let mut slugs = Vec::new();
    names::scan(&home.routines(), |name, _| slugs.extend(name.parse::<Slug>()))?;
    slugs.sort_unstable();
    Ok(slugs)
}

/// Lists the directories beside the routines whose names are no slugs, so that nothing reads them, in order; those whose names
/// begin with a dot, such as `.git`, are not meant for routines.
pub fn misnamed(home: &Home) -> Result<Vec<PathBuf>, FileError> {
    let routines = home.routines();
    let fail = |source| FileError::io("list", &routines, source);
    let mut misnamed = Vec::new();
    for found in std::fs::read_dir(&routines).map_err(fail)? {
        let found = found.map_err(fail)?;
        let name = found.file_name();
        let is_named_well = name.to_str().is_some_and(Slug::is_one) || name.as_encoded_bytes().starts_with(b".");
        // A link to a directory is a routine too, where its name is a slug.
        if !is_named_well && found.path().is_dir() {
            misnamed.push(found.path());
        }
    }
    misnamed.sort_unstable();
    Ok(misnamed)
}

pub fn definition_file(home: &Home, slug: &Slug) -> PathBuf {
    slug.directory(home).join(DEFINITION_FILE)
}

/// Moves a routine's directory into the archive with one rename, whole, with whatever a person keeps there, readable or not. Returns
/// where it is now. The caller holds the routines' lock.
pub fn archive(home: &Home, slug: &Slug, now: UnixSeconds) -> Result<PathBuf, StoreError> {
    let directory = slug.directory(home);
    let fail = |action, path: &Path, source| FileError::io(action, path, source);
    let mut archive = home.archived_routines();
    home::make_directory(&archive).map_err(|source| fail("make", &archive, source))?;
    let mut renamed = rename_to_free(&directory, &archive, slug, now);
    if renamed.as_ref().is_err_and(|error| error.kind() == ErrorKind::CrossesDevices) {
        // The folder may be mounted from elsewhere: routines are files that people keep in repositories.
        archive = home.routines().join(".archive");
        home::make_directory(&archive).map_err(|source| fail("make", &archive, source))?;
        renamed = rename_to_free(&directory, &archive, slug, now);
    }
    let archived = renamed.map_err(|source| match source.kind() {
        ErrorKind::NotFound => not_found(home, slug),
        _ => fail("move", &directory, source).into(),
    })?;
    atomic_file::sync_directory(&archive)?;
    atomic_file::sync_directory(&home.routines())?;
    Ok(archived)
}

/// Brings the newest routine of this name back from the archive.
///
/// # Errors
/// There is a routine of this name, or none in the archive.
pub fn unarchive(home: &Home, slug: &Slug) -> Result<PathBuf, StoreError> {
    let _lock = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
    let directory = slug.directory(home);
    if directory.symlink_metadata().is_ok() {
        let title = load(home, slug).map_or_else(|_| "unreadable".to_owned(), |taken| taken.definition.title);
        return Err(StoreError::Taken { slug: slug.clone(), title });
    }
    let archived = newest_archived(home, slug).ok_or_else(|| not_found(home, slug))?;
    std::fs::rename(&archived, &directory).map_err(|source| FileError::io("move", &archived, source))?;
    atomic_file::sync_directory(&home.routines())?;
    Ok(directory)
}

/// Reads what a routine says, or said when it was deleted last; `None` where it cannot be read.
pub fn load_or_archived(home: &Home, slug: &Slug) -> Option<Definition> {
    match load(home, slug) {
        Ok(routine) => Some(routine.definition),
        Err(StoreError::NotFound { .. }) => load_archived(home, slug),
        Err(_) => None,
    }
}

/// Reads what a routine said when it was deleted last.
pub(super) fn load_archived(home: &Home, slug: &Slug) -> Option<Definition> {
    let archived = newest_archived(home, slug)?;
    read_definition(&archived.join(DEFINITION_FILE)).ok().map(|read| read.definition)
}

fn newest_archived(home: &Home, slug: &Slug) -> Option<PathBuf> {
    let at = |file: &std::fs::DirEntry| {
        let name = file.file_name();
        let (name, digits) = name.to_str()?.rsplit_once('-')?;
        if name == slug.to_string() { digits.parse::<u64>().ok() } else { None }
    };
    let archives = [home.archived_routines(), home.routines().join(".archive")];
    let files = archives.iter().filter_map(|archive| std::fs::read_dir(archive).ok()).flatten().filter_map(Result::ok);
    files.filter_map(|file| Some((at(&file)?, file.path()))).max().map(|(_, archived)| archived)
}

/// Moves a directory to `<slug>-<unix time>`, of the first second from `now` on that is free.
fn rename_to_free(directory: &Path, archive: &Path, slug: &Slug, now: UnixSeconds) -> std::io::Result<PathBuf> {
    let mut at = now;
    loop {
        let archived = archive.join(format!("{slug}-{}", at.0));
        // Over an empty directory a rename would go through.
        match archived.symlink_metadata() {
            Ok(_) => at = at.plus_secs(1),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return std::fs::rename(directory, &archived).map(|()| archived);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Checks that there is a routine of that name, readable or not.
pub fn check_exists(home: &Home, slug: &Slug) -> Result<(), StoreError> {
    match slug.directory(home).symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(not_found(home, slug)),
        _ => Ok(()),
    }
}

fn not_found(home: &Home, slug: &Slug) -> StoreError {
    StoreError::NotFound { slug: slug.clone(), closest: closest(home, slug) }
}

fn closest(home: &Home, wanted: &Slug) -> String {
    let mut near: Vec<(f64, Slug)> = slugs(home)
        .unwrap_or_default()
        .into_iter()
        .map(|slug| (strsim::jaro_winkler(wanted.as_str(), slug.as_str()), slug))
        .filter(|(likeness, _)| *likeness > 0.7)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<String> = near.into_iter().take(3).map(|(_, slug)| format!("'{slug}'")).collect();
    if names.is_empty() { String::new() } else { format!(" (did you mean {}?)", names.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixSeconds;

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        (dir, home)
    }

    fn titled(title: &str) -> Definition {
        Definition {
            title: title.into(),
            agent: "claude".into(),
            created_at: UnixSeconds(1),
            updated_at: UnixSeconds(1),
            ..Definition::default()
        }
    }

    fn make(home: &Home, title: &str) -> Result<Routine, StoreError> {
        make_of(home, titled(title))
    }

    fn make_of(home: &Home, definition: Definition) -> Result<Routine, StoreError> {
        let slug = new_slug(None, &definition.title)?;
        create(home, &Config::default(), slug, definition, "do it")
    }

    #[test]
    fn what_is_created_is_read_back() {
        let (_dir, home) = home();
        let made = make(&home, "Morning triage").unwrap();
        assert_eq!(load(&home, &made.slug).unwrap(), made);
        assert_eq!(prompt::read(&home, &made.slug).unwrap(), "do it");
    }

    #[test]
    fn a_schedule_counts_from_its_creation() {
        let (_dir, home) = home();
        let definition = Definition { schedule: Some("@daily".into()), ..titled("Daily") };
        let made = make_of(&home, definition).unwrap();
        let ledger = Ledger::read(&home, &made.slug).unwrap();
        assert!(ledger.follows(&made.definition) && ledger.fired_until == made.definition.created_at);
        let plain = make(&home, "Plain").unwrap();
        assert!(!Ledger::file(&home, &plain.slug).exists());
        let never = Definition { schedule: Some("0 0 30 2 *".into()), ..titled("Never") };
        let error = make_of(&home, never).unwrap_err().to_string();
        assert!(error.contains("`schedule`"), "{error}");
    }

    #[test]
    fn a_slug_is_the_one_that_is_given_else_that_of_the_title() {
        let given: Slug = "mine".parse().unwrap();
        assert_eq!(new_slug(Some(given.clone()), "!!!").unwrap(), given);
        assert_eq!(new_slug(None, "Mon idée").unwrap().as_str(), "mon-idee");
        let error = new_slug(None, "!!!").unwrap_err().to_string();
        assert!(error.contains("`title` is '!!!'") && error.contains("`slug`"), "{error}");
    }

    #[test]
    fn a_taken_slug_names_the_routine_that_has_it_and_changes_nothing() {
        let (_dir, home) = home();
        make(&home, "Morning triage").unwrap();
        let error = make(&home, "morning, TRIAGE!").unwrap_err().to_string();
        assert!(error.contains("'morning-triage'") && error.contains("'Morning triage'"), "{error}");
        assert_eq!(std::fs::read_dir(home.routines()).unwrap().count(), 1, "nothing staged is left");
    }

    #[test]
    fn of_many_creators_of_one_slug_one_wins() {
        let (_dir, home) = home();
        let made = std::thread::scope(|scope| {
            let all: Vec<_> = (0..12).map(|_| scope.spawn(|| make(&home, "Same"))).collect();
            all.into_iter().map(|one| one.join().unwrap()).filter(Result::is_ok).count()
        });
        assert_eq!(made, 1);
    }

    #[test]
    fn an_unknown_routine_names_the_closest() {
        let (_dir, home) = home();
        make(&home, "Morning triage").unwrap();
        let error = load(&home, &"morning-triag".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("'morning-triage'") && error.contains("list_routines"), "{error}");
    }

    #[test]
    fn a_routine_that_a_person_wrote_need_not_say_when() {
        let (_dir, home) = home();
        let slug: Slug = "mine".parse().unwrap();
        std::fs::create_dir(slug.directory(&home)).unwrap();
        std::fs::write(definition_file(&home, &slug), "title = 'Mine'\nagent = 'claude'\n").unwrap();
        let definition = load(&home, &slug).unwrap().definition;
        assert!(definition.created_at > UnixSeconds(1) && definition.updated_at == definition.created_at);
    }

    #[test]
    fn a_directory_whose_name_is_no_slug_is_named_and_hides_nothing() {
        let (_dir, home) = home();
        make(&home, "Good").unwrap();
        for name in ["Not A Slug", "-dash", "日本", ".git"] {
            std::fs::create_dir(home.routines().join(name)).unwrap();
        }
        std::fs::write(home.routines().join("README.md"), "").unwrap();
        std::os::unix::fs::symlink("good", home.routines().join("A Link")).unwrap();
        let names: Vec<_> = misnamed(&home).unwrap().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["-dash", "A Link", "Not A Slug", "日本"]);
        assert_eq!(slugs(&home).unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_routine_hides_no_other() {
        let (_dir, home) = home();
        make(&home, "Good").unwrap();
        for (slug, text) in [("typo", "titel = 'x'"), ("zero", "ttl_secs = 0"), ("binary", "\u{0}")] {
            std::fs::create_dir(home.routines().join(slug)).unwrap();
            std::fs::write(home.routines().join(slug).join("routine.toml"), text).unwrap();
        }
        std::fs::create_dir(home.routines().join("empty")).unwrap();
        let (mut readable, mut damaged) = (0, 0);
        for slug in slugs(&home).unwrap() {
            match load(&home, &slug) {
                Ok(_) => readable += 1,
                Err(error) => damaged += usize::from(matches!(error, StoreError::File(_))),
            }
        }
        assert_eq!((readable, damaged), (1, 4));
        assert!(matches!(load(&home, &"empty".parse().unwrap()), Err(StoreError::File(_))), "unreadable, not gone");
    }
}
