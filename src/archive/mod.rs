//! Work that exists only in a workbench: it is archived, and the archive proven complete, before the workbench goes.
//!
//! [`examine`] looks, [`make`] archives, [`recover`] brings back. [`crate::git`] knows what git may be asked about a run's
//! repository; this module knows runs, files, and where archives are.

mod files;
mod look;
mod make;
mod record;
mod recover;
mod scratch;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use files::Unarchived;
pub(crate) use look::{
    Unsaved, Wanted, estimate, examine, examine_at_end, examine_patiently, may_hold_work, unarchived,
};
pub(crate) use make::make;
pub(crate) use record::{Archive, recover_command};
pub(crate) use recover::{Recovered, recover};
pub(crate) use store::{
    add_clone, all, bases, directory, file, has_been_recovered, is_recovered, is_whole, read, remove, remove_unused,
};
