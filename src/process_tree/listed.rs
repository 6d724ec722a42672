//! What one look shows of a process.

use std::ffi::OsStr;

use super::{Cookie, Process};

#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) process: Process,
    pub(super) parent: Option<i32>,
    pub(super) mark: Mark,
    /// Whether it runs as our own effective user; others are never signalled.
    pub(super) ours: bool,
}

/// What its environment says about the run that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Cookie(Cookie),
    Missing,
    Hidden,
    /// It is in the middle of exec(2), and its new environment cannot be seen yet.
    Unsettled,
}

impl Mark {
    pub(super) fn in_environment<'a>(entries: impl IntoIterator<Item = &'a OsStr>) -> Self {
        Cookie::in_environment(entries).map_or(Self::Missing, Self::Cookie)
    }

    pub(super) fn cookie(self) -> Option<Cookie> {
        match self {
            Self::Cookie(cookie) => Some(cookie),
            Self::Missing | Self::Hidden | Self::Unsettled => None,
        }
    }

    /// Takes the mark of an earlier look where this one shows none: a cookie is not lost in the moment of an exec.
    pub(super) fn or_before(self, before: Self) -> Self {
        match before {
            Self::Cookie(_) if self.cookie().is_none() => before,
            _ => self,
        }
    }
}
