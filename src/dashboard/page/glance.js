// The top of the page: tiles, what needs attention, and what runs now.

/** @param {string} id @param {string} title @param {Kids} tools @param {Kids[]} kids */
const section = (id, title, tools, ...kids) =>
  h("section", { key: id, id, class: id, tabindex: -1, "aria-labelledby": `${id}-title` },
    h("div.head", h("h2", { id: `${id}-title` }, title), tools), kids);

/** One of several. @param {string} label @param {string[][]} options @param {string} chosen @param {(value: string) => void} choose */
const choice = (label, options, chosen, choose) =>
  h("div.choice", { role: "group", "aria-label": label },
    options.map(([value = "", text]) => button(text, () => change(() => choose(value)), { key: value, "aria-pressed": String(value === chosen) })));

/** @param {string} id */
function jump(id) {
  const target = document.getElementById(id);
  target?.scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth", block: "start" });
  target?.focus({ preventScroll: true });
}

/** @param {Run[]} runs @param {number} since */
function tally(runs, since) {
  const ended = runs.filter((run) => !run.alive && run.end >= since);
  const failed = ended.filter((run) => FAILURES.has(run.status)).length;
  const good = ended.filter((run) => run.status === "succeeded").length;
  return { ended: ended.length, failed, rate: good + failed ? good / (good + failed) : undefined, counted: good + failed };
}

function tiles() {
  const live = view.runs.filter((run) => run.alive);
  const day = tally(view.runs, now() - DAY);
  const week = tally(view.runs, now() - 7 * DAY);
  const [next] = coming();
  const { head } = part("disk");
  const { removable_bytes: removable, removable_total: goes } = part("plan").head;
  const today = part("usage").head["today"] ?? {};
  const spent = part("usage").head["total"]?.cost_usd;
  /** @param {string} label @param {Kids} value @param {Kids} more @param {string} to @param {string} [kind] @param {() => void} [first] */
  const tile = (label, value, more, to, kind = "", first) =>
    h("li", { key: label }, button([h("span.label", label), h("strong", { class: kind }, value), h("span.more", more)], () => {
      if (first) change(first);
      jump(to);
    }, { class: "tile" }));
  const bad = () => Object.assign(ui, { filter: "bad", routine: "", runsShown: 0 });
  return h("ul.tiles", { key: "tiles", "aria-label": "At a glance" },
    tile("Running", count(live.length), live.length ? live.map((run, index) => [index ? ", " : "", bdi(titleOf(run.routine))]) : "nothing", "now", live.length ? "live" : ""),
    tile("Failed, 24 h", count(day.failed), `of ${plural(day.ended, "run")}`, "runs", day.failed ? "bad" : "", bad),
    tile("Success, 7 d", week.rate === undefined ? "–" : percent(week.rate), `of ${plural(week.counted, "run")}`, "routines"),
    tile("Next", next ? time(next.at) : "–", next ? bdi(titleOf(next.routine.slug)) : "nothing is scheduled", "timeline"),
    today.cost_usd === undefined && spent === undefined ? null
      : tile("Cost, today", money(today.cost_usd ?? 0), spent === undefined ? plural(today.runs ?? 0, "run") : [money(spent), part("usage").head["since"] ? [" since ", time(part("usage").head["since"], (at) => format("date", at))] : null], "disk"),
    head["used_bytes"] === undefined ? null
      : tile("Disk", size(head["used_bytes"]), goes ? `${size(removable ?? 0)} can go now` : "nothing to clean up", "disk", head["low"] ? "bad" : ""));
}

