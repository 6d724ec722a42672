//! The agent hosts: where each keeps its user's configuration, and what it calls a server there.

use std::ffi::OsString;
use std::path::PathBuf;

use super::{Entry, Problem, json, toml};

/// An agent host: an application that can start this server.
#[derive(Debug)]
pub struct Host {
    /// What a person types.
    pub name: &'static str,
    /// What it calls itself.
    pub title: &'static str,
    language: Language,
    form: Form,
    /// What lets it use our tools while nobody is there to allow each call, where that is known; `{server}` stands for the
    /// entry's name.
    unattended: Option<&'static str>,
    place: fn(&Surroundings) -> Place,
}

/// What a configuration is written in.
#[derive(Debug)]
enum Language {
    /// With comments.
    Json(json::CommandForm),
    Toml,
}

/// What an entry looks like, in any language.
#[derive(Debug)]
pub(super) struct Form {
    /// The key of the servers.
    pub(super) servers: &'static str,
    /// The keys besides the common ones that an entry begins with.
    pub(super) extra: &'static [(&'static str, Extra)],
    /// What the host calls a server that it starts as a program. The first of them is what `extra` says, if it says so.
    pub(super) program_kinds: &'static [&'static str],
    /// The key of the variables.
    pub(super) variables: &'static str,
}

/// A value that a new entry gets, and that an older one keeps as it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extra {
    Text(&'static str),
    Texts(&'static [&'static str]),
    Number(i64),
}

const JSON: Language = Language::Json(json::CommandForm::WithArguments);

/// What most hosts took over from the first.
const COMMON: Form = Form { servers: "mcpServers", extra: &[], program_kinds: &["stdio"], variables: "env" };

const WITH_TYPE: Form = Form { extra: &[("type", Extra::Text("stdio"))], ..COMMON };

/// Where a host keeps its configuration, and the directory that shows that the host is there.
struct Place {
    /// The files that it reads, as many as there are. Of an entry that stands in several, it takes the first. The last is the
    /// one to make.
    files: Vec<PathBuf>,
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
    Place { files: vec![directory.join(file)], sign: directory }
}

