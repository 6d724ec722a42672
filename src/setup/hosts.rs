//! The agent hosts: where each keeps its user's configuration, and what it calls a server there.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Entry, Extra, Problem, json, toml};

/// An agent host: an application that can start this server.
#[derive(Debug)]
pub struct Host {
    /// What a person types.
    pub name: &'static str,
    /// What it calls itself.
    pub title: &'static str,
    pub(super) language: &'static Language,
    servers: &'static str,
    /// The keys besides the common ones that an entry begins with.
    extra: Extras<'static>,
    place: fn(&Surroundings) -> Place,
}

pub(super) type Extras<'a> = &'a [(&'a str, Extra)];

/// How entries are edited in a language: each takes the text, and the key of the servers.
#[derive(Debug)]
pub(super) struct Language {
    pub(super) name: &'static str,
    has: fn(&str, &str) -> Result<bool, Problem>,
    add: fn(&str, &str, &Entry, Extras<'_>) -> Result<String, Problem>,
    remove: fn(&str, &str) -> Result<String, Problem>,
}

const JSON: &Language = &Language { name: "JSON", has: json::has, add: json::add, remove: json::remove };
const TOML: &Language = &Language { name: "TOML", has: toml::has, add: toml::add, remove: toml::remove };

/// Where a host keeps its configuration, and the directory that shows that the host is there.
struct Place {
    file: PathBuf,
    sign: PathBuf,
}

/// What of the machine and the user decides where configurations are.
#[derive(Debug)]
pub struct Surroundings {
    /// The person's home directory.
    pub home: PathBuf,
    /// Whether this is macOS, where applications keep their files elsewhere.
    pub macos: bool,
    /// Looks a variable of the environment up.
    pub variable: fn(&str) -> Option<OsString>,
}

impl Surroundings {
    /// Returns those of this process; `None` where the user has no home directory.
    pub fn current() -> Option<Self> {
        let home = std::env::home_dir().filter(|home| home.is_absolute())?;
        Some(Self { home, macos: cfg!(target_os = "macos"), variable: |name| std::env::var_os(name) })
    }

    /// Returns the directory that a variable names. The hosts and the XDG specification ignore a relative one, or would take
    /// it from a directory that nobody here knows.
    fn named(&self, variable: &str) -> Option<PathBuf> {
        (self.variable)(variable).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    fn xdg_config(&self) -> PathBuf {
        self.named("XDG_CONFIG_HOME").unwrap_or_else(|| self.home.join(".config"))
    }

    /// Returns where applications made with Electron keep their directories.
    fn applications(&self) -> PathBuf {
        if self.macos { self.home.join("Library/Application Support") } else { self.xdg_config() }
    }
}

fn in_directory(directory: PathBuf, file: &str) -> Place {
    Place { file: directory.join(file), sign: directory }
}

fn claude_code(here: &Surroundings) -> Place {
    match here.named("CLAUDE_CONFIG_DIR") {
        Some(directory) => in_directory(directory, ".claude.json"),
        None => Place { file: here.home.join(".claude.json"), sign: here.home.join(".claude") },
    }
}

fn gemini(here: &Surroundings) -> Place {
    let home = here.named("GEMINI_CLI_HOME").unwrap_or_else(|| here.home.clone());
    in_directory(home.join(".gemini"), "settings.json")
}

fn zed(here: &Surroundings) -> Place {
    let config = if here.macos {
        here.home.join(".config")
    } else {
        here.named("FLATPAK_XDG_CONFIG_HOME").unwrap_or_else(|| here.xdg_config())
    };
    in_directory(config.join("zed"), "settings.json")
}

const STDIO: Extras<'static> = &[("type", Extra::Text("stdio"))];

/// Every host that can be set up, in the order of the command's help. The places and keys are those of the hosts' own
/// documentation, as of November 2026.
pub const HOSTS: [Host; 8] = [
    Host {
        name: "claude-desktop",
        title: "Claude Desktop",
        language: JSON,
        servers: "mcpServers",
        extra: &[],
        place: |here| in_directory(here.applications().join("Claude"), "claude_desktop_config.json"),
    },
    Host {
        name: "claude-code",
        title: "Claude Code",
        language: JSON,
        servers: "mcpServers",
        extra: STDIO,
        place: claude_code,
    },
    Host {
        name: "cursor",
        title: "Cursor",
        language: JSON,
        servers: "mcpServers",
        extra: &[],
        place: |here| in_directory(here.home.join(".cursor"), "mcp.json"),
    },
    Host {
        name: "vscode",
        title: "VS Code",
        language: JSON,
        servers: "servers",
        extra: STDIO,
        place: |here| in_directory(here.applications().join("Code/User"), "mcp.json"),
    },
    Host {
        name: "codex",
        title: "Codex",
        language: TOML,
        servers: "mcp_servers",
        extra: &[("startup_timeout_sec", Extra::Number(10)), ("tool_timeout_sec", Extra::Number(60))],
        place: |here| {
            let directory = here.named("CODEX_HOME").unwrap_or_else(|| here.home.join(".codex"));
            in_directory(directory, "config.toml")
        },
    },
    Host { name: "gemini", title: "Gemini CLI", language: JSON, servers: "mcpServers", extra: &[], place: gemini },
    Host {
        name: "windsurf",
        title: "Windsurf",
        language: JSON,
        servers: "mcpServers",
        extra: &[],
        place: |here| in_directory(here.home.join(".codeium/windsurf"), "mcp_config.json"),
    },
    Host { name: "zed", title: "Zed", language: JSON, servers: "context_servers", extra: &[], place: zed },
];

impl Host {
    /// Returns the host that a person calls by this name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        HOSTS.iter().find(|host| host.name == name)
    }

    /// Returns the file of its user's configuration, which need not be there.
    pub fn config(&self, here: &Surroundings) -> PathBuf {
        (self.place)(here).file
    }

    /// Returns whether the host seems to be in use.
    pub fn is_found(&self, here: &Surroundings) -> bool {
        let place = (self.place)(here);
        place.file.exists() || place.sign.is_dir()
    }

    pub(super) fn has_entry(&self, text: &str) -> Result<bool, Problem> {
        (self.language.has)(text, self.servers)
    }

    pub(super) fn with_entry(&self, text: &str, entry: &Entry) -> Result<String, Problem> {
        (self.language.add)(text, self.servers, entry, self.extra)
    }

    pub(super) fn without_entry(&self, text: &str) -> Result<String, Problem> {
        (self.language.remove)(text, self.servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, macos: bool, variable: fn(&str) -> Option<OsString>) -> String {
        let here = Surroundings { home: "/home/me".into(), macos, variable };
        Host::by_name(name).unwrap().config(&here).to_str().unwrap().to_owned()
    }

    #[test]
    fn each_host_has_its_place_on_each_system() {
        for (name, linux, macos) in [
            ("claude-desktop", ".config/Claude/", "Library/Application Support/Claude/"),
            ("claude-code", ".claude.json", ".claude.json"),
            ("cursor", ".cursor/mcp.json", ".cursor/mcp.json"),
            ("vscode", ".config/Code/User/mcp.json", "Library/Application Support/Code/User/mcp.json"),
            ("codex", ".codex/config.toml", ".codex/config.toml"),
            ("gemini", ".gemini/settings.json", ".gemini/settings.json"),
            ("windsurf", ".codeium/windsurf/mcp_config.json", ".codeium/windsurf/mcp_config.json"),
            ("zed", ".config/zed/settings.json", ".config/zed/settings.json"),
        ] {
            assert!(config(name, false, |_| None).starts_with(&format!("/home/me/{linux}")), "{name}");
            assert!(config(name, true, |_| None).starts_with(&format!("/home/me/{macos}")), "{name}");
        }
    }

    #[test]
    fn what_moves_a_hosts_directory_moves_its_configuration() {
        let moved = |name| config(name, false, |variable| Some(format!("/{variable}").into()));
        assert_eq!(moved("claude-code"), "/CLAUDE_CONFIG_DIR/.claude.json");
        assert_eq!(moved("codex"), "/CODEX_HOME/config.toml");
        assert_eq!(moved("gemini"), "/GEMINI_CLI_HOME/.gemini/settings.json");
        assert_eq!(moved("vscode"), "/XDG_CONFIG_HOME/Code/User/mcp.json");
        assert_eq!(moved("zed"), "/FLATPAK_XDG_CONFIG_HOME/zed/settings.json");
        assert_eq!(config("codex", false, |_| Some("relative".into())), "/home/me/.codex/config.toml");
        assert_eq!(config("zed", true, |_| Some("/elsewhere".into())), "/home/me/.config/zed/settings.json");
    }
}
