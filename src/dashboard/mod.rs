//! The dashboard: one page, and the data that it draws. A browser gets both over HTTP, a host's panel as a resource and a tool.

pub(crate) mod data;
pub(crate) mod page;
