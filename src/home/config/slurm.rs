//! What a person may write in `config.toml` for `sbatch`.

/// Options that are set for each run, and those that would make a job of another kind.
const OURS: [&str; 29] = [
    "array",
    "begin",
    "chdir",
    "clusters",
    "comment",
    "dependency",
    "error",
    "export",
    "export-file",
    "get-user-env",
    "help",
    "input",
    "job-name",
    "no-kill",
    "no-requeue",
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
            return Err(format!(
                "slurm_args has '{argument}'; each must be one long option in one word, as '--account=x'"
            ));
        };
        let is_ours = OURS.iter().find(|ours| ours.starts_with(option));
        if let Some(ours) = is_ours {
            let instead = match *ours {
                "partition" => "; use slurm_partitions",
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
    match partitions.iter().find(|partition| !is_partition(partition)) {
        Some(partition) => Err(format!("slurm_partitions has '{partition}', which is no name of a partition")),
        None => Ok(()),
    }
}

/// Whether this can be the name of one partition.
pub(crate) fn is_partition(name: &str) -> bool {
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
            "-pcpu",
            "account=x",
            "--",
            "",
            "--=x",
        ] {
            let problem = check_arguments(&[refused.to_owned()]).unwrap_err();
            assert!(problem.contains("slurm_args"), "{refused}: {problem}");
        }
        let accepted =
            ["--account=x", "--qos=low", "--exclusive", "--nice=100", "--mail-type=FAIL", "--constraint=a&b"];
        assert_eq!(check_arguments(&accepted.map(str::to_owned)), Ok(()));
    }

    #[test]
    fn a_partition_is_one_name() {
        assert!(["cpu", "gpu-a100", "long_2.1"].into_iter().all(is_partition));
        assert!(!["", "a,b", "-x", "a b", "a\n"].into_iter().any(is_partition));
        assert!(check_partitions(&["cpu".to_owned(), "a b".to_owned()]).unwrap_err().contains("'a b'"));
    }
}
