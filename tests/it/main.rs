//! The real program, driven from outside: one test program, so that it is linked once and its tests wait side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

#[macro_use]
mod harness;

mod agent_options;
mod answers;
mod asked_schedules;
mod asking;
mod budgets;
mod cleanup;
mod cli;
mod cli_json;
mod cli_routines;
#[cfg(target_os = "linux")]
mod cli_service;
mod clocks;
mod completion;
mod crashes;
mod damaged;
#[cfg(feature = "dashboard")]
mod dashboard_command;
mod dashboard_http;
mod demo;
mod elsewhere;
mod ending;
mod environment;
mod escapees;
#[cfg(target_os = "linux")]
mod first_process;
#[cfg(target_os = "linux")]
mod first_thread;
#[cfg(target_os = "linux")]
mod full_disk;
#[cfg(target_os = "linux")]
mod hidden_processes;
mod history;
mod homes;
mod host_config_example;
mod hostile;
#[cfg(feature = "dashboard")]
mod http_api;
mod interrupted;
mod kept_bounds;
mod launch;
mod launch_kills;
mod limits;
mod liveness_faults;
mod liveness_windows;
mod locks;
mod login_shells;
mod looking;
mod main_job;
mod many_servers;
#[cfg(target_os = "linux")]
mod mounts;
mod notices;
mod old_home;
mod panel;
#[cfg(target_os = "linux")]
mod power_cut;
mod precheck;
mod prompts;
mod questions;
mod readme;
mod repositories;
mod resources;
mod retention;
mod routines;
mod runs;
mod schedule;
mod schedule_troubles;
mod setup;
mod setup_over_ssh;
mod shown;
mod slow_triggers;
#[cfg(target_os = "linux")]
mod slurm;
mod state_table;
mod state_table_start;
mod subscriptions;
mod supervisor;
mod survivors;
mod take_over;
mod tasks;
mod terminal;
#[cfg(target_os = "linux")]
mod time_zone;
mod tools;
mod unread_stderr;
mod unsaved;
mod unsaved_bounds;
mod unsaved_faults;
mod verification;
mod wire;
mod wire_fuzz;
