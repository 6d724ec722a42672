// The timeline: one lane for each routine, with past runs and coming fires in one picture.

/** @type {Record<string, {label: string, before: number, after: number, step: number}>} */
const RANGES = {
  "24h": { label: "24 h", before: 18 * HOUR, after: 6 * HOUR, step: 3 * HOUR },
  "7d": { label: "7 days", before: 5 * DAY, after: 2 * DAY, step: DAY },
  "4w": { label: "4 weeks", before: 28, after: 7, step: 7 },
};
const MAX_LANES = 12;
/** What is nearer than this, in percent of the picture, is one mark. */
const NEAR = 0.55;

/** Names what the pointer or the keyboard is on. */
const readout = document.createElement("p");
readout.className = "readout";

/** @param {number} number */
const pc = (number) => `${number.toFixed(2)}%`;
/** @param {Tone} a @param {Tone} b */
const worse = (a, b) => (TONES.indexOf(a) <= TONES.indexOf(b) ? a : b);

/** @param {Run} run */
function sayRun(run) {
  const took = run.alive || run.secs === undefined ? "" : `, took ${span(run.secs)}`;
  return `${statusOf(run.status)[1]}, ${format("moment", run.at)}${took}${run.reason && run.isBad ? `: ${run.reason}` : ""}`;
}

/** @param {RoutineRow} routine @param {number} from @param {number} to */
function laneOf(routine, from, to) {
  /** @param {number} at */
  const x = (at) => Math.min(100, Math.max(0, ((at - from) / (to - from)) * 100));
  /** @type {{left: number, right: number, tone: Tone, runs: Run[]}[]} */
  const marks = [];
  for (const run of (view.byRoutine.get(routine.slug) ?? []).filter((run) => run.at < to && (run.alive || run.end >= from)).reverse()) {
    const [left, right] = [x(run.at), x(run.alive ? now() : run.end)];
    const last = marks.at(-1);
    if (last && left - last.right < NEAR) {
      last.right = Math.max(last.right, right);
      last.tone = worse(run.tone, last.tone);
      last.runs.push(run);
    } else marks.push({ left, right, tone: run.tone, runs: [run] });
  }
  /** @type {{left: number, at: number, count: number}[]} */
  const fires = [];
  for (const fire of routine.next_fires ?? []) {
    const at = Date.parse(fire);
    if (at < now() || at > to) continue;
    const last = fires.at(-1);
    if (last && x(at) - last.left < 1.6) last.count += 1;
    else fires.push({ left: x(at), at, count: 1 });
  }
  const name = routine.title || routine.slug;
  return [
    marks.map(({ left, right, tone, runs }, index) => {
      // A click opens the worst of them.
      const worst = runs.reduce((a, b) => (worse(a.tone, b.tone) === a.tone && a.tone !== b.tone ? a : b));
      const says = `${name}: ${runs.length > 1 ? `${runs.length} runs, ` : ""}${sayRun(worst)}`;
      return button(null, () => openRun(worst.id), {
        key: `m${index}`, class: `mark ${tone}`, tabindex: -1, "aria-label": says, style: { left: pc(left), width: pc(right - left) },
      });
    }),
    fires.map(({ left, at, count: many }, index) =>
      button(null, () => showRoutine(routine.slug), {
        key: `f${index}`, class: "mark fire", tabindex: -1, style: { left: pc(left) },
        "aria-label": `${name}: ${many > 1 ? `${many} fires, the first ` : "will fire "}${format("moment", at)}`,
      })),
  ];
}

/** Bounds of the days of the picture of four weeks. @type {{day: number, from: number[]}} */
let days = { day: NaN, from: [] };
function dayBounds() {
  const today = midnight(now(), 0);
  const { before = 28, after = 7 } = RANGES["4w"] ?? {};
  if (days.day !== today) days = { day: today, from: Array.from({ length: before + after + 1 }, (_, index) => midnight(now(), index - before + 1)) };
  return days.from;
}

/** @param {RoutineRow} routine @param {number[]} from */
function cellsOf(routine, from) {
  /** @type {Run[][]} */
  const cells = from.slice(1).map(() => []);
  let index = cells.length - 1;
  for (const run of view.byRoutine.get(routine.slug) ?? []) {
    if (run.alive) index = cells.length - 1;
    while (index >= 0 && run.at < (from[index] ?? 0)) index -= 1;
    if (index < 0) break;
    cells[index]?.push(run);
  }
  const today = (RANGES["4w"]?.before ?? 1) - 1;
  const name = routine.title || routine.slug;
  return cells.map((runs, day) => {
    const fires = day >= today ? (routine.fires_per_day?.[day - today] ?? 0) : 0;
    const place = { left: pc((day / cells.length) * 100), width: pc(100 / cells.length) };
    const date = format("date", from[day] ?? 0);
    if (!runs.length) {
      if (!fires) return null;
      const says = `${name}, ${date}: will fire ${plural(fires, "time")}`;
      return button(null, () => showRoutine(routine.slug), { key: day, class: "cell fire", tabindex: -1, style: place, "aria-label": says });
    }
    const bad = runs.filter((run) => run.tone !== "good" && run.tone !== "live" && run.tone !== "off");
    const tone = runs.map((run) => run.tone).reduce(worse);
    const says = `${name}, ${date}: ${plural(runs.length, "run")}${bad.length ? `, ${bad.length} ended badly` : ""}${fires ? `, ${plural(fires, "more fire")}` : ""}`;
    const [first] = bad.length ? bad : runs;
    return button(h("i", { class: tone, style: { height: pc(bad.length ? Math.max(30, (100 * bad.length) / runs.length) : 0) } }), () => first && openRun(first.id), {
      key: day, class: `cell ${bad.length ? "good" : tone}`, tabindex: -1, style: place, "aria-label": says,
    });
  });
}

