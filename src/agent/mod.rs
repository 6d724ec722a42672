//! Agents: the commands that a person registered. Tools name them and never pass a command line.

mod built_in;
mod command;
mod definition;
pub mod env_file;
mod login_shell;
mod path;
mod registry;
pub mod shell_path;
mod start_up_files;

pub use command::{AgentCommand, CommandError, Placeholders};
pub use definition::{AgentDefinition, StdinSource};
pub use login_shell::{LAUNCH_PATIENCE, not_started, through_login_shell};
pub use path::{CommandNotFound, Found, SearchPath, ShellPaths, Source, find_command};
pub use registry::{Agent, AgentError, AgentName, AgentSource, Registry, find_for_looking};
