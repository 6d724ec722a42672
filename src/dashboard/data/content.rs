//! What a part of the dashboard shows, as JSON and with what its changes are recognised by.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::home::{stable_hash, stable_hash_on};

/// A part as it is now: its scalars, and its rows.
#[derive(Debug, Clone)]
pub(super) struct Content {
    head: Option<Head>,
    rows: Arc<[Row]>,
    version: u64,
}

#[derive(Debug, Clone)]
struct Head {
    hash: u64,
    json: Arc<RawValue>,
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: Arc<str>,
    pub(super) hash: u64,
    pub(super) json: Arc<RawValue>,
}

impl Row {
    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn of(key: impl Into<Arc<str>>, row: &impl Serialize) -> serde_json::Result<Self> {
        let json = to_raw_value(row)?;
        Ok(Self { key: key.into(), hash: stable_hash(json.get().as_bytes()), json: json.into() })
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Content {
    pub(super) fn of(rows: Vec<Row>) -> Self {
        Self::made_of(None, rows.into())
    }

    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn with_head(self, head: &impl Serialize) -> serde_json::Result<Self> {
        let json = to_raw_value(head)?;
        let head = Head { hash: stable_hash(json.get().as_bytes()), json: json.into() };
        Ok(Self::made_of(Some(head), self.rows))
    }

    fn made_of(head: Option<Head>, rows: Arc<[Row]>) -> Self {
        let begin = stable_hash(&head.as_ref().map_or(0, |head| head.hash).to_le_bytes());
        let version = rows.iter().fold(begin, |hash, row| {
            let keyed = stable_hash_on(hash, row.key.as_bytes());
            stable_hash_on(keyed, &row.hash.to_le_bytes())
        });
        Self { head, rows, version }
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn head(&self) -> Option<&Arc<RawValue>> {
        self.head.as_ref().map(|head| &head.json)
    }

    pub(super) fn head_hash(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.hash)
    }

    /// Returns a hash of all of it, which is the same in every process.
    pub(super) const fn version(&self) -> u64 {
        self.version
    }
}
