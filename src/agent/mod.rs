//! Agents: the commands that a person registered. Tools name them and never pass a command line.

mod built_in;
mod choose;
mod command;
pub(crate) mod definition;
pub(crate) mod env_file;
mod login_shell;
mod options;
pub(crate) mod output;
mod path;
pub(crate) mod question_hook;
mod registry;
mod session_id;
pub(crate) mod shell_path;
mod start_up_files;

#[cfg(test)]
pub(crate) use built_in::texts as built_in_texts;
pub(crate) use choose::{Choice, Chooser, OptionError, choose};
pub use command::AgentCommand;
pub(crate) use command::{CommandError, MAX_ARGUMENT_BYTES, Placeholders, fill_check, prompt_room_bytes};
pub use definition::AgentDefinition;
pub use definition::StdinSource;
pub(crate) use login_shell::{LOGIN_SHELL_TIMEOUT, ShellMode, not_started, through_shell};
pub(crate) use options::AgentOption;
pub(crate) use path::{Found, Installed, SearchPath, ShellPaths, Source, find_command};
pub(crate) use registry::{Agent, AgentError, AgentName, AgentSource, Registry, agent_names, find_for_looking};
pub(crate) use session_id::is_session_id;
