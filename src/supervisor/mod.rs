//! What runs beside an agent: prepares its workbench, starts it, enforces its bound, leaves no survivor, records the outcome.
//!
//! One thread, one loop: every second, and at every signal, `watch` reaps what died and looks at what is asked. The
//! bound is read from the routine as it is now, so it holds and can be changed with no server alive.

mod check;
mod check_left;
mod children;
mod command_path;
mod ending;
mod exec;
mod finish;
mod job;
pub(crate) mod keys;
mod log_cap;
mod mirror;
mod precheck;
mod prepare;
mod setup_step;
mod silence;
mod start;
mod supervise;
mod supervision;
mod terminal;
mod unmarked;
mod unsaved;
mod verification;
mod wake;
mod watch;
mod workbench_identity;

pub use check_left::check_left;
pub use exec::{Part, exec_agent};
pub use supervise::supervise;
