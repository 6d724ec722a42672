//! The tool calls that were announced last: events of their ends may name their id alone.

use std::collections::VecDeque;

/// More calls than these do not run at once.
const MAX_CALLS: usize = 64;
/// Ids of all agents are shorter; a longer one is not remembered.
const MAX_ID_BYTES: usize = 128;
const MAX_NAME_BYTES: usize = 256;

#[derive(Default)]
pub(super) struct Calls {
    recent: VecDeque<(String, String)>,
}

impl Calls {
    pub(super) fn announce(&mut self, id: &str, tool: &str) {
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return;
        }
        if self.recent.len() == MAX_CALLS {
            self.recent.pop_front();
        }
        self.recent.push_back((id.to_owned(), tool[..tool.floor_char_boundary(MAX_NAME_BYTES)].to_owned()));
    }

    /// Returns the tool of a call that was announced, once.
    pub(super) fn take(&mut self, id: &str) -> Option<String> {
        let at = self.recent.iter().position(|(known, _)| known == id)?;
        self.recent.remove(at).map(|(_, tool)| tool)
    }
}
