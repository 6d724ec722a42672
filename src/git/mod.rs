//! Reads untrusted repositories with git, without running anything that they configure.
//!
//! An agent worked in it, so its configuration, hooks, filters and attributes are anybody's. Git therefore never gets the
//! repository as its own: a [`Shadow`] is a bare repository of ours with the run's refs and index copied as data, our own
//! configuration, and the run's objects as an alternate to read from. Every command has a fixed environment and a deadline.
//!
//! [`find`] lists the repositories below a directory, and [`look`] says what each of them holds that nobody else has.

mod base;
mod config_text;
mod disk;
mod find;
mod lfs;
mod look;
mod pack;
mod packed;
mod program;
mod restore;
mod roots;
mod shadow;
mod status;
#[cfg(test)]
mod tests;
mod verify;
mod work;

pub(crate) use base::Cloned;
pub(crate) use find::{Closed, Found, find};
pub(crate) use look::{Place, Seen, look, stamp};
pub(crate) use pack::{Target, has_real_parents, pack, size};
pub(crate) use packed::{Packed, base_pack};
pub(crate) use program::{Git, GitError, ObjectId};
pub(crate) use restore::{Source, restore};
pub(crate) use shadow::Shadow;
pub use work::Work;
pub(crate) use work::shown;
