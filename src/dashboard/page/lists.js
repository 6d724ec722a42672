// Routines and runs, as lists.

const RUNS_SHOWN = 12;
const MORE = 50;

/** Shows the runs of a routine. @param {string} slug */
function showRoutine(slug) {
  Object.assign(ui, { filter: "all", routine: slug, runsShown: 0 });
  jump("runs");
}

/** @param {number} hidden @param {() => void} go */
const showMore = (hidden, go) => hidden > 0 && button(`Show more (${count(hidden)})`, go, { class: "more" });

function routines() {
  const wanted = ui.find.toLowerCase();
  const all = view.routines.filter(({ slug, agent, tags = [] }) => [slug, titleOf(slug), agent, ...tags].some((text) => text?.toLowerCase().includes(wanted)));
  return section("routines", "Routines", [h("small", count(all.length)),
    finder("routines", ui.find, (text) => (ui.find = text))],
    all.length ? h("ul.card.list", routineHeads(), all.slice(0, ui.routinesShown).map(routineRow)) : h("p.card.aside", "No routine matches."),
    showMore(all.length - ui.routinesShown, () => (ui.routinesShown += MORE)));
}

const routineHeads = () =>
  h("li.heads", { "aria-hidden": "true" }, h("div.routine", ["", "", "Last runs", "Success", "Median", "Cost, 7 d", "", ""].map((name, n) => h(`span.number${n > 3 ? ".wide" : ""}`, name))));

/** When it fires. @param {RoutineRow} routine */
function firing({ enabled, disabled_because: because, schedule_problem: problem, waiting, waiting_until: until, snoozed_until: snoozed, next_fires: fires = [] }) {
  const next = fires.find((fire) => Date.parse(fire) > now());
  if (enabled === false) return because ? ["disabled: ", bdi(because)] : "disabled";
  if (problem) return h("span.bad", bdi(problem));
  if (waiting) return ["waiting", until && [", starts ", time(until)]];
  if (isAhead(snoozed)) return ["snoozed, resumes ", time(snoozed ?? 0)];
  return next ? time(next) : "only when triggered";
}
/** @param {string | undefined} at */
const isAhead = (at) => Date.parse(at ?? "") > now();

/** @param {RoutineRow} routine */
function routineRow(routine) {
  const { slug, enabled, running = [], recent = [], success_rate: rate, median_secs: median, cost_usd_7d: cost } = routine;
  const place = `routine ${slug}`;
  const last = view.byRoutine.get(slug)?.find((run) => !run.alive);
  const newest = recent.at(-1);
  const tone = running.length ? "live" : enabled === false ? "off" : newest ? statusOf(newest.status)[0] : "fire";
  return h("li", { key: slug },
    h("div.routine",
      icon(tone),
      h("div.what", h("h3", fold(bdi(titleOf(slug)), place, { class: "link title" })), h("p", firing(routine), last && [" · last ", time(last.end)])),
      bars(recent),
      h("span", { class: `number ${Number(rate) < 0.5 ? "bad" : ""}`, title: "Success rate, 28 days" }, percent(rate)),
      h("span.number.wide", { title: "Median duration" }, roughly(median)),
      h("span.number.wide", { title: "Cost in 7 days" }, money(cost)),
      runButton("Run", slug, place) || h("span"),
      fold("…", place, { label: `More about ${slug}` })),
    strip(place),
    ui.unfolded.has(place) && routineMore(routine, place));
}

