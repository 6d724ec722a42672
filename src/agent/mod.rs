//! Agents: the commands that a person registered. Tools name them and never pass a command line.

mod built_in;
mod command;
mod definition;
pub mod env_file;
mod login_shell;
mod path;
mod registry;

pub use command::{AgentCommand, CommandError, Placeholders};
pub use definition::{AgentDefinition, StdinSource};
pub use login_shell::{LAUNCH_PATIENCE, UNWATCHED_LAUNCH_PATIENCE, through_login_shell};
pub use path::{CommandNotFound, ProbedPath, SearchPath, find_command, print_search_path};
pub use registry::{Agent, AgentError, AgentName, AgentSource, Registry, find_for_looking};