function attention() {
  const snoozed = part("attention").head["snoozed_until"];
  /** @type {AttentionRow[]} */
  const all = rows("attention");
  all.sort((a, b) => Number(b.severity === "problem") - Number(a.severity === "problem"));
  if (!all.length && !snoozed) return null;
  return section("attention", "Needs attention", null, h("ul.notices",
    snoozed ? h("li.notice", { key: "snoozed" }, icon("off"),
      h("div", h("p", h("b", "All schedules are snoozed"), " and fire again ", time(snoozed), ".")),
      h("div.buttons", toolButton("End the snooze", { place: "snoozed", tool: "snooze_routine", args: {}, done: () => "Schedules fire again." })),
      strip("snoozed")) : null,
    all.map(attentionRow)));
}

/** @param {AttentionRow} row */
function attentionRow({ key, severity, text, fix, routine, run, at, command, action }) {
  const place = `attention ${key}`;
  const asks = action && { stop_run: "Stop this run and all of its processes?", cleanup_workbenches: "Clean up now? The plan below says what goes.", update_routine: action.arguments["enabled"] === false ? "Disable this routine?" : "" }[action.tool];
  return h("li", { key, class: `notice ${severity}` }, icon(severity === "problem" ? "bad" : "late"),
    h("div", null,
      h("p", h("b", bdi(text)), at ? [" ", h("small", time(at))] : null),
      fix ? h("p.fix", bdi(fix)) : null,
      command ? copyable(command) : null),
    h("div.buttons",
      run ? button("Open the run", () => openRun(run), QUIET) : routine ? button("Show its runs", () => showRoutine(routine), QUIET) : null,
      action ? toolButton(action.label, { place, tool: action.tool, args: action.arguments, ...(asks && { ask: asks, label: action.label }), done: () => `Done: ${action.label}.` }) : null),
    strip(place));
}

/** How much of a bound is used. @param {() => number} share @param {Tone} tone */
const bar = (share, tone) =>
  h("span", { class: `bar ${tone}`, "aria-hidden": "true", tick: (/** @type {HTMLElement} */ node) => {
    if (!node.firstChild) node.append(document.createElement("i"));
    const used = Math.min(1, Math.max(0, share()));
    node.classList.toggle("near", used > 0.8);
    /** @type {HTMLElement} */ (node.firstChild).style.setProperty("width", pc(used * 100));
  } });

/** @param {Run} run */
function liveCard({ id, routine, status, row, at, reason, headline }) {
  const place = `live ${id}`;
  const { max_runtime_secs: bound, max_silence_secs: quiet, last_output_at: said, started_at: started, title } = row;
  const used = () => (now() - at) / 1000;
  const heard = Date.parse(said ?? started ?? "");
  const silence = () => (now() - heard) / 1000;
  return h("li.card.run-card", { key: id },
    h("div.line", icon(statusOf(status)[0], status === "running" ? "pulse" : ""),
      button(bdi(title || titleOf(routine)), () => openRun(id), { class: "link title" }),
      status === "running" ? null : h("small", statusOf(status)[1])),
    h("p.says", bdi(headline ?? reason)),
    h("div.bounds",
      h("span", ticks(() => span(used())), bound ? ` of ${roughly(bound)}` : null),
      bound ? bar(() => used() / bound, "live") : null,
      Number.isFinite(heard) ? [h("span", "silent ", ticks(() => roughly(silence())), quiet ? ` of ${roughly(quiet)}` : null), quiet ? bar(() => silence() / quiet, "live") : null] : null),
    h("div.buttons", button("Log", () => openRun(id), { class: "quiet", "aria-label": `Log of ${id}` }), stopButton(id, place, { "aria-label": `Stop ${id}` })),
    strip(place));
}

function nowRunning() {
  const live = view.runs.filter((run) => run.alive);
  const [next] = coming();
  return section("now", "Now", live.length > 1 ? h("small", plural(live.length, "run")) : null,
    live.length ? h("ul.cards", live.slice(0, 24).map(liveCard))
      : h("p.card.calm", "Nothing is running.", next ? [" ", bdi(titleOf(next.routine.slug)), " is next, ", time(next.at), "."] : null),
    live.length > 24 ? h("p", `${live.length - 24} more are in the list of runs.`) : null);
}
