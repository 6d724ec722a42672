//! How long a routine's runs may take, and how long what they leave is kept.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::model::Definition;
use super::slug::Slug;
use super::store;
use crate::clock::HumanDuration;
use crate::home::Home;
use crate::home::config::{Config, UnsavedWork};

/// What is in force for a routine's runs right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Retention of a finished run's workbench.
    pub ttl_secs: u64,
    /// The same for a run that did not succeed.
    pub failed_ttl_secs: u64,
    /// How many of the newest finished runs stay whatever their age; succeeded and other ones are counted apart.
    pub keep_last: u64,
    /// Time a run may take, from its trigger.
    pub max_runtime_secs: u64,
    /// Time a run may print nothing; without a bound of the routine's own if absent.
    pub max_silence_secs: Option<u64>,
    /// How long a question waits for an answer.
    pub answer_within_secs: u64,
    /// What becomes of unsaved work.
    pub unsaved_work: UnsavedWork,
    /// Globs of files to archive.
    pub archive_files: Arc<[String]>,
    /// Whether a run of it may have been skipped, whose workbench goes at once.
    pub may_skip: bool,
    /// Whether its routine is gone, so that all of these are the ceilings.
    pub orphaned: bool,
    /// What differs from the routine as written, and why.
    pub note: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    Ttl,
    FailedTtl,
    /// As little as its routine allows: mostly none, so that it goes with the next sweep.
    NextSweep,
}

/// What a routine sets of the limits that have a ceiling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    ttl_secs: Option<u64>,
    failed_ttl_secs: Option<u64>,
    max_runtime_secs: Option<u64>,
}

impl Limits {
    pub fn of(definition: &Definition) -> Self {
        let Definition { ttl_secs, failed_ttl_secs, max_runtime_secs, .. } = *definition;
        Self { ttl_secs, failed_ttl_secs, max_runtime_secs }
    }

    /// Says which of them are above their ceilings, if any are.
    pub fn note(&self, config: &Config) -> Option<String> {
        let definition = Definition {
            ttl_secs: self.ttl_secs,
            failed_ttl_secs: self.failed_ttl_secs,
            max_runtime_secs: self.max_runtime_secs,
            ..Definition::default()
        };
        Bounds::decide(RoutineState::Present(&definition), config).note.map(|note| note.to_string())
    }
}

/// What a routine archives that does not say.
fn default_archive_files() -> Arc<[String]> {
    static FILES: LazyLock<Arc<[String]>> = LazyLock::new(|| Arc::from(["report.md".to_owned()]));
    Arc::clone(&FILES)
}

/// What is known of the routine that a run names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutineState<'a> {
    Present(&'a Definition),
    /// It was deleted, or never was: its runs are orphans.
    Gone,
    /// It is there and cannot be read, which is not the same as gone.
    Unreadable,
}

