//! What a run asks of a cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::invalid_field::InvalidField;
use crate::home::config::{Config, is_slurm_name};

/// What a run asks of the machine that it is placed on. Only Slurm reads it.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPUs.
    pub cpus: Option<u64>,
    /// Memory, in MiB.
    pub memory_mib: Option<u64>,
    /// GPUs.
    pub gpus: Option<u64>,
    /// One of the home's slurm_partitions.
    pub partition: Option<String>,
    /// Features of the node, as sbatch --constraint takes them.
    pub constraint: Option<String>,
}

const MAX_CONSTRAINT_BYTES: usize = 200;

/// Whether nothing in it is anything but names of features and their operators.
fn is_constraint(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.&|*()[]-".contains(&byte);
    (1..=MAX_CONSTRAINT_BYTES).contains(&text.len()) && text.bytes().all(is_allowed)
}

impl Resources {
    /// Checks what a person may have written, whatever the home allows.
    pub(super) fn check(&self) -> Result<(), InvalidField> {
        let Self { cpus, memory_mib, gpus, partition, constraint } = self;
        let numbers = [("resources.cpus", cpus), ("resources.memory_mib", memory_mib), ("resources.gpus", gpus)];
        for (field, value) in numbers {
            if *value == Some(0) {
                return Err(InvalidField::new(field, 0, "it must be at least 1; leave it out for the default"));
            }
        }
        if let Some(partition) = partition.as_ref().filter(|partition| !is_slurm_name(partition)) {
            return Err(InvalidField::new(
                "resources.partition",
                format_args!("'{partition}'"),
                "it must be the name of one partition",
            ));
        }
        if let Some(constraint) = constraint.as_ref().filter(|constraint| !is_constraint(constraint)) {
            let rule = "it may contain feature names and & | * ( ) [ ], at most 200 bytes";
            return Err(InvalidField::new("resources.constraint", format_args!("'{constraint}'"), rule));
        }
        Ok(())
    }

    /// Checks that the home allows as much.
    ///
    /// # Errors
    /// It does not, and which key of config.toml says so.
    pub(crate) fn check_allowed(&self, config: &Config) -> Result<(), InvalidField> {
        let bounds = [
            ("resources.cpus", self.cpus, config.slurm_max_cpus, "slurm_max_cpus"),
            ("resources.memory_mib", self.memory_mib, config.slurm_max_memory_mib, "slurm_max_memory_mib"),
            ("resources.gpus", self.gpus, Some(config.slurm_max_gpus.unwrap_or(0)), "slurm_max_gpus"),
        ];
        for (field, value, max, key) in bounds {
            if let (Some(value), Some(max)) = (value, max)
                && value > max
            {
                let rule = format!("the limit is {max} ({key} in config.toml)");
                return Err(InvalidField::new(field, value, rule));
            }
        }
        match &self.partition {
            Some(partition) if !config.slurm_partitions.contains(partition) => {
                let allowed = config.slurm_partitions.join(", ");
                let rule = if allowed.is_empty() {
                    "no partition may be chosen; list some as slurm_partitions in config.toml".to_owned()
                } else {
                    format!("it must be one of: {allowed} (slurm_partitions in config.toml)")
                };
                Err(InvalidField::new("resources.partition", format_args!("'{partition}'"), rule))
            }
            _ => Ok(()),
        }
    }

    /// Returns them with the home's default partition.
    pub(crate) fn with_defaults(mut self, config: &Config) -> Self {
        self.partition = self.partition.or_else(|| config.slurm_partitions.first().cloned());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_is_features_and_operators_as_a_whole() {
        let check =
            |constraint: &str| Resources { constraint: Some(constraint.to_owned()), ..Resources::default() }.check();
        for good in ["a100", "a100|h100", "[rack1|rack2]", "intel&gpu*2", "(a-1&b_2)"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a;b", "a\n", "--wrap=x\u{0}", "a,b", &"a".repeat(201)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_routine_gets_what_the_home_allows_and_no_more() {
        let config = Config {
            slurm_max_cpus: Some(8),
            slurm_partitions: vec!["cpu".to_owned(), "gpu".to_owned()],
            ..Config::default()
        };
        let none = Resources::default();
        assert!(
            Resources { cpus: Some(8), partition: Some("gpu".to_owned()), ..none.clone() }
                .check_allowed(&config)
                .is_ok()
        );
        let refused = |resources: Resources| resources.check_allowed(&config).unwrap_err().to_string();
        assert!(refused(Resources { cpus: Some(9), ..none.clone() }).contains("slurm_max_cpus"));
        assert!(refused(Resources { gpus: Some(1), ..none.clone() }).contains("slurm_max_gpus"));
        assert!(refused(Resources { partition: Some("big".to_owned()), ..none.clone() }).contains("cpu, gpu"));
        assert_eq!(none.clone().with_defaults(&config).partition.as_deref(), Some("cpu"));
        assert!(Resources { cpus: Some(0), ..none }.check().is_err());
    }
}
