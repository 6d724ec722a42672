//! The tools, one file a family.

mod health;

use super::Core;
use super::tool::Tool;

/// Returns every tool.
#[must_use]
pub fn all() -> Vec<Tool<Core>> {
    vec![health::tool()]
}
