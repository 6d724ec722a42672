//! What a caller that has an earlier version of a part lacks of it.
//!
//! A version is a hash of the content. A process remembers what the last few it answered with were made of; a caller with any
//! other version gets the whole part.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::content::{Content, Row};

/// How many versions of a part are remembered: about as many as callers ask in turn while it changes.
const REMEMBERED: usize = 8;

/// The last versions of a part, the newest last.
#[derive(Debug, Default)]
pub(super) struct Versions(VecDeque<Version>);

/// A version, without the rows themselves.
#[derive(Debug)]
struct Version {
    version: u64,
    head: u64,
    /// The key and the hash of each row, by key.
    rows: Vec<(Arc<str>, u64)>,
}

/// A part, or what has changed in it.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PartAnswer {
    version: String,
    /// Whether all of it is here; otherwise what has changed since the known version.
    whole: bool,
    head: Option<Arc<RawValue>>,
    rows: Vec<Arc<RawValue>>,
    /// The keys of rows that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<Arc<str>>,
}

impl Versions {
    /// Returns what changed in `content` since the version `known`; `None` if nothing did.
    pub(super) fn answer(&mut self, content: &Content, known: Option<&str>) -> Option<PartAnswer> {
        let number = content.version();
        let version = in_words(number);
        self.remember(number, content);
        if known == Some(version.as_str()) {
            return None;
        }
        let before = self.0.iter().find(|before| known.is_some_and(|known| known == in_words(before.version)));
        Some(match before {
            Some(before) => before.changes_to(content, version),
            None => {
                let rows = content.rows().iter().map(|row| Arc::clone(&row.json)).collect();
                PartAnswer { version, whole: true, head: content.head().cloned(), rows, gone: Vec::new() }
            }
        })
    }

    fn remember(&mut self, version: u64, content: &Content) {
        if self.0.back().is_some_and(|newest| newest.version == version) {
            return;
        }
        self.0.retain(|before| before.version != version);
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        let mut rows: Vec<_> = content.rows().iter().map(|row| (Arc::clone(&row.key), row.hash)).collect();
        rows.sort_unstable();
        self.0.push_back(Version { version, head: content.head_hash(), rows });
    }
}

impl Version {
    fn changes_to(&self, content: &Content, version: String) -> PartAnswer {
        let hash_of = |key: &str| {
            let place = self.rows.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
            self.rows.get(place).map(|(_, hash)| *hash)
        };
        let is_changed = |row: &&Row| hash_of(&row.key) != Some(row.hash);
        let changed = content.rows().iter().filter(is_changed).map(|row| Arc::clone(&row.json)).collect();
        let mut keys: Vec<&str> = content.rows().iter().map(|row| &*row.key).collect();
        keys.sort_unstable();
        let gone = self.rows.iter().map(|(key, _)| key).filter(|key| keys.binary_search(&&***key).is_err());
        PartAnswer {
            version,
            whole: false,
            head: content.head().filter(|_| content.head_hash() != self.head).cloned(),
            rows: changed,
            gone: gone.cloned().collect(),
        }
    }
}

fn in_words(version: u64) -> String {
    format!("{version:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    type Rows = BTreeMap<u8, u8>;

    fn content(head: u8, rows: &Rows) -> Content {
        let rows = rows.iter().map(|(key, value)| Row::of(key.to_string(), &json!({ "key": key, "value": value })));
        Content::of(rows.collect::<Result<_, _>>().unwrap()).with_head(&json!({ "head": head })).unwrap()
    }

    /// A page: what it has of the part.
    #[derive(Default, Clone)]
    struct Page {
        version: Option<String>,
        head: Value,
        rows: BTreeMap<String, Value>,
    }

    impl Page {
        fn apply(&mut self, answer: Option<PartAnswer>) {
            let Some(answer) = answer else { return };
            let answer = serde_json::to_value(answer).unwrap();
            if answer["whole"] == true {
                self.rows.clear();
            }
            for gone in answer["gone"].as_array().into_iter().flatten() {
                self.rows.remove(gone.as_str().unwrap()).expect("it had that row");
            }
            for row in answer["rows"].as_array().unwrap() {
                self.rows.insert(row["key"].to_string(), row.clone());
            }
            if let Some(head) = answer.get("head") {
                self.head = head.clone();
            }
            self.version = answer["version"].as_str().map(str::to_owned);
        }
    }

    fn whole(content: &Content) -> Page {
        let mut page = Page::default();
        page.apply(Versions::default().answer(content, None));
        page
    }

    #[test]
    fn only_what_changed_is_answered_and_nothing_if_nothing_did() {
        let mut versions = Versions::default();
        let first = content(0, &Rows::from([(1, 1), (2, 2), (3, 3)]));
        let all = versions.answer(&first, None).unwrap();
        assert!(all.whole && all.rows.len() == 3 && all.head.is_some());
        assert!(versions.answer(&first, Some(&all.version)).is_none());
        let second = content(0, &Rows::from([(1, 1), (2, 9), (4, 4)]));
        let changes = versions.answer(&second, Some(&all.version)).unwrap();
        assert_eq!((changes.whole, changes.rows.len(), changes.head.is_some()), (false, 2, false));
        assert_eq!(changes.gone.iter().map(|key| &**key).collect::<Vec<_>>(), ["3"]);
        assert!(versions.answer(&second, Some("0123456789abcdef")).unwrap().whole, "nobody answered with that");
    }

    #[test]
    fn a_version_is_the_same_in_every_process_and_memory_is_bounded() {
        let mut versions = Versions::default();
        let first = versions.answer(&content(0, &Rows::new()), None).unwrap().version;
        assert_eq!(first, Versions::default().answer(&content(0, &Rows::new()), None).unwrap().version);
        for value in 1..100 {
            versions.answer(&content(value, &Rows::new()), None);
            assert!(versions.0.len() <= REMEMBERED);
        }
        assert!(versions.answer(&content(0, &Rows::from([(1, 1)])), Some(&first)).unwrap().whole, "it is forgotten");
    }

    proptest! {
        /// Several pages poll in any order, some with versions that are forgotten or were never answered.
        #[test]
        fn whatever_a_page_knew_it_has_the_same_rows_as_a_new_one(
            steps in prop::collection::vec(
                (0..3_u8, prop::collection::btree_map(0..6_u8, 0..3_u8, 0..6), 0..3_usize, 0..6_u8), 1..60
            )
        ) {
            let mut versions = Versions::default();
            let mut pages = vec![Page::default(); 3];
            for (head, rows, page, knows) in steps {
                let content = content(head, &rows);
                let page = &mut pages[page];
                let known = match knows {
                    0 => None,
                    1 => Some("ffffffffffffffff".to_owned()),
                    _ => page.version.clone(),
                };
                page.apply(versions.answer(&content, known.as_deref()));
                let expected = whole(&content);
                prop_assert_eq!(&page.rows, &expected.rows);
                prop_assert_eq!(&page.head, &expected.head);
                prop_assert_eq!(&page.version, &expected.version);
            }
        }
    }
}
