// Routines and runs, as lists.

const RUNS_SHOWN = 12;
const MORE = 50;

/** Shows the runs of a routine. @param {string} slug */
function showRoutine(slug) {
  change(() => Object.assign(ui, { filter: "all", routine: slug, runsShown: 0, open: "" }));
  jump("runs");
}

function routines() {
  const wanted = ui.find.toLowerCase();
  const all = view.routines.filter(({ slug, title, agent, tags }) => [slug, title, agent, ...(tags ?? [])].some((text) => text?.toLowerCase().includes(wanted)));
  const shown = all.slice(0, ui.routinesShown);
  const find = view.routines.length > 10 && h("input", {
    type: "search", placeholder: "Find", "aria-label": "Find a routine", value: ui.find,
    oninput: (/** @type {any} */ event) => change(() => (ui.find = event.target.value)),
  });
  return section("routines", "Routines", [h("small", count(all.length)), find],
    all.length ? h("ul.card.list", shown.map(routineRow)) : h("p.card.calm", "No routine matches."),
    all.length > shown.length ? button(`Show more (${count(all.length - shown.length)})`, () => change(() => (ui.routinesShown += MORE)), { class: "more" }) : null);
}

/** When it fires, in words that tick. @param {RoutineRow} routine @returns {Kids} */
function firing(routine) {
  if (routine.enabled === false) return routine.disabled_because ? ["disabled: ", bdi(routine.disabled_because)] : "disabled";
  if (routine.schedule_problem) return h("span.bad", bdi(routine.schedule_problem));
  if (routine.waiting) return ["waits", routine.waiting_until ? [": starts ", time(routine.waiting_until)] : null];
  const next = routine.next_fires?.find((fire) => Date.parse(fire) > now());
  const snoozed = routine.snoozed_until && Date.parse(routine.snoozed_until) > now() ? ["snoozed, back ", time(routine.snoozed_until)] : null;
  return snoozed ?? (next ? [time(next), h("span.wide", " · ", time(next, (at) => format("moment", at)))] : "when triggered");
}

/** @param {RoutineRow} routine */
function routineRow(routine) {
  const { slug, title, enabled, running = [], recent = [], success_rate: rate, median_secs: median, cost_usd_7d: cost } = routine;
  const place = `routine ${slug}`;
  const isSpread = ui.spread.has(place);
  const last = view.byRoutine.get(slug)?.find((run) => !run.alive);
  const [newest] = recent.slice(-1);
  const tone = running.length ? "live" : enabled === false ? "off" : newest ? statusOf(newest.status)[0] : "fire";
  const trigger = toolButton("Run", { place, tool: "trigger_routine", args: { routine: slug }, done: ({ run }) => ({ text: `The run ${run?.id ?? ""} has started.`, open: run?.id }) }, { "aria-label": `Run ${slug}` });
  return h("li", { key: slug, class: enabled === false ? "faded" : "" },
    h("div.routine",
      icon(tone, running.length ? "pulse" : ""),
      h("div.what",
        h("h3", button(bdi(title || slug), () => spread(place), { class: "link title", "aria-expanded": String(isSpread) })),
        h("p", firing(routine), last ? [" · last ", time(last.end)] : null)),
      bars(recent),
      h("span", { class: `number ${rate !== undefined && rate < 0.5 ? "bad" : ""}`, title: "Succeeded, of the runs of 28 days that count" }, rate === undefined ? "–" : percent(rate)),
      h("span.number.wide", { title: "How long a run takes: the median" }, median === undefined ? "" : roughly(median)),
      h("span.number.wide", { title: "Cost of 7 days, at list prices" }, cost === undefined ? "" : money(cost)),
      trigger ?? h("span"),
      button("…", () => spread(place), { class: "quiet more-button", "aria-expanded": String(isSpread), "aria-label": `More about ${slug}` })),
    strip(place),
    isSpread ? routineMore(routine, place) : null);
}

/** @param {string} place */
const spread = (place) => change(() => ui.spread.delete(place) || ui.spread.add(place));

/** @param {[Kids, Kids][]} pairs */
const facts = (pairs) =>
  h("dl", pairs.filter(([, value]) => (Array.isArray(value) ? value.some(Boolean) : value)).map(([name, value]) => h("div", { key: String(name) }, h("dt", name), h("dd", value))));