impl Bounds {
    /// Decides the bounds (rule 6): the routine's own, clamped to the ceilings; the ceilings themselves for orphans and
    /// for a routine that cannot be read.
    pub fn decide(state: RoutineState<'_>, config: &Config) -> Self {
        let (ttl_ceiling, runtime_ceiling) = (config.ttl_ceiling_secs, config.max_runtime_ceiling_secs);
        let at_the_ceilings = |keep_last, note: &str| Self {
            ttl_secs: ttl_ceiling,
            failed_ttl_secs: ttl_ceiling,
            keep_last,
            max_runtime_secs: runtime_ceiling,
            // The agent's own bound might be shorter than what is written there, or was until a moment ago.
            max_silence_secs: Some(runtime_ceiling),
            // Without its routine nothing can go on with the answer.
            answer_within_secs: if state == RoutineState::Gone { 0 } else { ttl_ceiling },
            unsaved_work: match config.unsaved_work {
                // It may say otherwise.
                UnsavedWork::Discard if state == RoutineState::Unreadable => UnsavedWork::Archive,
                unsaved_work => unsaved_work,
            },
            archive_files: default_archive_files(),
            may_skip: false,
            orphaned: state == RoutineState::Gone,
            note: Some(note.into()),
        };
        match state {
            RoutineState::Gone => at_the_ceilings(0, "its routine is gone, so the ceilings apply"),
            RoutineState::Unreadable => {
                at_the_ceilings(config.default_keep_last, "its routine cannot be read, so the ceilings apply")
            }
            RoutineState::Present(definition) => {
                let ttl = definition.ttl_secs.unwrap_or(config.default_ttl_secs);
                let failed_ttl = definition.failed_ttl_secs.or(config.default_failed_ttl_secs);
                let tripled = ttl.min(ttl_ceiling).saturating_mul(3).min(ttl_ceiling);
                let runtime = definition.max_runtime_secs.unwrap_or(config.default_max_runtime_secs);
                let failed_ttl = failed_ttl.unwrap_or(tripled);
                let answer_within = definition.answer_within_secs.unwrap_or(config.default_answer_within_secs);
                let bounded = [
                    ("ttl_secs", ttl, ttl_ceiling),
                    ("failed_ttl_secs", failed_ttl, ttl_ceiling),
                    ("max_runtime_secs", runtime, runtime_ceiling),
                    ("answer_within_secs", answer_within, ttl_ceiling),
                ];
                let clamped = bounded
                    .into_iter()
                    .filter(|(_, value, ceiling)| value > ceiling)
                    .map(|(key, value, ceiling)| {
                        format!("{key} of {value} is above the ceiling and counts as {}", HumanDuration(ceiling))
                    })
                    .collect::<Vec<_>>()
                    .join("; ");
                Self {
                    ttl_secs: ttl.min(ttl_ceiling),
                    failed_ttl_secs: failed_ttl.min(ttl_ceiling),
                    keep_last: definition.keep_last.unwrap_or(config.default_keep_last),
                    max_runtime_secs: runtime.min(runtime_ceiling),
                    max_silence_secs: definition.max_silence_secs.map(|secs| secs.min(runtime_ceiling)),
                    answer_within_secs: answer_within.min(ttl_ceiling),
                    unsaved_work: config.unsaved_work,
                    archive_files: default_archive_files(),
                    may_skip: false,
                    orphaned: false,
                    note: (!clamped.is_empty()).then(|| clamped.into()),
                }
                .with_wishes_of(definition, config)
            }
        }
    }

    pub fn of(home: &Home, config: &Config, slug: &Slug) -> Self {
        let routine = store::load(home, slug);
        let state = match &routine {
            Ok(routine) => RoutineState::Present(&routine.definition),
            Err(store::StoreError::NotFound { .. }) => RoutineState::Gone,
            Err(_) => RoutineState::Unreadable,
        };
        let bounds = Self::decide(state, config);
        // What becomes of work is still for a deleted routine to say.
        match store::load_archived(home, slug).filter(|_| bounds.orphaned) {
            Some(definition) => bounds.with_wishes_of(&definition, config),
            None => bounds,
        }
    }

    fn with_wishes_of(self, definition: &Definition, config: &Config) -> Self {
        let files = definition.archive_files.as_ref();
        Self {
            unsaved_work: definition.unsaved_work.unwrap_or(config.unsaved_work),
            archive_files: files.map_or_else(default_archive_files, |globs| globs.as_slice().into()),
            may_skip: !definition.trusted.precheck.is_empty(),
            ..self
        }
    }

    /// Reads the routine as it is now and decides; `None` while it cannot be read or is gone.
    pub fn of_readable(home: &Home, config: &Config, slug: &Slug) -> Option<Self> {
        let routine = store::load(home, slug).ok()?;
        Some(Self::decide(RoutineState::Present(&routine.definition), config))
    }

    /// Returns how long a run may take that had `at_trigger` when it was triggered: that still holds once its routine is gone.
    pub fn max_runtime_secs_of_run(&self, at_trigger: Option<u64>) -> u64 {
        let orphan = at_trigger.filter(|_| self.orphaned);
        orphan.map_or(self.max_runtime_secs, |secs| secs.min(self.max_runtime_secs))
    }

    /// Returns how long a run may print nothing whose agent had `at_trigger` when it was triggered.
    pub fn max_silence_secs_of_run(&self, at_trigger: Option<u64>) -> Option<u64> {
        self.max_silence_secs.or(at_trigger)
    }

    /// Returns how long the workbench of a finished run is kept.
    pub fn retention_secs(&self, retention: Retention) -> u64 {
        match retention {
            Retention::Ttl => self.ttl_secs,
            Retention::FailedTtl => self.failed_ttl_secs,
            Retention::NextSweep => self.least_retention_secs(),
        }
    }

    /// Returns the retention that every finished run has at least, however it ended: nothing only where the routine may skip runs, for
    /// only there does a sweep read the outcome of a run that its name alone would keep.
    pub fn least_retention_secs(&self) -> u64 {
        if self.may_skip { 0 } else { self.ttl_secs.min(self.failed_ttl_secs) }
    }
}

