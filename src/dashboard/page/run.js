// The page of one run: what it says, how it ended, what it left, and its log.

/** The open run. @type {{answer: any, error: string, log: LogView, at: number} | null} */
let opened = null;
/** Where the overview was left. */
const left = { scroll: 0, from: /** @type {Element | null} */ (null) };

/** @param {string} id */
function openRun(id) {
  if (inHost) goTo(id);
  else location.hash = `run=${encodeURIComponent(id)}`;
}
function closeRun() {
  if (inHost) goTo("");
  else location.hash = "";
}

/** Shows a run, or the overview. @param {string} id */
function goTo(id) {
  if (id === ui.open) return;
  if (id && !ui.open) Object.assign(left, { scroll: scrollY, from: document.activeElement });
  ui.open = id;
  opened = id ? { answer: null, error: "", log: new LogView(id), at: 0 } : null;
  if (id) {
    draw();
    scrollTo(0, 0);
    void opened?.log.tail();
    void look();
  } else {
    drawNow();
    scrollTo(0, left.scroll);
    if (left.from instanceof HTMLElement && left.from.isConnected) left.from.focus({ preventScroll: true });
  }
}

/** Asks for all that is known of the open run. */
async function look() {
  const open = opened;
  if (!open) return;
  open.at = Date.now();
  try {
    open.answer = await link.call("get_run", { run: open.log.run });
    open.error = "";
  } catch (error) {
    open.error = /** @type {Error} */ (error).message;
  }
  const isOver = open.answer && open.answer.liveness === "finished";
  if (isOver && !open.log.isOver) {
    open.log.isOver = true;
    void open.log.follow();
  }
  draw();
}

/** @param {any} origin */
function whyStarted(origin) {
  /** @type {Record<string, () => Kids>} */
  const words = {
    schedule: () => ["by its schedule", origin.occurrence ? [", for ", time(origin.occurrence, (at) => format("moment", at))] : null],
    retry: () => [`attempt ${origin.attempt ?? "?"} of `, bdi(origin.of)],
    reset: () => ["again after the usage limit, attempt ", String(origin.attempt ?? "?"), " of ", bdi(origin.of)],
  };
  return (words[origin?.by] ?? (() => "by a call"))();
}

/** @param {any} work */
function workWords(work) {
  const counts = [
    work.unpushed_commits && plural(work.unpushed_commits, "commit") + " not pushed",
    work.changed_files && plural(work.changed_files, "changed file"),
    work.untracked_files && plural(work.untracked_files, "untracked file"),
    work.stashes && plural(work.stashes, "stash", "stashes"),
    (work.insertions || work.deletions) && `+${count(work.insertions ?? 0)} −${count(work.deletions ?? 0)} lines`,
  ].filter(Boolean);
  return h("p", { key: work.path }, h("code", bdi(work.path)), work.branch ? [" on ", h("code", bdi(work.branch))] : null, ": ",
    work.unreadable ? ["could not be examined: ", bdi(work.unreadable)] : counts.join(", ") || "nothing unsaved",
    work.not_archivable ? [" (cannot be archived: ", bdi(work.not_archivable), ")"] : null,
    work.pushed_branches?.length ? [h("br"), "pushed ", work.pushed_branches.map((/** @type {string} */ name) => [h("code", { key: name }, bdi(name)), " "])] : null);
}

