// The timeline: one lane for each routine, with past runs and coming fires in one picture.

/** What is seen before and after now, and how far the lines are from one another; of four weeks, in days. @type {Record<string, [number, number, number]>} */
const RANGES = {
  "24 h": [18 * HOUR, 6 * HOUR, 3 * HOUR],
  "7 days": [5 * DAY, 2 * DAY, DAY],
  "4 weeks": [28, 7, 7 * DAY],
};
/** So many fires are sent at most. */
const MAX_FIRES = 50;
/** Marks closer than this, in percent of the width, are merged. */
const NEAR = 0.55;

/** Names what the pointer or the keyboard is on. */
const readout = document.createElement("p");
readout.className = "readout";

/** @param {number} number */
const pc = (number) => `${number.toFixed(2)}%`;
/** @param {Run} run */
const rank = ({ tone }) => Object.keys(STATUSES).indexOf(tone);
/** @param {Run[]} runs @returns {Run} */
const worst = (runs) => runs.reduce((a, b) => (rank(b) < rank(a) ? b : a));
/** @param {string} kind @param {string} key @param {string} says @param {() => void} go @param {object} style @param {any} [kid] */
const mark = (kind, key, says, go, style, kid) => button(kid, go, { key, class: kind, tabindex: -1, label: says, style });

/** @param {RoutineRow} routine @param {number} from @param {number} to */
function marks({ slug, next_fires: next = [] }, from, to) {
  /** @param {number} at */
  const x = (at) => Math.min(100, Math.max(0, ((at - from) / (to - from)) * 100));
  const last = Date.parse(next.at(-1) ?? "");
  /** @type {{left: number, right: number, runs: Run[]}[]} */
  const spans = [];
  for (const run of [...(view.byRoutine.get(slug) ?? [])].sort((one, other) => one.at - other.at)) {
    const end = run.alive ? now() : run.end;
    if (end < from) continue;
    const [left, right, before] = [x(run.at), x(end), spans.at(-1)];
    if (before && left - before.right < NEAR) {
      before.right = Math.max(before.right, right);
      before.runs.push(run);
    } else spans.push({ left, right, runs: [run] });
  }
  return [
    spans.map(({ left, right, runs }, n) => {
      const { id, tone, status, at, row, reason, alive } = worst(runs);
      const took = alive || row.duration_secs === undefined ? "" : `, took ${span(row.duration_secs)}`;
      const says = `${titleOf(slug)}: ${runs[1] ? `${runs.length} runs, ` : ""}${statusOf(status)[1]}, ${moment(at)}${took}${reason ? `: ${reason}` : ""}`;
      return mark(`mark ${tone}`, `m${n}`, says, () => (serves("get_run") ? openRun(id) : showRoutine(slug)), { left: pc(left), width: pc(right - left) });
    }),
    next.map(Date.parse).filter((at) => at > now() && at < to).map((at) =>
      mark("mark fire", `f${at}`, `${titleOf(slug)}: will fire ${moment(at)}`, () => showRoutine(slug), { left: pc(x(at)) })),
    last < to && next.length >= MAX_FIRES && mark("cell fire", "more", `${titleOf(slug)}: goes on firing`, () => showRoutine(slug), { left: pc(x(last)), width: pc(100 - x(last)) }),
  ];
}

/** One cell for each day between the bounds; runs too old to have a row are counts. @param {RoutineRow} routine @param {number[]} bounds */
function cells({ slug, fires_per_day: fires = [], earlier_per_day: earlier = [] }, bounds) {
  /** @type {Run[][]} */
  const days = bounds.slice(1).map(() => []);
  const runs = view.byRoutine.get(slug) ?? [];
  for (const run of runs) days[bounds.findLastIndex((from) => from <= run.at)]?.push(run);
  const today = bounds.findLastIndex((from) => from <= now());
  return days.map((runs, day) => {
    const more = fires[day - today];
    const style = { left: pc((day / days.length) * 100), width: pc(100 / days.length) };
    const says = `${titleOf(slug)}, ${date(bounds[day] ?? 0)}: `;
    const { runs: older = 0, bad: olderBad = 0 } = earlier[today - day] ?? {};
    const all = runs.length + older;
    if (!all) return more && mark("cell fire", `${day}`, `${says}will fire ${plural(more, "time")}`, () => showRoutine(slug), style);
    const bad = runs.filter(({ tone }) => isTroubled(tone)).length + olderBad;
    const { id, tone } = runs[0] ? worst(runs) : { id: "", tone: bad ? "bad" : "good" };
    const height = pc(bad && Math.max(30, (100 * bad) / all));
    return mark(`cell ${bad ? "good" : tone}`, `${day}`, `${says}${plural(all, "run")}${bad ? `, ${bad} ended badly` : ""}`, () => (id && serves("get_run") ? openRun(id) : showRoutine(slug)), style, h(`i.${tone}`, { style: { height } }));
  });
}

