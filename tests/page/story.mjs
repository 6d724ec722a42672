// A home as it may look after four weeks: the same on each start, but for the time that it is told at.

const HOUR = 3600, DAY = 86_400;

function random(seed) {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 4294967296;
    return state / 4294967296;
  };
}
const iso = (at) => new Date(Math.floor(at) * 1000).toISOString().replace(".000", "");

const ROUTINES = [
  { slug: "dep-updates", title: "Dependency updates", hours: [3], took: 1270, good: 0.9, bound: 3600, says: "Every day at 03:00", cost: 0.9, tags: ["maintenance"] },
  { slug: "flaky-test-hunt", title: "Hunt flaky tests", hours: [1, 7, 13, 19], took: 613, good: 0.45, bound: 1800, says: "Every 6 hours", cost: 0.4, tags: ["tests", "nightly"] },
  { slug: "issue-triage", title: "Triage new issues", hours: [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22], took: 185, good: 0.93, bound: 900, says: "Every 2 hours", cost: 0.08, tags: ["issues"] },
  { slug: "docs-links", title: "Docs: check links", hours: [5.5], took: 256, good: 0.85, bound: 1800, says: "Every day at 05:30", cost: 0.05 },
  { slug: "morning-briefing", title: "Morning briefing", hours: [7], took: 421, good: 0.96, bound: 1800, says: "Every day at 07:00", cost: 0.21, tags: ["report"] },
  { slug: "parser-spike", title: "Refactoring spike: parser", hours: [], took: 6480, good: 0.4, bound: 7200, says: "", cost: 3.1, silence: 600 },
  { slug: "release-notes", title: "Translate release notes", hours: [], took: 1693, good: 1, bound: 3600, says: "", cost: 0.7, disabled: true },
  { slug: "security-audit", title: "Weekly security audit", hours: [2], weekday: 0, took: 4020, good: 0.75, bound: 7200, says: "Every Sunday at 02:00", cost: 2.4, tags: ["security"] },
];
const GOOD = ["Checked 214 links, all answer", "Triaged 6 issues: 2 bugs, 3 questions, 1 duplicate", "Opened a pull request with 4 updates", "Nothing new since yesterday", "Ran the suite 40 times; no test failed"];
const BAD = ["its agent exited with status 1", "the agent reports success, verification failed: npm exited with status 1: 2 tests failed", "its agent exited with status 101"];
const HOSTILE = '<img src=x onerror=alert(1)><script>alert(2)</script> \u202egnp.exe \u001b[31m"\'&' + "W".repeat(180);