fn claude_code(here: &Surroundings) -> Place {
    match here.named("CLAUDE_CONFIG_DIR") {
        Some(directory) => in_directory(directory, ".claude.json"),
        None => Place { files: vec![here.home.join(".claude.json")], sign: here.home.join(".claude") },
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

fn opencode(here: &Surroundings) -> Place {
    let directory = here.xdg_config().join("opencode");
    Place { files: ["opencode.jsonc", "opencode.json"].map(|file| directory.join(file)).into(), sign: directory }
}

/// Every host that can be set up, in the order of the command's help. The places and keys are those of the hosts' own
/// documentation, as of November 2026; those of opencode, Qwen Code and Copilot CLI, and what works unattended, were tried.
pub const HOSTS: [Host; 11] = [
    Host {
        name: "claude-desktop",
        title: "Claude Desktop",
        language: JSON,
        form: COMMON,
        unattended: None,
        place: |here| in_directory(here.applications().join("Claude"), "claude_desktop_config.json"),
    },
    Host {
        name: "claude-code",
        title: "Claude Code",
        language: JSON,
        form: WITH_TYPE,
        unattended: Some("start it with --allowedTools 'mcp__{server}__*'"),
        place: claude_code,
    },
    Host {
        name: "cursor",
        title: "Cursor",
        language: JSON,
        form: COMMON,
        unattended: None,
        place: |here| in_directory(here.home.join(".cursor"), "mcp.json"),
    },
    Host {
        name: "vscode",
        title: "VS Code",
        language: JSON,
        form: Form { servers: "servers", ..WITH_TYPE },
        unattended: None,
        place: |here| in_directory(here.applications().join("Code/User"), "mcp.json"),
    },
    Host {
        name: "codex",
        title: "Codex",
        language: Language::Toml,
        form: Form {
            servers: "mcp_servers",
            extra: &[("startup_timeout_sec", Extra::Number(10)), ("tool_timeout_sec", Extra::Number(60))],
            ..COMMON
        },
        unattended: Some("add default_tools_approval_mode = \"approve\" to its [mcp_servers.{server}]"),
        place: |here| {
            let directory = here.named("CODEX_HOME").unwrap_or_else(|| here.home.join(".codex"));
            in_directory(directory, "config.toml")
        },
    },
    Host {
        name: "gemini",
        title: "Gemini CLI",
        language: JSON,
        form: COMMON,
        unattended: Some("start it with --skip-trust --allowed-mcp-server-names {server}"),
        place: gemini,
    },
    Host {
        name: "opencode",
        title: "opencode",
        language: Language::Json(json::CommandForm::List),
        form: Form {
            servers: "mcp",
            extra: &[("type", Extra::Text("local"))],
            program_kinds: &["local"],
            variables: "environment",
        },
        unattended: Some("nothing more is needed"),
        place: opencode,
    },
    Host {
        name: "qwen",
        title: "Qwen Code",
        language: JSON,
        form: COMMON,
        unattended: Some("start it with --allowed-tools mcp__{server}"),
        place: |here| {
            let directory = here.named("QWEN_HOME").unwrap_or_else(|| here.home.join(".qwen"));
            in_directory(directory, "settings.json")
        },
    },
    Host {
        name: "copilot",
        title: "Copilot CLI",
        language: JSON,
        form: Form {
            extra: &[("type", Extra::Text("local")), ("tools", Extra::Texts(&["*"]))],
            program_kinds: &["local", "stdio"],
            ..COMMON
        },
        unattended: Some("start it with --allow-tool {server}"),
        place: |here| {
            let directory = here.named("COPILOT_HOME").unwrap_or_else(|| here.home.join(".copilot"));
            in_directory(directory, "mcp-config.json")
        },
    },
    Host {
        name: "windsurf",
        title: "Windsurf",
        language: JSON,
        form: COMMON,
        unattended: None,
        place: |here| in_directory(here.home.join(".codeium/windsurf"), "mcp_config.json"),
    },
    Host {
        name: "zed",
        title: "Zed",
        language: JSON,
        form: Form { servers: "context_servers", ..COMMON },
        unattended: None,
        place: zed,
    },
];

impl Host {
    /// Returns the host that a person calls by this name.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        HOSTS.iter().find(|host| host.name == name)
    }

    /// Returns the files that its user's configuration may be in, as the host prefers them; the last is the one to make.
    pub fn configs(&self, here: &Surroundings) -> Vec<PathBuf> {
        (self.place)(here).files
    }

    /// Returns whether the host seems to be in use.
    pub fn is_found(&self, here: &Surroundings) -> bool {
        let place = (self.place)(here);
        place.files.iter().any(|file| file.exists()) || place.sign.is_dir()
    }

    /// Returns what a person does so that the host may use the tools of the server `name` while nobody is there to allow each
    /// call; `None` where that is not known.
    pub fn unattended(&self, name: &str) -> Option<String> {
        self.unattended.map(|line| line.replace("{server}", name))
    }

    pub(super) fn language(&self) -> &'static str {
        match self.language {
            Language::Json(_) => "JSON",
            Language::Toml => "TOML",
        }
    }

    pub(super) fn has_entry(&self, text: &str, name: &str) -> Result<bool, Problem> {
        match self.language {
            Language::Json(_) => json::has(text, self.form.servers, name),
            Language::Toml => toml::has(text, self.form.servers, name),
        }
    }

    pub(super) fn with_entry(&self, text: &str, entry: &Entry) -> Result<String, Problem> {
        match self.language {
            Language::Json(command) => json::add(text, &self.form, command, entry),
            Language::Toml => toml::add(text, &self.form, entry),
        }
    }

    pub(super) fn without_entry(&self, text: &str, name: &str) -> Result<String, Problem> {
        match self.language {
            Language::Json(_) => json::remove(text, self.form.servers, name),
            Language::Toml => toml::remove(text, self.form.servers, name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, macos: bool, variable: fn(&str) -> Option<OsString>) -> String {
        let here = Surroundings { home: "/home/me".into(), macos, variable };
        let configs = Host::by_name(name).unwrap().configs(&here);
        configs.last().unwrap().to_str().unwrap().to_owned()
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
            ("opencode", ".config/opencode/opencode.json", ".config/opencode/opencode.json"),
            ("qwen", ".qwen/settings.json", ".qwen/settings.json"),
            ("copilot", ".copilot/mcp-config.json", ".copilot/mcp-config.json"),
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
        assert_eq!(moved("opencode"), "/XDG_CONFIG_HOME/opencode/opencode.json");
        assert_eq!(moved("qwen"), "/QWEN_HOME/settings.json");
        assert_eq!(moved("copilot"), "/COPILOT_HOME/mcp-config.json");
        assert_eq!(moved("vscode"), "/XDG_CONFIG_HOME/Code/User/mcp.json");
        assert_eq!(moved("zed"), "/FLATPAK_XDG_CONFIG_HOME/zed/settings.json");
        assert_eq!(config("codex", false, |_| Some("relative".into())), "/home/me/.codex/config.toml");
        assert_eq!(config("zed", true, |_| Some("/elsewhere".into())), "/home/me/.config/zed/settings.json");
    }

    #[test]
    fn what_an_entry_begins_with_is_no_entry_of_another_transport() {
        for Host { name, form, .. } in &HOSTS {
            let kind = form.extra.iter().find(|(key, _)| *key == "type");
            let is_first = |extra| matches!(extra, Extra::Text(kind) if form.program_kinds.first() == Some(&kind));
            assert!(kind.is_none_or(|(_, extra)| is_first(*extra)), "{name}");
        }
    }

    #[test]
    fn what_lets_a_host_work_unattended_names_its_entry() {
        let of = |host, server| Host::by_name(host).unwrap().unattended(server);
        let claude = of("claude-code", "moadim-box");
        assert_eq!(claude.as_deref(), Some("start it with --allowedTools 'mcp__moadim-box__*'"));
        let codex = of("codex", "moadim");
        assert_eq!(codex.as_deref(), Some("add default_tools_approval_mode = \"approve\" to its [mcp_servers.moadim]"));
        assert_eq!(of("cursor", "moadim"), None);
    }
}