function timeline() {
  const [before = 0, after = 0, step = DAY] = RANGES[ui.range] ?? [];
  const isDays = step > DAY;
  const bounds = isDays ? Array.from({ length: before + after + 1 }, (_, day) => midnight(now(), day - before + 1)) : [now() - before, now() + after];
  const [from = 0, to = 0] = [bounds[0], bounds.at(-1)];
  const x = (/** @type {number} */ at) => ({ left: pc(((at - from) / (to - from)) * 100) });
  const lines = [];
  for (let n = 1, at = 0; at < to; n += 1) {
    at = step < DAY ? midnight(from, 0) + n * step : midnight(from, (n * step) / DAY);
    // At the edge there is no room for words.
    if (at > from && at < to - (to - from) / 40) lines.push(at);
  }
  const busy = view.routines.filter(({ slug, next_fires: next, fires_per_day: fires }) => view.byRoutine.has(slug) || next?.length || fires?.some(Boolean));
  const since = Date.parse(head("ended").since);
  return busy.length > 0 && section("timeline", "Timeline", [!isDays && from < since && h("small", "with the runs since ", time(since, moment)), choice("Range", Object.keys(RANGES).map((name) => [name, name]), ui.range, (range) => (ui.range = range))],
    h("div.card.picture",
      h("div.lanes", {
        role: "group", label: "Lanes: use the arrow keys to move along one",
        onkeydown: walk, onmouseover: readOut, onmouseleave: () => setText(readout, ""),
      },
        h("div.axis", { "aria-hidden": "true" }, lines.map((at) => h("span", { style: x(at) }, (isDays ? date : at === midnight(at, 0) ? weekday : clock)(at)))),
        h("div.grid", lines.map((at) => h("i", { style: x(at) })), !isDays && h("i.now", { style: x(now()) })),
        busy.slice(0, ui.lanesShown).map((routine) => h("div.lane", { key: routine.slug },
          button(bdi(titleOf(routine.slug)), () => showRoutine(routine.slug), { class: `name ${routine.enabled === false ? "faded" : ""}` }),
          h("div.track", isDays ? cells(routine, bounds) : marks(routine, from, to))))),
      showMore(busy.length - ui.lanesShown, () => (ui.lanesShown += MORE)),
      h("div.legend", readout, h("ul",
        Object.entries({ ...STATUSES, fire: ["will fire"] }).map(([tone, all]) => h("li", icon(/** @type {Tone} */ (tone)), all.map((status) => statusOf(status)[1]).join(", ")))))));
}

/** @param {{target: any}} event */
const readOut = ({ target }) => setText(readout, target.closest(".track > *")?.ariaLabel ?? "");

/** Goes along a lane with the arrow keys, from its name on. @param {KeyboardEvent} event */
function walk(event) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const here = /** @type {HTMLElement} */ (document.activeElement);
  const all = [...(here.closest(".lane")?.querySelectorAll("button") ?? [])];
  if (!step || !all.length) return;
  event.preventDefault();
  const next = all[all.findIndex((one) => one === here) + step] ?? here;
  next.focus();
  readOut({ target: next });
}

/** The last runs of a routine as bars: the height is how long each took. @param {NonNullable<RoutineRow["recent"]>} recent */
function bars(recent) {
  const longest = Math.max(1, ...recent.map((run) => run.duration_secs ?? 0));
  const says = `Last ${plural(recent.length, "run")}: ${recent.filter(({ status }) => status === "succeeded").length} succeeded`;
  return h("span.bars", { role: "img", label: says },
    recent.map(({ id, status, duration_secs: secs = 0 }) => {
      const [tone, word] = statusOf(status);
      // The square root keeps the short ones in sight.
      return h(`i.${tone}`, { key: id, title: `${word}, ${span(secs)}`, style: { height: pc(18 + 82 * Math.sqrt(secs / longest)) } });
    }));
}
