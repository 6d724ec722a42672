//! What a host starts: this program, or ssh, which starts it on another machine.

use std::path::{Path, PathBuf};

use super::ssh::{RemoteProgram, SSH, SshHost};

/// What a host calls this program.
const NAME: &str = "moadim";

/// An entry for one server, before a host's form.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(super) name: String,
    pub(super) command: String,
    pub(super) arguments: Vec<String>,
    pub(super) home: Option<String>,
}

/// No configuration file can hold such a path.
#[derive(Debug, thiserror::Error)]
#[error("{} is not UTF-8, so no configuration can name it; rename it", .0.display())]
pub struct NotText(PathBuf);

impl Entry {
    /// Makes the entry of this program, an absolute path, with the moadim home that a person set, if they did.
    pub fn new(program: &Path, home: Option<&Path>) -> Result<Self, NotText> {
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| NotText(path.to_owned()));
        let home = home.map(text).transpose()?;
        Ok(Self { name: NAME.to_owned(), command: text(program)?, arguments: Vec::new(), home })
    }

    /// Makes the entry of this program on another machine, which has its own home there.
    pub(crate) fn over_ssh(host: &SshHost, program: &RemoteProgram) -> Self {
        Self {
            name: format!("{NAME}-{}", host.as_key()),
            command: SSH.to_owned(),
            arguments: host.arguments(program),
            home: None,
        }
    }

    /// Returns what the host calls this server. It is letters, digits and hyphens, which no host refuses.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the arguments of an entry stay: it starts the same, with what a person added at the end.
    pub(super) fn keeps(&self, command: &str, arguments: &[String]) -> bool {
        Path::new(command).file_name() == Path::new(&self.command).file_name() && arguments.starts_with(&self.arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persons_own_arguments_stay_as_long_as_the_same_is_started() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let local = Entry::new(Path::new("/bin/moadim-mcp"), None).unwrap();
        assert!(local.keeps("/old/moadim-mcp", &words("--read-only")));
        assert!(!local.keeps("npx", &words("moadim-mcp")));
        let program = "moadim-mcp".parse().unwrap();
        let remote = Entry::over_ssh(&"me@build.example".parse().unwrap(), &program);
        assert_eq!(remote.name(), "moadim-me-build-example");
        assert!(remote.keeps("/usr/bin/ssh", &words("-T -o BatchMode=yes me@build.example moadim-mcp --read-only")));
        assert!(!remote.keeps("ssh", &words("-T -o BatchMode=yes other moadim-mcp --read-only")));
        assert!(!remote.keeps("ssh", &[]));
    }
}