/** @param {{hostile?: boolean, routines?: number, runs?: number}} [how] */
export function story({ hostile = false, routines: many = 8, runs: enough = 400 } = {}) {
  const next = random(7);
  const now = Math.floor(Date.now() / 1000);
  const midnight = now - (now % DAY);
  const defined = ROUTINES.map((one) => ({ ...one }));
  for (let n = defined.length; n < many; n += 1) defined.push({ ...ROUTINES[n % 5], slug: `routine-${n}`, title: `Routine ${n}` });
  const text = (plain) => (hostile ? `${plain} ${HOSTILE}` : plain);
  const ended = [];
  const days = Math.max(1, Math.ceil(enough / 400)) * 28;
  for (const one of defined) {
    const density = Math.ceil(days / 28);
    for (let day = 27; day >= 0; day -= 1) {
      const at0 = midnight - day * DAY;
      let hours = one.weekday === undefined ? one.hours : new Date(at0 * 1000).getUTCDay() === one.weekday ? one.hours : [];
      if (one.slug === "parser-spike" && [26, 21, 16, 11, 6, 2, 1].includes(day)) hours = [10.2];
      if (one.slug === "release-notes" && [26, 19, 12, 6].includes(day)) hours = [15.4];
      for (const hour of hours.flatMap((hour) => Array.from({ length: density }, (_, n) => hour + n * 0.11))) {
        const at = Math.floor(at0 + hour * HOUR + next() * 20);
        const took = Math.floor(one.took * (0.5 + next() * 0.9));
        if (at + took > now - 60) continue;
        const luck = next();
        const streak = one.slug === "parser-spike" && day < 3;
        const status = !streak && luck < one.good ? "succeeded" : ["failed", "failed", "failed", "timed_out", "silent", "stopped", "lost", "interrupted", "limited", "launch_failed"][Math.floor(next() * 10)];
        const bad = status !== "succeeded";
        const age = now - at;
        const keep = bad ? 3 * DAY : one.slug === "issue-triage" ? 12 * HOUR : DAY;
        const reaped = age > keep + 9 * HOUR;
        ended.push({
          id: `${one.slug}-${at}`, routine: one.slug, status: streak && day === 1 ? "timed_out" : streak ? "failed" : status, triggered_at: iso(at), finished_at: iso(at + took), duration_secs: took,
          ...(bad && { reason: text(status === "failed" ? BAD[Math.floor(next() * 3)] : status === "timed_out" ? "it was ended at its bound" : status === "silent" ? "it printed nothing for 10 minutes" : status === "limited" ? "the account's 5-hour limit is used up; it resets at 16:23" : "nobody knows how it ended") }),
          ...(!bad && next() < 0.8 && { headline: text(GOOD[Math.floor(next() * GOOD.length)]) }),
          ...(!bad && next() < 0.04 && { disagreements: ["no_report"] }),
          ...(next() < 0.8 && { cost_usd: Math.round(one.cost * (0.6 + next()) * 1000) / 1000 }),
          ...(reaped ? { reaped: true, ...(bad && next() < 0.3 && { archived: true }) } : { reap_at: iso(at + took + keep), ...(next() < 0.08 && { pinned: true }), ...(bad && next() < 0.3 && { unsaved: true }) }),
        });
      }
    }
  }
  const live = ["parser-spike", "issue-triage", "flaky-test-hunt"].map((slug, index) => {
    const one = defined.find((routine) => routine.slug === slug);
    const at = now - [5900, 158, 412][index];
    return {
      id: `${slug}-${at}`, routine: slug, title: text(one.title), status: "running", triggered_at: iso(at), started_at: iso(at + 4), max_runtime_secs: one.bound,
      last_output_at: iso(now - [190, 1, 3][index]), ...(one.silence && { max_silence_secs: one.silence }), log_bytes: 4096, attach_command: `moadim-mcp attach ${slug}-${at}`,
      ...(index === 1 && { headline: text("Reading issue 14 of 20") }),
    };
  });
  ended.sort((a, b) => (a.triggered_at < b.triggered_at ? 1 : -1));
  const routines = defined.map((one) => {
    const of = ended.filter((run) => run.routine === one.slug);
    const counted = of.filter((run) => !["stopped", "limited", "skipped"].includes(run.status));
    const fires = [];
    for (let day = 0; day < 8 && fires.length < 50; day += 1) for (const hour of one.hours) {
      const at = midnight + day * DAY + hour * HOUR;
      if (at > now && at < now + 7 * DAY && (one.weekday === undefined || new Date(at * 1000).getUTCDay() === one.weekday)) fires.push(iso(at));
    }
    return {
      slug: one.slug, title: text(one.title), agent: "claude", agent_available: one.slug !== "release-notes", enabled: !one.disabled,
      ...(one.disabled && { disabled_because: "a person disabled it" }), ...(one.says && { schedule_description: one.says, timezone: "Europe/Berlin" }),
      running: live.filter((run) => run.routine === one.slug).map((run) => run.id), next_fires: fires,
      fires_per_day: Array.from({ length: 28 }, (_, day) => (one.weekday === undefined || new Date((midnight + day * DAY) * 1000).getUTCDay() === one.weekday ? (day ? one.hours.length : fires.filter((at) => Date.parse(at) / 1000 < midnight + DAY).length) : 0)),
      recent: of.slice(0, 20).reverse().map(({ id, status, duration_secs }) => ({ id, status, duration_secs })),
      ...(counted.length && { success_rate: counted.filter((run) => run.status === "succeeded").length / counted.length, median_secs: one.took }),
      cost_usd_7d: one.cost * Math.max(1, one.hours.length) * 7, tags: (one.tags ?? []).map(text), used_today: { runs: 3, cost_usd: 1.2, unknown_cost_runs: 0, until: iso(midnight + DAY) },
    };
  });
  const kept = ended.filter((run) => !run.reaped);
  const expired = kept.filter((run) => Date.parse(run.reap_at) / 1000 < now && !run.pinned);
  const failing = ended.filter((run) => run.routine === "parser-spike")[0];
  const attention = [
    { key: "failing parser-spike", kind: "failing", severity: "problem", text: text("Refactoring spike: parser ended badly 2 times in a row"), routine: "parser-spike", run: failing?.id, at: failing?.finished_at, fix: text("read its log; the bound of 2 h may be too short") },
    { key: "problem shell", kind: "problem", severity: "problem", text: text("the login shell /bin/bash was silent for 4 s"), fix: text("look at the shell's start-up files; agents with login_shell = false start without it"), command: "moadim-mcp doctor" },
    { key: "hold claude", kind: "hold", severity: "notice", text: "agent 'claude' is at its 5-hour limit; scheduled runs wait", at: iso(now + 3600), agent: "claude" },
    { key: "disabled release-notes", kind: "disabled", severity: "notice", text: text("Translate release notes was disabled after 5 failures in a row"), routine: "release-notes", action: { label: "Enable", tool: "update_routine", arguments: { routine: "release-notes", enabled: true } } },
  ];
  const plan = [
    ...expired.map((run) => ({ run: run.id, what: "remove", why: "expired", reason: "it finished 20 h ago, and is kept for 12 h", bytes: 143_000 })),
    ...kept.filter((run) => !expired.includes(run)).map((run) => ({ run: run.id, what: "keep", why: run.pinned ? "pinned" : "young", reason: text(run.pinned ? "it is pinned" : "its retention has not passed"), ...(run.pinned ? {} : { until: run.reap_at }) })),
    ...live.map((run) => ({ run: run.id, what: "keep", why: "alive", reason: "it is alive" })),
  ];
  const used = 1_940_000_000;
  return {
    server: { head: { program: "0.2.0", home: "/home/ada/.moadim", time_zone: "Europe/Berlin", agents_available: 3, routines_total: routines.length, runs_total: ended.length + live.length,
      tools: ["show_dashboard", "dashboard_data", "trigger_routine", "stop_run", "pin_run", "snooze_routine", "update_routine", "get_run", "get_routine", "read_log", "cleanup_workbenches"] } },
    attention: { head: {}, rows: attention },
    live: { rows: live },
    routines: { rows: routines },
    ended: { head: { since: iso(now - 28 * DAY), older_total: 1210, per_day: [] }, rows: ended },
    disk: { head: { used_bytes: used, free_bytes: 212_000_000_000 }, rows: [
      { name: "workbenches", path: "/home/ada/.moadim/workbenches", bytes: 37_400_000, bytes_complete: true, max_bytes: 2_147_483_648, if_lost: "nothing", goes_next: kept.length ? { name: kept.at(-1).id, at: kept.at(-1).reap_at } : undefined },
      { name: "archive", path: "/home/ada/.moadim/archive", bytes: 412_000_000, bytes_complete: true, max_bytes: 10_737_418_240, max_age_secs: 90 * DAY, if_lost: "work", goes_next: { name: "flaky-test-hunt-1795699816", at: iso(now + 40 * DAY) } },
      { name: "cache", path: "/home/ada/.moadim/cache", bytes: 1_480_000_000, bytes_complete: false, max_bytes: 10_737_418_240, max_age_secs: 30 * DAY, if_lost: "time" },
      { name: "history", path: "/home/ada/.moadim", bytes: 8_600_000, bytes_complete: true, max_bytes: 67_108_864, max_age_secs: 365 * DAY, if_lost: "records" } ] },
    plan: { head: { as_of: iso(now), removable_bytes: expired.length * 143_000, removable_total: expired.length, kept_total: plan.length - expired.length }, rows: plan },
    usage: { head: { since: iso(now - 7 * DAY), total: { runs: 143, input_tokens: 48_000_000, output_tokens: 1_900_000, cost_usd: 41.37 }, today: { runs: 14, cost_usd: 4.12, max_daily_cost_usd: 15, unknown_cost_runs: 3, until: iso(midnight + DAY) } },
      rows: [{ name: "claude", runs: 128, input_tokens: 44_000_000, output_tokens: 1_700_000, cost_usd: 41.37 }, { name: "codex", runs: 15, input_tokens: 4_000_000, output_tokens: 200_000 }] },
  };
}

