//! Handing a supervisor to Slurm: the script of a job, its arguments, and what `sbatch` makes of them.

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use super::client::{self, ClientError};
use crate::home::atomic_file;
use crate::quote::shell_word;
use crate::routine::resources::Resources;

/// A job to submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission<'a> {
    /// Its name, which with the token identifies it.
    pub name: String,
    /// Everybody who may list jobs sees it, so it is not a secret.
    pub token: &'a str,
    /// What it executes: a program and its arguments.
    pub words: &'a [OsString],
    /// A variable for it.
    pub variable: Option<(&'static str, String)>,
    /// Where its script is written, which Slurm copies, and the file of what it prints.
    pub script: &'a Path,
    pub output: &'a Path,
    pub directory: &'a Path,
    pub resources: &'a Resources,
    /// A person's own arguments.
    pub arguments: &'a [String],
    pub placement: Placement<'a>,
    /// After how many minutes Slurm ends it.
    pub minutes: u64,
}

/// Where a job may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement<'a> {
    Anywhere,
    /// On this node.
    On(&'a str),
    /// On any node but these, of which there is at least one.
    Not(&'a [String]),
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// Slurm has the job, with this id.
    Accepted(String),
    /// Slurm answered, and said no.
    Refused(String),
    /// Slurm was never asked.
    NotSent(String),
    /// Slurm may have the job. Its name and its token will tell, so it is never submitted again.
    Unconfirmed(String),
}

impl Submission<'_> {
    /// Returns the arguments of `sbatch`. Those that are ours come last, where they win.
    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = self.arguments.iter().map(Into::into).collect();
        let mut add = |option: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            let mut argument = OsString::from(format!("--{option}="));
            argument.push(value);
            arguments.push(argument);
        };
        let Resources { cpus, memory_mib, gpus, partition, constraint } = self.resources;
        for (option, number) in [("cpus-per-task", cpus), ("gpus", gpus)] {
            number.iter().for_each(|number| add(option, &number.to_string()));
        }
        memory_mib.iter().for_each(|mib| add("mem", &format!("{mib}M")));
        partition.iter().for_each(|partition| add("partition", partition));
        constraint.iter().for_each(|constraint| add("constraint", constraint));
        match self.placement {
            Placement::Anywhere => {}
            Placement::On(node) => add("nodelist", &node),
            Placement::Not(nodes) => add("exclude", &nodes.join(",")),
        }
        add("job-name", &self.name);
        add("comment", &self.token);
        add("chdir", &self.directory);
        add("input", &"/dev/null");
        add("output", &literal(self.output));
        add("open-mode", &"append");
        add("time", &self.minutes.to_string());
        // The supervisor alone, as a last chance before all of the job is ended.
        add("signal", &"B:TERM@60");
        add("propagate", &"NONE");
        // Not --export=NONE: it starts a login shell, which may hang. The environment is as small as it must be already.
        arguments.extend(["--nodes=1", "--ntasks=1", "--no-requeue", "--parsable"].map(Into::into));
        arguments.push(self.script.into());
        arguments
    }

    /// Returns the text of its script.
    fn script(&self) -> String {
        let words: Vec<String> = self.words.iter().map(|word| shell_word(&word.to_string_lossy())).collect();
        format!("#!/bin/sh\nexec {}\n", words.join(" "))
    }

    /// Submits it.
    pub(super) fn submit(&self, deadline: Instant) -> Submitted {
        // Never through what something else put in its place.
        if let Err(error) = atomic_file::write(self.script, self.script().as_bytes()) {
            return Submitted::NotSent(error.to_string());
        }
        if Instant::now() >= deadline {
            return Submitted::NotSent("preparing the job took too long; trigger it again".to_owned());
        }
        let mut command = match client::command("sbatch") {
            Ok(command) => command,
            Err(error) => return Submitted::NotSent(error.to_string()),
        };
        command.args(self.arguments()).envs(self.variable.clone());
        classify(client::run("sbatch", &mut command, deadline))
    }
}

