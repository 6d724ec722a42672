//! Runs on a real Slurm cluster, against Slurm's own commands. Skipped, with the reason, where there is none.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moadim_mcp::janitor::watchdog as passes;
use moadim_mcp::run::context::Context;
use serde_json::json;

use crate::harness::{Cluster, PATIENCE, Server, TestHome, text, wait_for};
use crate::population;
use crate::timing::{Times, row, row_of_ratio, run};

const ROUNDS: usize = 15;
const QUEUED: usize = 1_000;
const ROUTINES: usize = 20;
const JOBS: usize = 10_000;
/// What a look asks for (`SQUEUE_ARGUMENTS` in `engine/slurm`).
const LOOK: [&str; 9] = ["-h", "--me", "-a", "-t", "all", "-S", "i", "-o", "%j|%k|%i|%T|%N|%P|%e|%r"];

fn home() -> TestHome {
    TestHome::detached("engine = \"slurm\"\nslurm_max_jobs = 100000\nwatchdog_interval_secs = 600\n")
}

/// From the submission to the start, of an agent and of a bare job in turn.
pub fn submission() {
    let home = home();
    let Some(cluster) = Cluster::start() else { return };
    let mut server = cluster.server(&home);
    let (ran, bare) = (home.scratch().join("ran"), home.scratch().join("bare"));
    let touch = |file: &std::path::Path| format!("echo > {}", file.display());
    server.create("Figures", &touch(&ran), json!({}));
    let script = home.script("bare.sh", &touch(&bare));
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    let await_file = |file: &std::path::Path| {
        wait_for(PATIENCE, "the start", || file.exists().then_some(()));
        std::fs::remove_file(file).unwrap();
    };
    // The first copies our program into the home.
    for round in 0..=ROUNDS {
        let (mut first, mut other) = (Times::default(), Times::default());
        let (our, their) = if round == 0 { (&mut first, &mut other) } else { (&mut ours, &mut theirs) };
        our.measure(|| {
            server.ok("trigger_routine", json!({ "routine": "figures", "overlap": "allow" }));
            await_file(&ran);
        });
        their.measure(|| {
            let mut sbatch = Command::new("sbatch");
            sbatch.args(["--output=/dev/null", "--job-name=bare"]).arg(&script);
            run(&mut cluster.on_login(&sbatch));
            await_file(&bare);
        });
    }
    row_of_ratio(
        "`trigger_routine` to agent started on a node, against `sbatch` to job started",
        &ours,
        &theirs,
        "<= 1.3x",
    );
}

/// A watchdog pass over many queued runs, against one `squeue`; and what a call takes meanwhile.
pub fn queued() {
    let home = home();
    let Some(cluster) = Cluster::with(|settings| (settings.nodes, settings.cpus) = (1, 1)) else { return };
    let mut server = cluster.server(&home);
    for routine in 0..ROUTINES {
        server.create(&format!("Queued {routine}"), "exec sleep 3000", json!({}));
    }
    for n in 0..QUEUED {
        let routine = format!("queued-{}", n % ROUTINES);
        server.ok("trigger_routine", json!({ "routine": routine, "overlap": "allow" }));
    }
    let mut look = Command::new(std::env::current_exe().unwrap());
    look.arg("slurm-pass").arg(home.root());
    let seen = cluster.on_login(&look).output().unwrap();
    print!("{}", String::from_utf8_lossy(&seen.stdout));
    assert!(seen.status.success(), "{seen:?}");

    home.configure_detached("engine = \"slurm\"\nwatchdog_interval_secs = 1\n");
    let mut other = cluster.server(&home);
    let listed = calls(&mut server);
    let ours = format!("{:.1} ms (p99 {:.1})", listed.median(), listed.percentile(99));
    row(&format!("`list_runs`, 20 of {QUEUED} queued runs, a watchdog pass every second"), &ours, "", "", "");
    drop(other.ok("list_runs", json!({})));
    // Ending each takes a call of Slurm; the cluster goes with all of them.
    drop((server, other, cluster));
}

fn calls(server: &mut Server) -> Times {
    let mut times = Times::default();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        times.measure(|| server.ok("list_runs", json!({})));
    }
    times
}

/// The part of [`queued`] that runs on the login machine: `slurm-pass HOME`.
pub fn pass(home: &std::path::Path) {
    let known = population::context(home);
    // Each asks Slurm, as passes do that are 30 s apart.
    let pass = || {
        let context = Context { slurm_looks: Arc::default(), ..known.clone() };
        assert_eq!(passes::pass(&context, None).unwrap(), passes::WatchReport::default());
    };
    let (mut first, mut ours, mut theirs) = (Times::default(), Times::default(), Times::default());
    first.measure(pass);
    for _ in 0..ROUNDS {
        ours.measure(pass);
        theirs.measure(|| run(Command::new("squeue").args(LOOK)));
    }
    row_of_ratio(&format!("watchdog pass, {QUEUED} queued runs, against one `squeue`"), &ours, &theirs, "<= 1.2x");
    row("the first pass of a server over them", &format!("{:.1} ms", first.median()), "", "", "");
}

/// A look where the user has many jobs, and what a call takes while another process looks.
pub fn look() {
    let home = home();
    let Some(cluster) = Cluster::with(|settings| (settings.nodes, settings.cpus) = (1, 1)) else { return };
    let mut server = cluster.server(&home);
    let routine = server.create("One", "exec sleep 3000", json!({}));
    let run = text(&server.ok("trigger_routine", json!({ "routine": routine }))["run"]["id"]);
    let each = JOBS / 8;
    let submit = format!(
        "for p in 1 2 3 4 5 6 7 8; do ( n=0; while [ $n -lt {each} ]; do n=$((n+1)); \
         sbatch --hold --output=/dev/null --wrap=: >/dev/null || exit 1; done ) & done; wait"
    );
    let answer = cluster.run("sh", ["-c", &submit]);
    answer.ok();
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        // Older than a call accepts.
        std::thread::sleep(Duration::from_millis(2_100));
        times.measure(|| server.ok("get_run", json!({ "run": run })));
    }
    let ours = format!("{:.0} ms (p99 {:.0})", times.median(), times.percentile(99));
    row(&format!("`get_run` of a queued run, {JOBS} jobs in the queue, Slurm asked each time"), &ours, "", "", "");

    home.configure_detached("engine = \"slurm\"\nslurm_max_jobs = 100000\nwatchdog_interval_secs = 1\n");
    let mut other = cluster.server(&home);
    drop(other.ok("list_runs", json!({})));
    let listed = calls(&mut server);
    let ours = format!("{:.1} ms (p99 {:.1})", listed.median(), listed.percentile(99));
    row(&format!("`list_runs`, {JOBS} jobs in the queue, a watchdog pass every second"), &ours, "", "", "");
    drop((server, other, cluster));
}
