//! Changing a routine: only what differs is rewritten, so a person's comments and order of keys stay.

use std::collections::{HashMap, VecDeque};
use std::io;

use toml_edit::{DocumentMut, Item, TableLike, TomlError};

use super::invalid_field::InvalidField;
use super::model::{Definition, Routine};
use super::prompt;
use super::slug::Slug;
use super::store::{self, ROUTINES_LOCK_TIMEOUT, Read, StoreError};
use super::trusted_text;
use crate::clock::UnixSeconds;
use crate::home::Home;
use crate::home::atomic_file::{self, FileError};
use crate::home::config::Config;
use crate::home::lock::{FileLock, Mode};
use crate::home::toml_text;

/// Changes a routine's definition, and its prompt if one is given. Writes nothing if nothing differs.
pub fn update(
    home: &Home,
    config: &Config,
    slug: &Slug,
    prompt: Option<&str>,
    change: impl FnOnce(&mut Definition) -> Result<(), InvalidField>,
) -> Result<Routine, StoreError> {
    prompt.map_or(Ok(()), prompt::check)?;
    let _lock = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
    edit(home, slug, prompt, |definition| {
        let before = definition.clone();
        change(definition)?;
        definition.check_new_schedule(&before, UnixSeconds::now())?;
        definition.check(config)
    })
}

/// Switches a routine on or off for a person, whatever ceilings its other values break by now.
pub fn switch(home: &Home, slug: &Slug, enabled: bool) -> Result<(), StoreError> {
    let _lock = FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT)?;
    set_enabled(home, slug, enabled).map(drop)
}

/// Both files of a routine, as texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    pub definition: String,
    pub prompt: String,
}