/// Returns a path as a pattern of Slurm's for exactly this file.
fn literal(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

/// Decides what an answer means. A job that is wrongly called refused or not sent is lost, but starts nothing twice: its supervisor
/// finds the run taken, or gone.
fn classify(answer: Result<String, ClientError>) -> Submitted {
    /// What `sbatch` says when it did not hear the controller's answer. munge may die between request and answer.
    const UNHEARD: [&str; 11] = [
        "timed out",
        "Unable to contact",
        "onnection",
        "ommunication",
        "Zero Bytes",
        "send",
        "receive",
        "Unexpected message",
        "standby",
        "uthentication",
        "credential",
    ];
    match answer {
        Ok(printed) | Err(ClientError::ExitUnknown { printed, .. }) => {
            // On a federation the cluster's name follows.
            let id = printed.trim().lines().last().unwrap_or_default().split(';').next().unwrap_or_default();
            if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) {
                Submitted::Accepted(id.to_owned())
            } else {
                Submitted::Unconfirmed("sbatch printed no job id".to_owned())
            }
        }
        Err(error @ (ClientError::Missing(_) | ClientError::NotRun { .. } | ClientError::NotAsked)) => {
            Submitted::NotSent(error.to_string())
        }
        Err(error @ ClientError::TimedOut(_)) => Submitted::Unconfirmed(error.to_string()),
        Err(error @ ClientError::Failed { .. }) => {
            let said = error.to_string();
            // What a signal ended says nothing.
            if !said.contains("error:") || UNHEARD.iter().any(|words| said.contains(words)) {
                Submitted::Unconfirmed(said)
            } else {
                Submitted::Refused(said)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_comes_last_and_paths_are_taken_literally() {
        let words: Vec<OsString> = ["/h/it's", "supervise", "/h", "a-1"].map(Into::into).into();
        let resources = Resources { gpus: Some(2), memory_mib: Some(512), ..Resources::default() };
        let submission = Submission {
            name: "moadim-a-1".to_owned(),
            token: "t",
            words: &words,
            variable: None,
            script: Path::new("/h/job.sh"),
            output: Path::new("/100%/job.out"),
            directory: Path::new("/h"),
            resources: &resources,
            arguments: &["--account=x".to_owned(), "--mem=1G".to_owned()],
            placement: Placement::Not(&["n1".to_owned(), "n2".to_owned()]),
            minutes: 63,
        };
        let arguments: Vec<String> =
            submission.arguments().into_iter().map(|argument| argument.into_string().unwrap()).collect();
        let at = |wanted: &str| arguments.iter().position(|argument| argument == wanted).expect(wanted);
        assert_eq!(at("--account=x"), 0);
        assert!(at("--mem=1G") < at("--mem=512M"));
        for wanted in
            ["--gpus=2", "--exclude=n1,n2", "--time=63", "--output=/100%%/job.out", "--no-requeue", "--comment=t"]
        {
            at(wanted);
        }
        assert_eq!(at("/h/job.sh"), arguments.len() - 1);
        assert_eq!(submission.script(), "#!/bin/sh\nexec '/h/it'\\''s' supervise /h a-1\n");
    }

    #[test]
    fn only_a_clear_no_is_a_refusal() {
        let failed =
            |said: &str| Err(ClientError::Failed { program: "sbatch", said: format!(": sbatch: error: {said}") });
        assert_eq!(classify(Ok("17\n".to_owned())), Submitted::Accepted("17".to_owned()));
        assert_eq!(classify(Ok("17;cluster\n".to_owned())), Submitted::Accepted("17".to_owned()));
        assert!(matches!(classify(Ok(String::new())), Submitted::Unconfirmed(_)));
        assert!(matches!(classify(Err(ClientError::TimedOut("sbatch"))), Submitted::Unconfirmed(_)));
        for unheard in [
            "Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "Batch job submission failed: Socket timed out on send/recv operation",
            "Batch job submission failed: Zero Bytes were transmitted or received",
            "Batch job submission failed: Protocol authentication error",
            "Munge decode failed: Invalid credential",
        ] {
            assert!(matches!(classify(failed(unheard)), Submitted::Unconfirmed(_)), "{unheard}");
        }
        let ended = Err(ClientError::Failed { program: "sbatch", said: String::new() });
        assert!(matches!(classify(ended), Submitted::Unconfirmed(_)), "by a signal");
        let exit_unknown = Err(ClientError::ExitUnknown { program: "sbatch", printed: "18\n".to_owned() });
        assert_eq!(classify(exit_unknown), Submitted::Accepted("18".to_owned()));
        let refused = failed("Batch job submission failed: Invalid partition name specified");
        assert!(matches!(classify(refused), Submitted::Refused(said) if said.contains("Invalid partition")));
        assert!(matches!(classify(Err(ClientError::Missing("sbatch"))), Submitted::NotSent(_)));
    }
}