/** What get_run answers for a run of the story. */
export function inspection(data, id, hostile) {
  const live = data.live.rows.find((run) => run.id === id);
  const row = live ?? data.ended.rows.find((run) => run.id === id);
  if (!row) return null;
  const bad = row.status !== "succeeded" && !live;
  const { reason, headline, reaped, cost_usd, ...rest } = row;
  return {
    agent: "claude", options: { model: "opus", permissions: "workspace" },
    liveness: live ? "alive" : "finished", liveness_reason: live ? "its supervisor holds its lock" : "its end is recorded, and it has no entry in running/ any more",
    retention: live ? "its workbench stays: it is alive" : reaped ? "its workbench is gone" : `its workbench is kept for 1 day from ${row.finished_at}; the first sweep from ${row.reap_at} on removes it`,
    origin: { by: "schedule", occurrence: row.triggered_at },
    processes: live ? [{ pid: 4120, name: "claude", cpu_ms: 91_200, memory_bytes: 412_000_000 }, { pid: 4188, name: hostile ? HOSTILE : "cargo", cpu_ms: 312_000, memory_bytes: 96_000_000 }, { pid: 4101, name: "moadim-mcp", cpu_ms: 40, memory_bytes: 7_300_000 }] : [],
    processes_total: live ? 3 : 0, last_output_at: live ? row.last_output_at : row.finished_at,
    ...(live && { command: ["claude", "-p", "--output-format", "stream-json"] }),
    ...(bad && { recover_command: `moadim-mcp recover ${id}`, archive: { path: `/home/ada/.moadim/archive/${id}`, bytes: 48_000, repositories: ["src"], files: 3 } }),
    run: {
      ...rest, status: reaped ? "reaped" : row.status, ...(reaped && { outcome: row.status }), ...(reason && { status_reason: reason }), workbench: `/home/ada/.moadim/workbenches/${id}`,
      ...(bad && { exit_code: 1, verified: false, disagreements: ["verification_failed"], work: [{ path: "src", branch: hostile ? HOSTILE : "fix/flaky-sweep", unpushed_commits: 2, changed_files: 3, untracked_files: 1, insertions: 48, deletions: 12 }] }),
      ...(!live && { resume_command: `cd /home/ada/.moadim/workbenches/${id} && claude --resume 5f1c` }),
      output: { model: "claude-opus-5", turns: 21, usage: { input_tokens: 412_900, cached_tokens: 390_100, output_tokens: 18_240, ...(cost_usd && { cost_usd }) }, denied: [{ tool: "WebFetch", count: 2 }] },
      ...(!live && { report: { headline: headline ?? "Two tests stay flaky", text: hostile ? `# ${HOSTILE}\n${HOSTILE}` : "# Two tests stay flaky\n\nRan the suite 40 times on main.\n\n- `timing::sweep_is_quick` failed 3 times: it measures wall time under load. I made it measure CPU time, on branch fix/flaky-sweep.\n- `net::two_clients` failed once: a port was taken. Not fixed; it needs a decision.\n\nNothing was pushed." } }),
    },
  };
}
