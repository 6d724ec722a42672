//! What the test programs have in common: a home of their own, the real server in it, and the processes of both.

mod another_user;
mod asked;
mod calls;
#[cfg(target_os = "linux")]
mod cluster;
mod commands;
#[cfg(feature = "dashboard")]
mod dashboard;
mod home;
mod live;
mod mounts;
mod processes;
mod scene;
mod server;
mod sshd;
mod stage;
mod tmux;
mod trusted;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use another_user::{give_to_nobody, root_may_become_another_user, run_as_nobody};
pub use asked::{ASKS, ASKS_AND_STAYS, ASKS_UNTIL_DONE};
pub use calls::text;
#[cfg(target_os = "linux")]
pub use cluster::{Cluster, Daemon, Settings, compile};
pub use commands::{Answer, script_is_there};
#[cfg(feature = "dashboard")]
pub use dashboard::{Dashboard, HttpAnswer};
pub use home::{TestHome, copy_program};
pub use live::{Live, cut_the_power, kept_because, unwatched};
pub use mounts::{Mount, can_unshare, is_body, skip, with_mounts};
pub use processes::Seen;
pub use scene::{Run, Scene, assert_has, assert_says};
pub use server::{Era, Server, ToolAnswer};
pub use sshd::Sshd;
pub use stage::{HOUR, MINUTE, Stage, at, now, routine_view};
pub use tmux::{Host, tmux, tmux_is_there};
pub use trusted::{both_shells, lacks, sh};

/// Makes of each function a test for each session host; it takes the home and the host.
#[macro_export]
macro_rules! on_both_hosts {
    ($($test:ident,)+) => {
        mod tmux_host { $(#[test] fn $test() { $crate::harness::on(super::Host::Tmux, super::$test); })+ }
        mod detached_host { $(#[test] fn $test() { $crate::harness::on(super::Host::Detached, super::$test); })+ }
    };
}

/// Runs a test in a home whose runs are watched on `host`; does nothing where that cannot be.
pub fn on(host: Host, test: fn(TestHome, Host)) {
    if let Some(home) = host.home() {
        test(home, host);
    }
}

/// The longest that anything here waits for the server, unless a test says otherwise. Generous, because the machine may be busy;
/// what must be fast is measured by its test.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Sets a flag when it goes, also because a test has failed: threads that work until then would never end.
pub struct SetOnDrop<'a>(pub &'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Looks again and again until there is something to return. The pauses grow with the time that has passed: most of what is
/// waited for comes at once, and a look at all processes costs milliseconds that other tests could use.
#[track_caller]
pub fn wait_for<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        let waited = began.elapsed();
        assert!(waited < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep((waited / 10).clamp(Duration::from_millis(5), Duration::from_millis(50)));
    }
}

#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(PATIENCE, what, || condition().then_some(()));
}

/// Whether tests may take their time (`MOADIM_LONG_TESTS=1`).
pub fn may_take_long() -> bool {
    std::env::var_os("MOADIM_LONG_TESTS").is_some_and(|value| value == "1")
}
