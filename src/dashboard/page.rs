//! The page: one file, which draws the data by itself.

/// The whole page.
pub(crate) const PAGE: &str = include_str!("page/index.html");
