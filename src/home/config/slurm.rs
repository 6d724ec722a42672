//! What a person may write in `config.toml` for `sbatch`.

/// Options that are set for each run, and those that would make a job of another kind. Slurm may lower `--time` to `--time-min`, and
/// would end a run within its bound. A retry's own `--exclude` and a routine's constraint would replace a person's.
/// A list of nodes means all of them, and a run has one.
const OURS: [&str; 34] = [
    "array",
    "begin",
    "chdir",
    "clusters",
    "comment",
    "constraint",
    "dependency",
    "error",
    "exclude",
    "export",
    "export-file",
    "get-user-env",
    "help",
    "input",
    "job-name",
    "no-kill",
    "no-requeue",
    "nodefile",
    "nodelist",
    "ntasks",
    "open-mode",
    "output",
    "parsable",
    "partition",
    "propagate",
    "requeue",
    "signal",
    "test-only",
    "time",
    "time-min",
    "usage",
    "version",
    "wait",
    "wrap",
];

/// Makes sure that no argument is an option of ours, written out or cut short as `sbatch` accepts it.
pub(super) fn check_arguments(arguments: &[String]) -> Result<(), String> {
    for argument in arguments {
        let option = argument.strip_prefix("--").and_then(|option| option.split('=').next());
        let Some(option) = option.filter(|option| !option.is_empty() && !argument.contains(['\0', '\n'])) else {
            return Err(format!("slurm_args has '{argument}'; each must be one long option, such as --account=x"));
        };
        let is_ours = OURS.iter().find(|ours| ours.starts_with(option));
        if let Some(ours) = is_ours {
            let instead = match *ours {
                "partition" => "; use slurm_partitions",
                "constraint" => "; use resources.constraint",
                "time" => "; it follows from the run's max_runtime_secs",
                _ => "",
            };
            return Err(format!("slurm_args has '{argument}', but --{ours} cannot be set here{instead}"));
        }
    }
    Ok(())
}

/// Makes sure that each is the name of one partition.
pub(super) fn check_partitions(partitions: &[String]) -> Result<(), String> {
    match partitions.iter().find(|partition| !is_slurm_name(partition)) {
        Some(partition) => Err(format!("slurm_partitions has '{partition}', which is not a partition name")),
        None => Ok(()),
    }
}

/// Whether this can be the name of one partition or node.
pub(crate) fn is_slurm_name(name: &str) -> bool {
    let is_one = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.');
    (1..=64).contains(&name.len()) && !name.starts_with('-') && name.chars().all(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_for_each_run_is_refused_also_cut_short() {
        for refused in [
            "--job-name=x",
            "--comment=x",
            "--chdir=/",
            "--output=x",
            "--array=1-9",
            "--wrap=true",
            "--requeue",
            "--export=NONE",
            "--exp=NONE",
            "--job=x",
            "--time=1",
            "--partition=x",
            "--time-min=1",
            "--time-m=1",
            "--exclude=n1",
            "--nodelist=n1",
            "--nodefile=x",
            "--constraint=a&b",
            "-pcpu",
            "-w",
            "-xn1",
            "-C",
            "account=x",
            "--",
            "",
            "--=x",
        ] {
            let problem = check_arguments(&[refused.to_owned()]).unwrap_err();
            assert!(problem.contains("slurm_args"), "{refused}: {problem}");
        }
        let constraint = check_arguments(&["--constraint=a&b".to_owned()]).unwrap_err();
        assert!(constraint.contains("resources.constraint"), "{constraint}");
        let accepted = ["--account=x", "--qos=low", "--exclusive", "--nice=100", "--mail-type=FAIL", "--prefer=a"];
        assert_eq!(check_arguments(&accepted.map(str::to_owned)), Ok(()));
    }

    #[test]
    fn a_partition_is_one_name() {
        assert!(["cpu", "gpu-a100", "long_2.1"].into_iter().all(is_slurm_name));
        assert!(!["", "a,b", "-x", "a b", "a\n"].into_iter().any(is_slurm_name));
        assert!(check_partitions(&["cpu".to_owned(), "a b".to_owned()]).unwrap_err().contains("'a b'"));
    }
}