/// Texts that a person wrote were not saved.
#[derive(Debug, thiserror::Error)]
pub enum NotSaved {
    /// They say nothing that a routine could be.
    #[error("{0}")]
    Wrong(String),
    #[error("the routine '{0}' was changed meanwhile")]
    Changed(Slug),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NotSaved {
    /// Whether another look at the texts helps.
    pub fn is_in_the_text(&self) -> bool {
        matches!(self, Self::Wrong(_))
    }
}

/// Reads both files of a routine, whatever they say.
///
/// # Errors
/// There is no such routine, or a file cannot be read.
pub fn read_texts(home: &Home, slug: &Slug) -> Result<Texts, StoreError> {
    store::check_exists(home, slug)?;
    let definition = atomic_file::read_text(&store::definition_file(home, slug))?;
    let prompt = atomic_file::if_present(prompt::read(home, slug))?.unwrap_or_default();
    Ok(Texts { definition, prompt })
}

/// Saves both files of a routine as a person wrote them, if they are still as they were `read`, and the writer is allowed
/// what that changes: `allows` gets the definition as it was, if it could be read, the new one, and whether the prompt is another.
///
/// # Errors
/// They say nothing that a routine could be, or the files were changed meanwhile, or cannot be written.
pub fn save_texts(
    home: &Home,
    config: &Config,
    slug: &Slug,
    read: &Texts,
    written: &Texts,
    allows: impl Fn(Option<&Definition>, &Definition, bool) -> Result<(), InvalidField>,
) -> Result<(), NotSaved> {
    let definition: Definition =
        toml_text::parse(&written.definition).map_err(|error| NotSaved::Wrong(format!("routine.toml: {error}")))?;
    // What was there may be past by now, or not a routine.
    let before: Option<Definition> = toml_text::parse(&read.definition).ok();
    let allowed = allows(before.as_ref(), &definition, written.prompt != read.prompt);
    definition
        .check(config)
        .and_then(|()| definition.check_new_run_at(&before.unwrap_or_default(), UnixSeconds::now()))
        .and(allowed)
        .map_err(|error| NotSaved::Wrong(format!("routine.toml: {error}")))?;
    prompt::check(&written.prompt).map_err(|error| NotSaved::Wrong(format!("prompt.md: {error}")))?;
    let _lock =
        FileLock::acquire(&home.routines_lock(), Mode::Exclusive, ROUTINES_LOCK_TIMEOUT).map_err(StoreError::from)?;
    if read_texts(home, slug)? != *read {
        return Err(NotSaved::Changed(slug.clone()));
    }
    let files =
        [(prompt::file(home, slug), &written.prompt), (store::definition_file(home, slug), &written.definition)];
    for (file, text) in files {
        atomic_file::write(&file, text.as_bytes()).map_err(StoreError::from)?;
    }
    Ok(())
}

/// Switches a routine on or off, whatever ceilings its other values break by now. The caller holds the routines' lock.
pub fn set_enabled(home: &Home, slug: &Slug, enabled: bool) -> Result<Routine, StoreError> {
    edit(home, slug, None, |definition| {
        definition.enabled = enabled;
        Ok(())
    })
}

/// The caller holds the routines' lock.
fn edit(
    home: &Home,
    slug: &Slug,
    prompt: Option<&str>,
    change: impl FnOnce(&mut Definition) -> Result<(), InvalidField>,
) -> Result<Routine, StoreError> {
    let Read { definition: before, text: read, .. } = store::read(home, slug)?;
    let mut after = before.clone();
    change(&mut after)?;
    let prompt = prompt.filter(|prompt| prompt::read(home, slug).ok().as_deref() != Some(*prompt));
    if after == before && prompt.is_none() {
        return Ok(Routine { slug: slug.clone(), definition: after });
    }
    after.updated_at = UnixSeconds::now();
    let file = store::definition_file(home, slug);
    let text = rewritten(&read, &before, &after).map_err(|problem| FileError::damaged(&file, problem))?;
    // Two files are two writes. Each is whole at any time and valid beside either version of the other; the time of the
    // change goes last, so what a crash has cut in two does not look done, and the same call again completes it.
    // A person's editor knows nothing of the lock.
    let still = || atomic_file::read_text(&file).is_ok_and(|now| now == read);
    let changed = || FileError::io("write", &file, io::Error::other("it was changed meanwhile; try again"));
    let prompt_file = prompt::file(home, slug);
    let old_prompt = prompt.and_then(|_| atomic_file::read_text(&prompt_file).ok());
    if let Some(prompt) = prompt {
        if !still() {
            return Err(changed().into());
        }
        atomic_file::write(&prompt_file, prompt.as_bytes())?;
    }
    if !atomic_file::write_if(&file, text.as_bytes(), 0o600, still)? {
        // What the person changed may have been whom they trust with what is asked.
        if let (Some(old), Some(prompt)) = (old_prompt, prompt) {
            let is_ours = || atomic_file::read_text(&prompt_file).is_ok_and(|now| now == prompt);
            atomic_file::write_if(&prompt_file, old.as_bytes(), 0o600, is_ours)?;
        }
        return Err(changed().into());
    }
    Ok(Routine { slug: slug.clone(), definition: after })
}

/// Returns what a person wrote, with their comments, changed so that it means `definition`; `None` if that cannot be done.
pub fn text_meaning(written: &str, definition: &Definition) -> Option<String> {
    let before = toml_text::parse(written).ok()?;
    rewritten(written, &before, definition).ok()
}

/// Returns `text`, which means `before`, changed so that it means `after`.
fn rewritten(text: &str, before: &Definition, after: &Definition) -> Result<String, String> {
    let document = |definition: &Definition| -> Result<DocumentMut, String> {
        let text = toml::to_string(definition).map_err(|error| error.to_string())?;
        text.parse().map_err(|error: TomlError| error.to_string())
    };
    let (before, wanted) = (document(before)?, document(after)?);
    let without = trusted_text::take_out(text, &[&wanted.to_string()]).map_err(|error| error.to_string())?;
    let mut target: DocumentMut = without.text.parse().map_err(|error: TomlError| error.to_string())?;
    carry_over(target.as_table_mut(), before.as_table(), wanted.as_table());
    let text = without.put_back(&with_line_ends_of(&without.text, &target.to_string()));
    let said = text.as_deref().and_then(|text| toml::from_str::<Definition>(text).ok()).map(|mut said| {
        said.date(after.created_at);
        said
    });
    text.filter(|_| said.as_ref() == Some(after))
        .ok_or_else(|| "it is written in a way that only a person can change".to_owned())
}

/// Ends each line as the same line of the old text ended, and new ones as most of the old ones did. The parser forgets it.
fn with_line_ends_of(old: &str, new: &str) -> String {
    let ends = |text: &str| text.matches("\r\n").count();
    if ends(old) == 0 {
        return new.to_owned();
    }
    let usual = if ends(old) * 2 >= old.matches('\n').count() { "\r\n" } else { "\n" };
    let mut known: HashMap<&str, VecDeque<&str>> = HashMap::new();
    for line in old.split_inclusive('\n') {
        let content = line.trim_end_matches(['\r', '\n']);
        known.entry(content).or_default().push_back(&line[content.len()..]);
    }
    let mut text = String::with_capacity(new.len());
    for line in new.split_inclusive('\n') {
        let content = line.trim_end_matches(['\r', '\n']);
        let end = known.get_mut(content).and_then(VecDeque::pop_front).filter(|end| !end.is_empty());
        text.push_str(content);
        if content.len() < line.len() {
            text.push_str(end.unwrap_or(usual));
        }
    }
    text
}

/// Makes in `target` the changes that lead from `before` to `after`.
fn carry_over(target: &mut dyn TableLike, before: &dyn TableLike, after: &dyn TableLike) {
    for (key, _) in before.iter().filter(|(key, _)| !after.contains_key(key)) {
        remove(target, key);
    }
    for (key, wanted) in after.iter() {
        let was = before.get(key);
        if was.is_some_and(|was| as_line(was) == as_line(wanted)) {
            continue;
        }
        match target.get_mut(key) {
            None => {
                target.insert(key, unplaced(wanted.clone()));
            }
            Some(there) => match (there.as_table_like_mut(), was.and_then(Item::as_table_like), wanted.as_table_like())
            {
                (Some(there), Some(was), Some(wanted)) => carry_over(there, was, wanted),
                _ => replace(there, wanted.clone()),
            },
        }
    }
}

/// Puts another item in an item's place, in the form that it had and with the comments around it.
fn replace(there: &mut Item, wanted: Item) {
    let mut wanted = unplaced(wanted);
    if let Item::Value(value) = there {
        wanted.make_value();
        if let Item::Value(wanted) = &mut wanted {
            *wanted.decor_mut() = value.decor().clone();
        }
    } else if let Item::ArrayOfTables(tables) = there
        && let Item::ArrayOfTables(wanted) = &mut wanted
        && let (Some(table), Some(wanted)) = (tables.get(0), wanted.get_mut(0))
    {
        *wanted.decor_mut() = table.decor().clone();
    }
    *there = wanted;
}

/// Takes from tables the place that they had in another document: they come last then.
fn unplaced(mut item: Item) -> Item {
    match &mut item {
        Item::Table(table) => table.set_position(None),
        Item::ArrayOfTables(tables) => tables.iter_mut().for_each(|table| table.set_position(None)),
        Item::None | Item::Value(_) => {}
    }
    item
}

/// Returns an item as one line, for comparisons.
fn as_line(item: &Item) -> Option<String> {
    item.clone().into_value().ok().map(|value| value.to_string())
}

/// Removes a key with the comment right above it; what stands before an empty line above that stays.
fn remove(target: &mut dyn TableLike, key: &str) {
    let above = target.key(key).and_then(|key| key.leaf_decor().prefix()?.as_str()).unwrap_or_default();
    let header = above.rfind("\n\n").map(|end| above[..end + 2].to_owned());
    let next = target.iter().skip_while(|(name, _)| *name != key).nth(1).map(|(name, _)| name.to_owned());
    target.remove(key);
    if let (Some(header), Some(next)) = (header, next)
        && let Some(mut next) = target.key_mut(&next)
    {
        let own = next.leaf_decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
        next.leaf_decor_mut().set_prefix(header + &own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routine::check::parse_env;
    use crate::routine::model::{Overlap, Retry};
    use crate::routine::repository::Repository;
    use crate::routine::schedule::CronExpressions;
    use proptest::prelude::*;

    const WRITTEN: &str = r#"# Mine.

# Why it is short.
ttl_secs = 60 # a minute

agent = "claude"
title = 'Triage'   # the team's word
tags = [
    "a", # first
]
created_at = "2026-01-01T00:00:00Z"
updated_at = "2026-01-01T00:00:00Z"
env = { A = "1" }

# The clones.
[[repositories]]
# Over there.
url = "https://example.com/a.git"

[retry]
max_attempts = 3 # enough
backoff_secs = 5
"#;

    fn changed(change: impl FnOnce(&mut Definition)) -> String {
        let before: Definition = toml::from_str(WRITTEN).unwrap();
        let mut after = before.clone();
        change(&mut after);
        rewritten(WRITTEN, &before, &after).unwrap()
    }

    #[test]
    fn what_a_person_saves_meanwhile_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        let slug: Slug = "mine".parse().unwrap();
        let file = store::definition_file(&home, &slug);
        std::fs::create_dir(slug.directory(&home)).unwrap();
        std::fs::write(&file, WRITTEN).unwrap();
        let theirs = WRITTEN.replace("Triage", "Theirs");
        let error = edit(&home, &slug, None, |definition| {
            std::fs::write(&file, &theirs).unwrap();
            definition.ttl_secs = Some(7);
            Ok(())
        });
        assert!(error.unwrap_err().to_string().contains("changed meanwhile"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), theirs);
        assert!(set_enabled(&home, &slug, false).is_ok());
        assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn only_the_value_that_changed_is_another() {
        let text = changed(|definition| definition.title = "New".into());
        assert_eq!(text, WRITTEN.replace("'Triage'", "\"New\""));
        let text = changed(|definition| definition.retry = Some(Retry { max_attempts: 4, backoff_secs: 5 }));
        assert_eq!(text, WRITTEN.replace("= 3", "= 4"));
        let text = changed(|definition| definition.env = parse_env([("A".into(), "2".into())].into()).unwrap());
        assert_eq!(text, WRITTEN.replace("\"1\"", "\"2\""));
        let url = "ssh://git@example.com/b".to_owned();
        let text = changed(|definition| {
            definition.repositories = vec![Repository { url: url.clone(), branch: None, directory: None }];
        });
        assert_eq!(text, WRITTEN.replace("# Over there.\n", "").replace("https://example.com/a.git", &url));
    }

    #[test]
    fn a_value_that_goes_takes_its_own_comment_along_and_no_other() {
        let text = changed(|definition| definition.ttl_secs = None);
        assert_eq!(text, WRITTEN.replace("# Why it is short.\nttl_secs = 60 # a minute\n", ""));
        let text = changed(|definition| definition.retry = None);
        assert_eq!(text, WRITTEN.split("\n[retry]").next().unwrap());
    }

    #[test]
    fn a_value_that_comes_is_put_before_the_tables() {
        let text = changed(|definition| {
            definition.overlap = Overlap::Queue;
            definition.keep_last = Some(3);
        });
        assert!(text.contains("\nkeep_last = 3\noverlap = \"queue\"\n\n# The clones."), "{text}");
    }

    #[test]
    fn a_file_without_times_gets_that_of_its_change_alone() {
        let written = "title = 'T'\nagent = 'a'\n[env]\nA = '1'\n";
        let mut before: Definition = toml::from_str(written).unwrap();
        before.date(UnixSeconds(5));
        let after = Definition { title: "U".into(), updated_at: UnixSeconds(9), ..before.clone() };
        let text = rewritten(written, &before, &after).unwrap();
        assert_eq!(text, "title = \"U\"\nagent = 'a'\nupdated_at = \"1970-01-01T00:00:09Z\"\n[env]\nA = '1'\n");
    }

    #[test]
    fn dotted_keys_stay_dotted() {
        let written = "title = 'T'\nagent = 'a'\nenv.A = '1'\ncreated_at = \"2026-01-01T00:00:00Z\"\nupdated_at = \
                       \"2026-01-01T00:00:00Z\"\n";
        let before: Definition = toml::from_str(written).unwrap();
        let env = parse_env([("A".into(), "2".into()), ("B".into(), "3".into())].into()).unwrap();
        let text = rewritten(written, &before, &Definition { env, ..before.clone() }).unwrap();
        assert!(text.contains("env.A = \"2\"\n") && text.contains("env.B = \"3\"\n"), "{text}");
    }

    fn definitions() -> impl Strategy<Value = Definition> {
        let text = "[a-z #\"'\\\\=\\[]{1,6}";
        let repository =
            (text, proptest::option::of(text)).prop_map(|(url, branch)| Repository { url, branch, directory: None });
        (
            (text, proptest::option::of(0..9u64), proptest::bool::ANY, proptest::collection::vec(text, 0..3)),
            proptest::option::of((2..9u32, 0..9u64)),
            proptest::collection::btree_map("[A-C]", text, 0..3),
            proptest::collection::vec(repository, 0..3),
            proptest::option::of(prop_oneof![
                text.prop_map(CronExpressions::One),
                proptest::collection::vec(text, 0..3).prop_map(CronExpressions::Several),
            ]),
        )
            .prop_map(|((title, ttl_secs, queue, tags), retry, env, repositories, schedule)| Definition {
                title,
                ttl_secs,
                overlap: if queue { Overlap::Queue } else { Overlap::Skip },
                tags,
                retry: retry.map(|(max_attempts, backoff_secs)| Retry { max_attempts, backoff_secs }),
                env: parse_env(env).unwrap(),
                repositories,
                schedule,
                ..Definition::default()
            })
    }

    proptest! {
        #[test]
        fn any_definition_can_become_any_other(before in definitions(), after in definitions(), pretty: bool) {
            let written = if pretty { toml::to_string_pretty(&before) } else { toml::to_string(&before) }.unwrap();
            let text = rewritten(&written, &before, &after);
            prop_assert_eq!(toml::from_str::<Definition>(&text.unwrap()).unwrap(), after);
        }

        #[test]
        fn comments_outlive_any_change_that_keeps_their_value(after in definitions()) {
            let text = changed(|definition| *definition = Definition { ttl_secs: Some(7), ..after.clone() });
            for comment in ["# Mine.", "# Why it is short.", "# a minute", "# the team's word"] {
                prop_assert!(text.contains(comment), "{}", text);
            }
        }
    }
}