/** @param {RoutineRow} routine @param {string} place */
function routineMore(routine, place) {
  const { slug, enabled, agent, agent_available: available, schedule_description: schedule, timezone, snoozed_until: snoozed, waiting, used_today: used, tags = [] } = routine;
  /** @param {string} label @param {object} args @param {string} says */
  const snooze = (label, args, says) => toolButton(label, { place, tool: "snooze_routine", args: { routine: slug, ...args }, done: () => says }, { key: label, class: "quiet" });
  /** @param {number} at */
  const until = (at) => new Date(Math.floor(at / 1000) * 1000).toISOString().replace(".000", "");
  const isSnoozed = snoozed && Date.parse(snoozed) > now();
  const fires = routine.next_fires?.length || isSnoozed;
  return h("div.spread", { key: "more" },
    facts([
      ["Slug", h("code", bdi(slug))],
      ["Agent", [bdi(agent), available === false ? h("span.bad", " (not installed)") : null]],
      ["Fires", schedule ? [bdi(schedule), timezone ? [" (", bdi(timezone), ")"] : null] : "when triggered"],
      ["Waits", bdi(waiting)],
      ["Today", used?.runs ? [plural(used.runs, "run"), used.max_daily_runs ? ` of ${used.max_daily_runs}` : null, used.cost_usd === undefined ? null : `, ${money(used.cost_usd)}`, used.max_daily_cost_usd === undefined ? null : ` of ${money(used.max_daily_cost_usd)}`] : null],
      ["Tags", tags.map((tag) => [h("span.tag", { key: tag }, bdi(tag)), " "])],
    ]),
    h("div.buttons",
      button("Show its runs", () => showRoutine(slug), QUIET),
      fires && enabled !== false ? [
        snooze("Skip the next fire", { skip_next: true }, "Its next fire is skipped."),
        snooze("Snooze for 1 h", { until: until(now() + HOUR) }, "It is snoozed for an hour."),
        snooze("until tomorrow", { until: until(midnight(now(), 1)) }, "It is snoozed until tomorrow."),
        snooze("for a week", { until: until(now() + 7 * DAY) }, "It is snoozed for a week."),
      ] : null,
      isSnoozed ? snooze("End the snooze", {}, "Its schedule fires again.") : null,
      enabled === false
        ? toolButton("Enable", { place, tool: "update_routine", args: { routine: slug, enabled: true }, done: () => "The routine is enabled." })
        : toolButton("Disable", { place, tool: "update_routine", args: { routine: slug, enabled: false }, label: "Disable it", ask: "Disable this routine? It no longer fires, until it is enabled again. Its runs go on.", done: () => "The routine is disabled." }, { class: "danger" })));
}

/** Where a run's workbench is in its life. @param {Run} run */
function files({ alive, row }) {
  if (alive) return "in use";
  if (row.reaped) return row.archived ? "archived" : "gone";
  if (row.pinned) return "pinned";
  return row.reap_at ? time(row.reap_at, (at) => (at > now() ? `${roughly((at - now()) / 1000)} left` : "goes next")) : "kept";
}

function runs() {
  const of = ui.routine ? (view.byRoutine.get(ui.routine) ?? []) : view.runs;
  const all = ui.filter === "bad" ? of.filter((run) => run.isBad) : ui.filter === "kept" ? of.filter((run) => run.isKept) : of;
  const shown = all.slice(0, ui.runsShown || (isInline() ? 5 : RUNS_SHOWN));
  const { older_total: older, since } = part("ended").head;
  const pick = h("select", { "aria-label": "Routine", value: ui.routine, onchange: (/** @type {any} */ event) => change(() => Object.assign(ui, { routine: event.target.value, runsShown: 0 })) },
    h("option", { value: "" }, "All routines"),
    [...new Set([...view.routines.map((routine) => routine.slug), ...(ui.routine ? [ui.routine] : [])])].map((slug) => h("option", { key: slug, value: slug, selected: slug === ui.routine }, titleOf(slug))));
  return section("runs", "Runs", [h("small", count(all.length)), pick,
    choice("Which runs", [["all", "All"], ["bad", "Bad"], ["kept", "Kept"]], ui.filter, (filter) => Object.assign(ui, { filter, runsShown: 0 }))],
    shown.length ? h("div.card", h("table", null,
      h("thead", h("tr", ["Status", "Run", "When", "Took", "Cost", "Files"].map((name) => h("th", { key: name, scope: "col", class: name.toLowerCase() }, name)), h("th", h("span.unseen", "Actions")))),
      h("tbody", shown.map(runRow))))
      : h("p.card.calm", ui.filter === "bad" ? "No run ended badly." : "No runs."),
    all.length > shown.length ? button(`Show more (${count(all.length - shown.length)})`, () => change(() => (ui.runsShown = shown.length + MORE)), { class: "more" }) : null,
    older && all.length === shown.length && since ? h("p.aside", `${plural(older, "older run")}, before `, time(since, (at) => format("moment", at)), ": ", copyable("moadim-mcp runs")) : null);
}

/** @param {Run} run */
function runRow(run) {
  const { id, routine, status, at, secs, alive, row, reason, headline, cost, isBad } = run;
  const place = `run ${id}`;
  const says = isBad && reason ? reason : (headline ?? reason);
  const doing = strip(place);
  return [
    h("tr", { key: id },
      h("td.status-cell", statusWord(status), row.disagreements?.length ? h("span.tag.late", { title: row.disagreements.map((one) => DISAGREEMENTS[one] ?? one).join("; ") }, "but") : null),
      h("td.run", button(bdi(titleOf(routine)), () => openRun(id), { class: "link", title: id }), says ? h("p", { class: isBad ? "why" : "" }, bdi(says)) : null),
      h("td.when", time(at)),
      h("td.took", alive ? ticks(() => span((now() - at) / 1000)) : secs === undefined ? "–" : span(secs)),
      h("td.cost", cost === undefined ? "" : money(cost)),
      h("td.files", files(run), row.unsaved && !row.archived ? h("span.tag.late", { title: "It holds work that nobody else has" }, "unsaved") : null),
      h("td.actions", alive ? stopButton(id, place, { "aria-label": `Stop ${id}` }) : row.reaped ? null : pinButton(id, Boolean(row.pinned), place, { "aria-label": `${row.pinned ? "Unpin" : "Pin"} ${id}` }))),
    doing ? h("tr", { key: `${id} doing` }, h("td", { colspan: 7 }, doing)) : null,
  ];
}
