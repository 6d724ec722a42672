//! How to add this program to an agent host's configuration.

use std::path::Path;

use serde_json::json;

use super::screen::Screen;
use crate::quote::shell_word;

pub(super) fn show(screen: &mut Screen, program: &Path) -> anyhow::Result<()> {
    let path = program.display().to_string();
    let word = shell_word(&path);
    screen.heading(&format!(
        "\nTo use it, add it to your agent host. This lists the hosts found here:\n\n  {word} setup\n\nOr add it by hand.\n"
    ))?;
    screen.heading("Claude Code, Codex:")?;
    screen.verbatim(&format!("claude mcp add --scope user moadim -- {word}\ncodex mcp add moadim -- {word}"))?;
    screen.heading("\nClaude Desktop, Cursor and others, in their configuration file:")?;
    let server = format!(r#""moadim": {{ "command": {}, "args": [], "env": {{}} }}"#, json!(path));
    screen.verbatim(&format!("{{\n  \"mcpServers\": {{\n    {server}\n  }}\n}}"))?;
    screen.heading("\n`cargo install --path .` puts the program where no `cargo clean` removes it. More: README.md")
}