function timeline() {
  const range = RANGES[ui.range] ?? RANGES["24h"];
  if (!range || !view.routines.length) return null;
  const isDays = ui.range === "4w";
  const from = isDays ? (dayBounds()[0] ?? 0) : now() - range.before;
  const to = isDays ? (dayBounds().at(-1) ?? 0) : now() + range.after;
  /** @type {[number, string][]} */
  const marks = [];
  for (let at = midnight(from, 0), n = 0; at < to; n += 1) {
    const isDay = isDays || range.step === DAY || n % 8 === 0;
    if (at > from) marks.push([((at - from) / (to - from)) * 100, isDay ? format(isDays ? "date" : "day", at) : format("clock", at)]);
    // Days are not all of 24 hours.
    at = isDays ? midnight(at, 7) : range.step === DAY || n % 8 === 7 ? midnight(midnight(from, Math.floor(n / (range.step === DAY ? 1 : 8)) + 1), 0) : at + range.step;
  }
  const here = ((now() - from) / (to - from)) * 100;
  const busy = view.routines.filter((routine) => view.byRoutine.has(routine.slug) || routine.next_fires?.length || routine.fires_per_day?.some(Boolean));
  const lanes = ui.allLanes ? busy : busy.slice(0, MAX_LANES);
  const ranges = Object.entries(RANGES).map(([name, { label }]) => [name, label]);
  return section("timeline", "Timeline", [choice("Range", ranges, ui.range, (range) => (ui.range = range))],
    h("div.card.picture", { key: "picture" },
      h("div", {
        class: "lanes", tabindex: 0, role: "group", "aria-label": "Timeline of runs and fires. The arrow keys go from one to the next; the list of runs has the same.",
        onkeydown: walk, onmouseover: readOut, onfocusin: readOut, onmouseleave: () => setText(readout, ""),
      },
        h("div.axis", { "aria-hidden": "true" }, marks.map(([left, text]) => h("span", { style: { left: pc(left) } }, text))),
        h("div.grid", { "aria-hidden": "true" }, marks.map(([left]) => h("i", { style: { left: pc(left) } })), isDays ? null : h("i.now", { style: { left: pc(here) } })),
        lanes.map((routine) => h("div", { key: routine.slug, class: `lane ${routine.enabled === false ? "faded" : ""}` },
          button(bdi(routine.title || routine.slug), () => showRoutine(routine.slug), { class: "name", title: "Show its runs" }),
          h("div.track", isDays ? cellsOf(routine, dayBounds()) : laneOf(routine, from, to)))),
      ),
      busy.length > MAX_LANES ? button(ui.allLanes ? "Show fewer lanes" : `Show all ${count(busy.length)} lanes`, () => change(() => (ui.allLanes = !ui.allLanes)), { class: "more" }) : null,
      h("div.legend", readout, h("ul", { "aria-label": "Legend" },
        [["good", "succeeded"], ["bad", "failed, did not start"], ["late", "timed out, silent"], ["lost", "lost, interrupted, unknown"], ["off", "stopped, limited, skipped"], ["live", "running"], ["fire", "will fire"]]
          .map(([tone, words]) => h("li", { key: tone }, icon(/** @type {Tone} */ (tone)), words)))),
    ));
}

/** @param {Event} event */
function readOut(event) {
  const mark = event.target instanceof Element ? event.target.closest(".mark, .cell") : null;
  if (mark || event.type === "mouseover") setText(readout, mark?.getAttribute("aria-label") ?? "");
}

/** Goes from mark to mark with the arrow keys. @param {KeyboardEvent} event */
function walk(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const all = /** @type {HTMLElement} */ (event.currentTarget);
  if (!step) return;
  event.preventDefault();
  const tracks = [...all.querySelectorAll(".track")].map((track) => /** @type {HTMLElement[]} */ ([...track.querySelectorAll("button")]));
  const filled = tracks.filter((marks) => marks.length);
  /** @param {HTMLElement | undefined} mark */
  const left = (mark) => parseFloat(mark?.style.left ?? "0");
  const here = /** @type {HTMLElement} */ (document.activeElement);
  const y = filled.findIndex((marks) => marks.includes(here));
  const [dx = 0, dy = 0] = step;
  if (y < 0) filled.at(0)?.at(-1)?.focus();
  else if (dx) {
    const lane = [...(filled[y] ?? [])].sort((a, b) => left(a) - left(b));
    lane[lane.indexOf(here) + dx]?.focus();
  } else filled[y + dy]?.reduce((a, b) => (Math.abs(left(b) - left(here)) < Math.abs(left(a) - left(here)) ? b : a)).focus();
}

/** The last runs of a routine as bars: the height is how long each took. @param {NonNullable<RoutineRow["recent"]>} recent */
function bars(recent) {
  const longest = Math.max(1, ...recent.map((run) => run.duration_secs ?? 0));
  const good = recent.filter((run) => run.status === "succeeded").length;
  const says = recent.length ? `Last ${plural(recent.length, "run")}: ${good} succeeded` : "No run yet";
  return h("span.bars", { role: "img", "aria-label": says },
    recent.map((run) => {
      // The square root keeps the short ones in sight.
      const height = pc(18 + 82 * Math.sqrt((run.duration_secs ?? 0) / longest));
      const words = `${statusOf(run.status)[1]}${run.duration_secs === undefined ? "" : `, ${span(run.duration_secs)}`}`;
      return h("i", { key: run.id, class: statusOf(run.status)[0], title: words, style: { height } });
    }));
}
