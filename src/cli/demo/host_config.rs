//! How to add this program to an agent host's configuration.

use std::io;
use std::path::Path;

use serde_json::json;

use super::screen::Screen;

pub(super) fn show(screen: &mut Screen, program: &Path) -> io::Result<()> {
    let path = program.display().to_string();
    let word = quoted(&path);
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

/// Quotes a word for a shell, if it needs quotes.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%,:=".contains(c);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_quoted_path_as_it_was() {
        for path in ["/usr/bin/moadim-mcp", "/a b/it's $HOME"] {
            let output = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(path))]).output();
            assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), path);
        }
    }
}