/// Bounds by routine, each read at most once: for one pass over many runs.
#[derive(Debug)]
pub struct BoundsTable<'a> {
    home: &'a Home,
    config: &'a Config,
    pub(crate) known: HashMap<Slug, Bounds>,
}

impl<'a> BoundsTable<'a> {
    pub fn new(home: &'a Home, config: &'a Config) -> Self {
        Self { home, config, known: HashMap::new() }
    }

    pub fn get(&mut self, slug: &Slug) -> &Bounds {
        self.known.entry(slug.clone()).or_insert_with(|| Bounds::of(self.home, self.config, slug))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rule_6_orphans_and_unreadable_routines_get_the_ceilings() {
        let config = Config::default();
        for state in [RoutineState::Gone, RoutineState::Unreadable] {
            let bounds = Bounds::decide(state, &config);
            assert_eq!((bounds.ttl_secs, bounds.max_runtime_secs), (2_592_000, 86_400));
            assert_eq!(bounds.max_silence_secs, Some(86_400), "not the agent's own, which may be shorter");
            assert_eq!((bounds.failed_ttl_secs, bounds.keep_last), (2_592_000, 0));
            assert!(bounds.note.is_some());
        }
    }

    #[test]
    fn rule_6_a_value_above_the_ceiling_is_clamped_and_reported() {
        let definition = Definition { ttl_secs: Some(9_999_999), ..Definition::default() };
        let bounds = Bounds::decide(RoutineState::Present(&definition), &Config::default());
        assert_eq!((bounds.ttl_secs, bounds.max_runtime_secs), (2_592_000, 3600));
        assert!(bounds.note.unwrap().contains("ttl_secs of 9999999"));
    }

    #[test]
    fn a_failed_run_is_kept_three_times_as_long_by_default() {
        let bounds = |ttl_secs, failed_ttl_secs, config: &Config| {
            let definition = Definition { ttl_secs, failed_ttl_secs, ..Definition::default() };
            let bounds = Bounds::decide(RoutineState::Present(&definition), config);
            (bounds.failed_ttl_secs, bounds.note.is_some())
        };
        let config = Config::default();
        assert_eq!(bounds(Some(10), None, &config), (30, false));
        assert_eq!(bounds(Some(2_000_000), None, &config), (2_592_000, false), "nobody asked for more");
        assert_eq!(bounds(Some(10), Some(5), &config), (5, false));
        assert_eq!(bounds(None, Some(9_999_999), &config), (2_592_000, true));
        let config = Config { default_failed_ttl_secs: Some(7), default_keep_last: 2, ..config };
        assert_eq!(bounds(Some(10), None, &config), (7, false));
        let keeps = |keep_last| {
            let definition = Definition { keep_last, ..Definition::default() };
            Bounds::decide(RoutineState::Present(&definition), &config).keep_last
        };
        assert_eq!((keeps(None), keeps(Some(0))), (2, 0));
    }

    #[test]
    fn a_run_that_may_have_been_skipped_has_no_least_retention() {
        let least = |precheck: &[&str]| {
            let mut definition = Definition { ttl_secs: Some(10), ..Definition::default() };
            definition.trusted.precheck = precheck.iter().map(|word| (*word).to_owned()).collect();
            Bounds::decide(RoutineState::Present(&definition), &Config::default()).least_retention_secs()
        };
        assert_eq!((least(&[]), least(&["true"])), (10, 0));
        let gone = Bounds::decide(RoutineState::Gone, &Config::default());
        assert_eq!(gone.retention_secs(Retention::NextSweep), gone.least_retention_secs());
    }

    proptest! {
        #[test]
        fn no_bound_is_ever_above_its_ceiling(ttl: Option<u64>, failed: Option<u64>, runtime: Option<u64>, a: u64, b: u64, c: u64, d: u64) {
            let config = Config {
                ttl_ceiling_secs: a, max_runtime_ceiling_secs: b, default_ttl_secs: c, default_max_runtime_secs: d,
                ..Config::default()
            };
            let definition = Definition {
                ttl_secs: ttl, failed_ttl_secs: failed, max_runtime_secs: runtime, ..Definition::default()
            };
            let bounds = Bounds::decide(RoutineState::Present(&definition), &config);
            prop_assert!(bounds.ttl_secs <= a && bounds.failed_ttl_secs <= a && bounds.max_runtime_secs <= b);
        }
    }
}
