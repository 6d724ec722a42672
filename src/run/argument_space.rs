//! Whether a run's arguments and environment are small enough for the system to pass them on to a program.

use rustix::process::{Resource, getrlimit};

use super::record::Environment;
use crate::agent::AgentCommand;
use crate::quote::quote;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "its environment and arguments are too long for this system: {longest} has {longest_kib} KiB, all have {total_kib} KiB; the \
     limits are {most_one_kib} KiB for one and {most_kib} KiB for all; shorten it, or put it into a file and pass the path"
)]
pub struct TooLong {
    longest: String,
    longest_kib: usize,
    total_kib: usize,
    most_one_kib: usize,
    most_kib: usize,
}

/// The longest single argument or variable: 32 pages of 4 KiB, its final NUL included (execve(2)).
const MOST_BYTES_OF_ONE: usize = 128 * 1024;

/// What the pointer to each takes of the same space.
const POINTER_BYTES: usize = 8;

/// What a login shell's start-up files and we ourselves add.
const ROOM_BYTES: usize = 32 * 1024;

/// The limit for all of them: a quarter of the stack's limit, and three quarters of 8 MiB at most (execve(2)).
fn most_bytes() -> usize {
    const LEAST: u64 = 128 * 1024;
    const MOST: u64 = 6 * 1024 * 1024;
    let stack = getrlimit(Resource::Stack).current;
    let bytes = stack.map_or(MOST, |bytes| (bytes / 4).clamp(LEAST, MOST));
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Checks what a run and its setup would be started with.
pub fn check(environment: &Environment, command: &AgentCommand) -> Result<(), TooLong> {
    check_words(environment, &command.args).and_then(|()| check_words(environment, &command.setup))
}

fn check_words(environment: &Environment, words: &[String]) -> Result<(), TooLong> {
    let Environment { inherited, set, .. } = environment;
    let inherited = inherited.iter().filter(|(name, _)| !set.contains_key(*name));
    let variables = inherited.chain(set).map(|(name, value)| {
        let name = name.to_string();
        (name.len() + 1 + value.len(), format!("the variable {}", quote(&name, 64)))
    });
    let arguments = words.iter().map(|argument| (argument.len(), "an argument".to_owned()));
    check_all(variables.chain(arguments), most_bytes())
}

/// Says what was too long, after the system refused to start a program.
pub fn explain(environment: &Environment, words: &[String]) -> String {
    let mut all = environment.clone();
    all.inherited.extend(crate::environment::of_this_process());
    match check_words(&all, words) {
        Err(too_long) => too_long.to_string(),
        Ok(()) => "its environment and arguments are too long for this system; shorten them".to_owned(),
    }
}

fn check_all(parts: impl Iterator<Item = (usize, String)>, most: usize) -> Result<(), TooLong> {
    let (mut total, mut longest) = (ROOM_BYTES, (0, String::new()));
    for (bytes, what) in parts {
        total += bytes + 1 + POINTER_BYTES;
        if bytes > longest.0 {
            longest = (bytes, what);
        }
    }
    if longest.0 < MOST_BYTES_OF_ONE && total <= most {
        return Ok(());
    }
    let kib = |bytes: usize| bytes.div_ceil(1024);
    Err(TooLong {
        longest_kib: kib(longest.0),
        longest: longest.1,
        total_kib: kib(total - ROOM_BYTES),
        most_one_kib: kib(MOST_BYTES_OF_ONE),
        most_kib: kib(most),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_is_named() {
        let check = |sizes: &[usize]| {
            let parts = sizes.iter().enumerate().map(|(n, bytes)| (*bytes, format!("part {n}")));
            check_all(parts, 2 * 1024 * 1024)
        };
        assert_eq!(check(&[10, 127 * 1024]), Ok(()));
        assert!(check(&[10, 128 * 1024, 20]).unwrap_err().to_string().contains("part 1 has 128 KiB"));
        let many = vec![100 * 1024; 21];
        let error = check(&many).unwrap_err().to_string();
        assert!(error.contains("2101 KiB") && error.contains("2048 KiB for all"), "{error}");
    }

    #[test]
    fn the_system_agrees_about_what_is_too_long() {
        let refused = |bytes: usize| {
            let value = "x".repeat(bytes - "A=".len());
            std::process::Command::new("true").env_clear().env("A", value).status().is_err()
        };
        assert_eq!((refused(MOST_BYTES_OF_ONE - 1), refused(MOST_BYTES_OF_ONE)), (false, true));
        let all_refused = |bytes: usize| {
            let mut command = std::process::Command::new("true");
            command.env_clear();
            let value = "x".repeat(64 * 1024);
            (0..bytes / value.len()).for_each(|n| {
                command.env(format!("A{n}"), &value);
            });
            command.status().is_err()
        };
        assert!(!all_refused(most_bytes() - ROOM_BYTES - 64 * 1024) && all_refused(most_bytes() + 64 * 1024));
    }
}