function runPage() {
  const held = view.runs.find((run) => run.id === ui.open);
  const { answer, error, log } = opened ?? {};
  const run = { ...held?.row, ...answer?.run };
  const id = ui.open;
  const status = held?.alive ? held.status : (run.outcome ?? run.status ?? "");
  const isAlive = held?.alive ?? (answer && answer.liveness !== "finished");
  const place = `page ${id}`;
  const routine = run.routine ?? id.replace(/-\d+$/, "");
  const { output = {} } = run;
  const { usage } = output;
  const triggered = Date.parse(run.triggered_at ?? "");
  const isLate = (run.disagreements ?? []).length > 0;
  const result = [
    status ? h("p", statusWord(status)) : null,
    run.status_reason ?? run.reason ? h("p", bdi(run.status_reason ?? run.reason)) : null,
    run.exit_code === undefined ? null : h("p", `exit status ${run.exit_code}`),
    run.signal === undefined ? null : h("p", `signal ${run.signal}`),
  ];
  const needs = { login: "a login", money: "credit or a plan" }[/** @type {string} */ (output.needs)];
  /** @type {[Kids, Kids][]} */
  const pairs = [
    ["Result", result],
    ["Verification", run.verified === undefined ? null : run.verified ? "passed" : h("span.bad", "failed")],
    [isLate ? h("span.late", "But") : "But", (run.disagreements ?? []).map((/** @type {string} */ one) => h("p", { key: one }, DISAGREEMENTS[one] ?? one))],
    ["Triggered", Number.isFinite(triggered) ? [format("moment", triggered), " (", time(triggered), ") ", answer ? whyStarted(answer.origin ?? run.origin) : null] : null],
    [isAlive ? "For" : "Took", isAlive && Number.isFinite(triggered) ? ticks(() => span((now() - triggered) / 1000)) : run.duration_secs === undefined ? null : span(run.duration_secs)],
    ["Printed last", isAlive && answer?.last_output_at ? time(answer.last_output_at) : null],
    ["Agent", answer?.agent ? [bdi(answer.agent), output.model ? [" · ", bdi(output.model)] : null, Object.entries(answer.options ?? {}).map(([name, value]) => [" · ", bdi(`${name} = ${value}`)])] : null],
    ["Usage", usage || output.turns ? [
      usage ? `${count(usage.input_tokens ?? 0)} tokens in${usage.cached_tokens ? ` (${count(usage.cached_tokens)} cached)` : ""}, ${count(usage.output_tokens ?? 0)} out` : null,
      output.turns ? `${usage ? ", " : ""}${plural(output.turns, "turn")}` : null,
      usage?.cost_usd === undefined ? null : `, ${money(usage.cost_usd)} at list prices`,
      output.over_budget ? ", over its budget" : null,
      output.so_far ? ", so far" : null] : null],
    ["Denied", (output.denied ?? []).map((/** @type {any} */ one, /** @type {number} */ index) => [index ? ", " : "", bdi(one.tool), one.count > 1 ? ` × ${one.count}` : ""])],
    ["Needs", needs ?? null],
    ["Limit", output.limit ? [bdi(output.limit.kind), output.limit.resets_at ? [", resets ", time(output.limit.resets_at)] : null]
      : output.limit_warning ? [bdi(output.limit_warning.kind), output.limit_warning.used_percent === undefined ? null : ` is used to ${output.limit_warning.used_percent} %`, output.limit_warning.resets_at ? [", resets ", time(output.limit_warning.resets_at)] : null] : null],
    ["Work", (run.work ?? []).map(workWords)],
    ["Archive", answer?.archive ? [h("p", `${size(answer.archive.bytes ?? 0)}, ${plural(answer.archive.files ?? 0, "file")} in `, h("code", bdi(answer.archive.path)))] : null],
    ["Bring it back", answer?.recover_command ? copyable(answer.recover_command) : null],
    ["Workbench", answer?.retention ? [h("p", bdi(answer.retention)), run.reaped || run.status === "reaped" ? null : h("p", h("code", bdi(run.workbench)))] : null],
    ["Processes", answer?.processes?.length ? [answer.processes.slice(0, 12).map((/** @type {any} */ one) => h("p", { key: one.pid, class: "process" }, bdi(one.name), h("small", `${size(one.memory_bytes ?? 0)} · ${span((one.cpu_ms ?? 0) / 1000)} of CPU · pid ${one.pid}`))),
      answer.processes_total > 12 ? h("p", `and ${answer.processes_total - 12} more`) : null] : null],
    ["Alive", isAlive && answer?.liveness_reason ? bdi(answer.liveness_reason) : null],
    ["Watch", isAlive ? [run.attach_command ? copyable(run.attach_command) : copyable(`moadim-mcp logs -f ${id}`), answer?.window_problem ? h("p", bdi(answer.window_problem)) : null] : null],
    ["Resume", run.resume_command ? copyable(run.resume_command) : null],
    ["Command", answer?.command?.length ? h("code", bdi(answer.command.join(" "))) : null],
  ];
  return [
    h("div.run-head", { key: "run-head" },
      button("← Overview", closeRun, QUIET),
      h("div.what",
        h("h1", { key: id, tabindex: -1, focus: true }, status ? icon(statusOf(status)[0], status === "running" ? "pulse" : "") : null, bdi(titleOf(routine))),
        h("p", h("code", bdi(id)), run.pinned ? h("span.tag", "pinned") : null)),
      h("div.buttons",
        isAlive ? stopButton(id, place) : toolButton("Run again", { place, tool: "trigger_routine", args: { routine }, done: ({ run: made }) => ({ text: `The run ${made?.id ?? ""} has started.`, open: made?.id }) }),
        answer && run.status !== "reaped" && !run.reaped ? pinButton(id, Boolean(run.pinned), place) : null),
      strip(place)),
    h("main.run-page", { key: "run" },
      h("section.card.facts-card", { "aria-label": "Facts" },
        error ? h("p.bad", bdi(error)) : null,
        isAlive && held?.row.max_runtime_secs ? bar(() => (now() - held.at) / 1000 / (held.row.max_runtime_secs ?? 1), "live") : null,
        facts(pairs)),
      h("div.stack",
        run.report?.text || run.report?.headline ? h("section.card.report", { key: "report", "aria-label": "Report" }, h("div.head", h("h2", "Report"), h("small", "in its agent's words")),
          h("div.prose", bdi(run.report.text ?? run.report.headline)), run.report.is_cut ? h("p.aside", "This is its beginning; the rest is in report.md.") : null) : null,
        output.result && output.result !== run.report?.text ? h("details.card.report", { key: "result", open: !run.report }, h("summary", "Last message of its agent"), h("div.prose", bdi(output.result))) : null,
        log ? log.draw() : null)),
  ];
}
