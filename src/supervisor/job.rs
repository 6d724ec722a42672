//! A supervisor that is a job of Slurm: which one it is, and what its agent inherits of that.

use anyhow::Context as _;

use crate::environment::{EnvName, of_this_process as environment};
use crate::home::atomic_file;
use crate::run::entry::Entry;
use crate::run::record::SlurmJob;

/// Returns the job that this process is.
///
/// # Errors
/// It is none.
pub(super) fn of_this_process() -> anyhow::Result<SlurmJob> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let id = variable("SLURM_JOB_ID").context("SLURM_JOB_ID is not set: this is no job of Slurm")?;
    let node = variable("SLURMD_NODENAME").context("SLURMD_NODENAME is not set: the node is not known")?;
    Ok(SlurmJob { id, node: Some(node), partition: variable("SLURM_JOB_PARTITION"), state: None })
}

/// Whether the agent needs a variable of the job to use what the job was given, such as its GPUs.
fn is_of_job(name: &str) -> bool {
    const DEVICES: [&str; 5] = [
        "CUDA_VISIBLE_DEVICES",
        "GPU_DEVICE_ORDINAL",
        "ROCR_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "ZE_AFFINITY_MASK",
    ];
    name.starts_with("SLURM_") || name == "TMPDIR" || DEVICES.contains(&name)
}

/// Whether a variable means something only on the machine that triggered the run.
fn is_of_login_machine(name: &str) -> bool {
    ["TMPDIR", "SSH_AUTH_SOCK", "SSH_AGENT_PID", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"].contains(&name)
}

/// Adds what the agent inherits of the job to the environment that its trigger wrote down.
///
/// # Errors
/// That cannot be read or written.
pub(super) fn pass_on_environment(entry: &Entry) -> anyhow::Result<()> {
    let mut environment_of_run = entry.environment()?;
    environment_of_run.inherited.retain(|name, _| !is_of_login_machine(&name.to_string()));
    let of_job = environment().into_iter().filter(|(name, _): &(EnvName, _)| is_of_job(&name.to_string()));
    environment_of_run.inherited.extend(of_job);
    Ok(atomic_file::replace_json_unsynced(&entry.file("env.json"), &environment_of_run)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_sees_what_its_job_was_given() {
        for name in ["SLURM_JOB_ID", "SLURM_CPUS_ON_NODE", "CUDA_VISIBLE_DEVICES", "TMPDIR"] {
            assert!(is_of_job(name), "{name}");
        }
        assert!(!["SLURMD_NODENAME", "PATH", "HOME", "MOADIM_COOKIE"].into_iter().any(is_of_job));
    }
}