/** @param {RoutineRow} routine @param {string} place */
function routineMore(routine, place) {
  const { slug, enabled, next_fires: fires, snoozed_until: snoozed } = routine;
  /** @param {string} label @param {object} args */
  const snooze = (label, args) => toolButton(label, place, "snooze_routine", { routine: slug, ...args }, `Done: ${label}.`);
  /** @param {string} label @param {boolean} enabled @param {object} [props] @param {string} [ask] */
  const enable = (label, enabled, props, ask) => toolButton(label, place, "update_routine", { routine: slug, enabled }, `The routine is ${label.toLowerCase()}d.`, props, ask);
  return h("div.spread",
    facts({ ...routine, cost_in_7_days_usd: routine.cost_usd_7d }, "slug agent schedule_description timezone snoozed_until waiting success_rate median_secs cost_in_7_days_usd used_today tags"),
    h("div.buttons",
      button("Show its runs", () => showRoutine(slug)),
      enabled !== false && (fires?.length || isAhead(snoozed)) && [
        snooze("Skip the next fire", { skip_next: true }),
        snooze("Snooze for 1 h", { until: iso(now() + HOUR) }),
        snooze("Snooze until tomorrow", { until: iso(midnight(now(), 1)) }),
        isAhead(snoozed) && snooze("End the snooze", {}),
      ],
      enabled === false ? enable("Enable", true) : enable("Disable", false, { class: "danger" }, "Disable this routine? Its schedule stops firing; runs in progress continue.")));
}

function runs() {
  const of = ui.routine ? (view.byRoutine.get(ui.routine) ?? []) : view.runs;
  const all = of.filter((run) => (ui.filter === "bad" ? run.isBad : ui.filter === "all" || run.isKept));
  const shown = all.slice(0, ui.runsShown || (isInline() ? 5 : RUNS_SHOWN));
  const { older_total: older, since } = head("ended");
  const slugs = new Set(view.routines.map(({ slug }) => slug)).add(ui.routine);
  /** @param {object} what */
  const filter = (what) => Object.assign(ui, { runsShown: 0 }, what);
  return section("runs", "Runs", [h("small", count(all.length)),
    h("select", { label: "Routine", value: ui.routine, onchange: (/** @type {any} */ { target }) => draw(filter({ routine: target.value })) }, h("option", { value: "" }, "All routines"), [...slugs].filter(Boolean).map((slug) => h("option", { key: slug, value: slug, selected: slug === ui.routine }, titleOf(slug)))),
    choice("Which runs", [["all", "All"], ["bad", "Problems"], ["kept", "Kept"]], ui.filter, (name) => filter({ filter: name }))],
    h("div.card", shown.length ? h("table",
      h("thead", h("tr", ["Status", "Run", "When", "Took", "Cost", "Files", ""].map((name) => h("th", { scope: "col", class: name.toLowerCase() }, name || h("span.unseen", "Actions"))))),
      h("tbody", shown.map(runRow))) : h("p.aside", "No runs.")),
    showMore(all.length - shown.length, () => (ui.runsShown = shown.length + MORE)),
    older > 0 && !ui.routine && ui.filter === "all" && all.length === shown.length && h("p.aside", `${plural(older, "older run")}: `, copyable(`moadim-mcp runs --until ${since}`)));
}

/** @param {Run} run */
function runRow({ id, routine, status, at, alive, row, reason, isBad }) {
  const { duration_secs: secs, cost_usd: cost, disagreements = [], headline, reaped, archived, pinned, unsaved, reap_at: reap } = row;
  const place = `run ${id}`;
  const says = ((isBad || status === "asked") && reason) || headline || reason;
  const left = (/** @type {number} */ at) => (at > now() ? `${roughly((at - now()) / SECOND)} left` : "goes next");
  const files = alive ? "in use" : reaped ? (archived ? "archived" : "gone") : pinned ? "pinned" : reap ? time(reap, left) : "kept";
  const what = strip(place);
  return [
    h("tr", { key: id },
      h("td.status", statusWord(status), unsaved && !archived && h("span.tag.late", { title: "This work exists only here" }, "unsaved"), disagreements.length > 0 && h("span.tag.late", { title: spaced(disagreements.join(", ")) }, "in doubt")),
      h("td.run", runLink(bdi(titleOf(routine)), id, { title: id }), says && h("p.brief", bdi(says))),
      h("td.when", time(at)),
      h("td.took", alive ? ticks(() => roughly((now() - at) / SECOND)) : span(secs)),
      h("td.cost", money(cost)),
      h("td.files", files),
      h("td", alive ? status !== "unknown" && stopButton(id, place) : !reaped && pinButton(id, pinned, place))),
    what && h("tr", { key: place }, h("td", { colspan: 7 }, what)),
  ];
}
