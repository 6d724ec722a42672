//! Runs that wait on Slurm, as this process last judged them: while nothing changes in its entry and its job still waits, a run need not
//! be judged again. A thousand of them then cost little more than the question to Slurm.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, open};

use super::on_slurm::RECENT;
use super::{Assessment, Liveness};
use crate::clock::Moment;
use crate::engine::slurm::{Jobs, run_job_name};
use crate::home::file_cache::Stamp;
use crate::run::context::Context;
use crate::run::entry::Entry;
use crate::run::id::RunId;

/// What this process knows of waiting runs.
#[derive(Debug, Default)]
pub struct WaitingRuns(Mutex<HashMap<RunId, Waiting>>);

/// A run that waited when it was judged.
#[derive(Debug, Clone)]
struct Waiting {
    token: String,
    triggered: Moment,
    /// Its entry from before the judgement: a record that comes there changes it.
    entry: Stamp,
}

impl Waiting {
    /// Whether a judgement would say the same.
    fn holds(&self, run: &str, entry: Stamp, jobs: &Jobs, now: &Moment, max_queue_secs: u64) -> bool {
        let has_time = self.triggered.elapsed_secs_at(now) <= max_queue_secs;
        entry == self.entry && has_time && jobs.all_wait(&run_job_name(run), &self.token)
    }
}

/// The entries that are left to judge.
pub struct Unjudged {
    pub entries: Vec<Entry>,
    /// How each of them is now, unless it has just changed.
    pub stamps: HashMap<RunId, Stamp>,
}

impl WaitingRuns {
    /// Leaves out the runs that still wait as they did. Those that are not among `entries` are forgotten: most of them have ended.
    pub fn leave_out(&self, context: &Context, mut entries: Vec<Entry>) -> Unjudged {
        let mut known = std::mem::take(&mut *self.lock());
        let look = (!known.is_empty()).then(|| context.slurm().look(RECENT));
        let jobs = look.and_then(|look| look.result.ok()).unwrap_or_default();
        let (now, now_by_wall) = (Moment::now(), SystemTime::now());
        let running = open(context.home.running(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok();
        let (mut waiting, mut stamps) = (HashMap::new(), HashMap::new());
        entries.retain(|entry| {
            let name = entry.id().to_string();
            let Some(stamp) = running.as_ref().and_then(|running| Stamp::below(running, &name)) else { return true };
            if let Some((id, known)) = known.remove_entry(entry.id())
                && known.holds(&name, stamp, &jobs, &now, context.config.max_queue_secs)
            {
                waiting.insert(id, known);
                return false;
            }
            if stamp.is_settled(now_by_wall) {
                stamps.insert(entry.id().clone(), stamp);
            }
            true
        });
        self.lock().extend(waiting);
        Unjudged { entries, stamps }
    }

    /// Keeps that a run waits, and that there is nothing to do about it. `stamps` are from before it was judged.
    pub fn keep(&self, assessment: &Assessment, stamps: &HashMap<RunId, Stamp>) {
        let id = assessment.entry.id();
        // One of which Slurm says nothing yet is absent, and is watched for that.
        if assessment.placed.open_jobs.is_empty() {
            return;
        }
        let order = assessment.manifest.as_ref().ok().and_then(|manifest| Some((manifest, manifest.job.as_ref()?)));
        if let (Liveness::Queued(_), Some((manifest, order)), Some(&entry)) =
            (&assessment.liveness, order, stamps.get(id))
        {
            let waiting = Waiting { token: order.token.clone(), triggered: manifest.triggered.clone(), entry };
            self.lock().insert(id.clone(), waiting);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_waits_on_until_its_entry_its_jobs_or_its_time_say_otherwise() {
        let dir = tempfile::tempdir().unwrap();
        let entry = Stamp::of(dir.path()).unwrap();
        let known = Waiting { token: "t".to_owned(), triggered: Moment::now(), entry };
        let jobs = |lines: &str| Jobs::of_output(lines.to_owned());
        let waits = jobs("moadim-a-1|t|7|PENDING||main|N/A|Priority");
        let later = |secs: u64| {
            let Moment { at, boot_id, since_boot_ms } = known.triggered.clone();
            Moment { at: at.plus_secs(secs), boot_id, since_boot_ms: since_boot_ms + 1000 * secs }
        };
        let holds = |entry, jobs: &Jobs, secs| known.holds("a-1", entry, jobs, &later(secs), 100);
        assert!(holds(entry, &waits, 100));
        assert!(!holds(entry, &waits, 101), "it has waited too long");
        assert!(!holds(entry, &Jobs::default(), 1), "Slurm knows no job of it, or did not answer");
        assert!(!holds(entry, &jobs("moadim-a-1|t|7|RUNNING|n1|main|N/A|None"), 1));
        let ended_once = "moadim-a-1|t|6|CANCELLED||main|1|None\nmoadim-a-1|t|7|PENDING||main|N/A|Priority";
        assert!(!holds(entry, &jobs(ended_once), 1), "an end that may not be noted");
        std::fs::write(dir.path().join("end.json"), "").unwrap();
        assert!(!holds(Stamp::of(dir.path()).unwrap(), &waits, 1));
    }
}
