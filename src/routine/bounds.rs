//! How long a routine's runs may take, and how long what they leave is kept.

use std::collections::HashMap;

use super::slug::Slug;
use super::store;
use crate::home::Home;
use crate::home::config::Config;

/// What is in force for a routine's runs right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Retention of a finished run's workbench.
    pub ttl_secs: u64,
    /// Time a run may take, from its trigger.
    pub max_runtime_secs: u64,
    /// Time a run may print nothing; without a bound of the routine's own if absent.
    pub max_silence_secs: Option<u64>,
    /// What differs from the routine as written, and why.
    pub note: Option<String>,
}

/// What is known of the routine that a run names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutineState {
    /// It is there, with what it sets for itself.
    Present {
        /// Its own retention.
        ttl_secs: Option<u64>,
        /// Its own time.
        max_runtime_secs: Option<u64>,
        /// Its own bound on silence.
        max_silence_secs: Option<u64>,
    },
    /// It was deleted, or never was: its runs are orphans.
    Gone,
    /// It is there and cannot be read, which is not the same as gone.
    Unreadable,
}

impl Bounds {
    /// Decides the bounds (rule 6): the routine's own, clamped to the ceilings; the ceilings themselves for orphans and
    /// for a routine that cannot be read.
    #[must_use]
    pub fn decide(state: RoutineState, config: &Config) -> Self {
        let (ttl_ceiling, runtime_ceiling) = (config.ttl_ceiling_secs, config.max_runtime_ceiling_secs);
        let at_the_ceilings = |note: &str, max_silence_secs| Self {
            ttl_secs: ttl_ceiling,
            max_runtime_secs: runtime_ceiling,
            max_silence_secs,
            note: Some(note.to_owned()),
        };
        match state {
            RoutineState::Gone => at_the_ceilings("its routine is gone, so the ceilings apply", None),
            // The agent's own bound might be shorter than what is written there.
            RoutineState::Unreadable => {
                at_the_ceilings("its routine cannot be read, so the ceilings apply", Some(runtime_ceiling))
            }
            RoutineState::Present { ttl_secs, max_runtime_secs, max_silence_secs } => {
                let ttl = ttl_secs.unwrap_or(config.default_ttl_secs);
                let runtime = max_runtime_secs.unwrap_or(config.default_max_runtime_secs);
                let clamped = [("ttl_secs", ttl, ttl_ceiling), ("max_runtime_secs", runtime, runtime_ceiling)]
                    .into_iter()
                    .filter(|(_, value, ceiling)| value > ceiling)
                    .map(|(key, value, ceiling)| {
                        format!("{key} of {value} is above the ceiling and counts as {ceiling}")
                    })
                    .collect::<Vec<_>>()
                    .join("; ");
                Self {
                    ttl_secs: ttl.min(ttl_ceiling),
                    max_runtime_secs: runtime.min(runtime_ceiling),
                    max_silence_secs: max_silence_secs.map(|secs| secs.min(runtime_ceiling)),
                    note: (!clamped.is_empty()).then_some(clamped),
                }
            }
        }
    }

    /// Reads the routine as it is now and decides.
    #[must_use]
    pub fn of(home: &Home, config: &Config, slug: &Slug) -> Self {
        let state = match store::load(home, slug) {
            Ok(routine) => RoutineState::Present {
                ttl_secs: routine.definition.ttl_secs,
                max_runtime_secs: routine.definition.max_runtime_secs,
                max_silence_secs: routine.definition.max_silence_secs,
            },
            Err(store::StoreError::NotFound { .. }) => RoutineState::Gone,
            Err(_) => RoutineState::Unreadable,
        };
        Self::decide(state, config)
    }
}

/// Bounds by routine, each read at most once: for one pass over many runs.
#[derive(Debug)]
pub struct BoundsTable<'a> {
    home: &'a Home,
    config: &'a Config,
    known: HashMap<Slug, Bounds>,
}

impl<'a> BoundsTable<'a> {
    /// Starts with nothing read.
    #[must_use]
    pub fn new(home: &'a Home, config: &'a Config) -> Self {
        Self { home, config, known: HashMap::new() }
    }

    /// Returns what was read so far.
    #[must_use]
    pub fn known(&self) -> &HashMap<Slug, Bounds> {
        &self.known
    }

    /// Returns the bounds of a routine's runs.
    pub fn get(&mut self, slug: &Slug) -> &Bounds {
        if !self.known.contains_key(slug) {
            self.known.insert(slug.clone(), Bounds::of(self.home, self.config, slug));
        }
        &self.known[slug]
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
            assert!(bounds.note.is_some());
        }
    }

    #[test]
    fn rule_6_a_value_above_the_ceiling_is_clamped_and_reported() {
        let state = RoutineState::Present { ttl_secs: Some(9_999_999), max_runtime_secs: None, max_silence_secs: None };
        let bounds = Bounds::decide(state, &Config::default());
        assert_eq!((bounds.ttl_secs, bounds.max_runtime_secs), (2_592_000, 3600));
        assert!(bounds.note.unwrap().contains("ttl_secs of 9999999"));
    }

    proptest! {
        #[test]
        fn no_bound_is_ever_above_its_ceiling(ttl: Option<u64>, runtime: Option<u64>, a: u64, b: u64, c: u64, d: u64) {
            let config = Config {
                ttl_ceiling_secs: a, max_runtime_ceiling_secs: b, default_ttl_secs: c, default_max_runtime_secs: d,
                ..Config::default()
            };
            let state =
                RoutineState::Present { ttl_secs: ttl, max_runtime_secs: runtime, max_silence_secs: None };
            let bounds = Bounds::decide(state, &config);
            prop_assert!(bounds.ttl_secs <= a && bounds.max_runtime_secs <= b);
        }
    }
}
