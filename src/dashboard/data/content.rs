//! What a part of the dashboard shows, as JSON and with what its changes are recognised by.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::home::{stable_hash, stable_hash_on};

/// A part as it is now: its scalars, and its rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    head: Option<Head>,
    rows: Vec<Row>,
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

impl Content {
    pub(super) fn of(rows: Vec<Row>) -> Self {
        Self { head: None, rows }
    }

    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn with_head(self, head: &impl Serialize) -> serde_json::Result<Self> {
        let json = to_raw_value(head)?;
        Ok(Self { head: Some(Head { hash: stable_hash(json.get().as_bytes()), json: json.into() }), ..self })
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
    pub(super) fn version(&self) -> u64 {
        let begin = stable_hash(&self.head_hash().to_le_bytes());
        self.rows.iter().fold(begin, |hash, row| {
            let keyed = stable_hash_on(hash, row.key.as_bytes());
            stable_hash_on(keyed, &row.hash.to_le_bytes())
        })
    }
}
