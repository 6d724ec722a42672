//! The page, as one text: markup, style and script.

/// The page.
pub(crate) const PAGE: &str = include_str!("page/index.html");
