// The top of the page: tiles, what needs attention, and what runs now.

/** @param {string} id @param {string} title @param {any} tools @param {any[]} kids */
const section = (id, title, tools, ...kids) =>
  h(`section.${id}`, { key: id, id, tabindex: -1, "aria-labelledby": `${id}-title` }, h("div.head", h("h2", { id: `${id}-title` }, title), tools), kids);

/** One of several. @param {string} label @param {string[][]} options @param {string} chosen @param {(value: string) => void} choose */
const choice = (label, options, chosen, choose) =>
  h("div.choice", { role: "group", label }, options.map(([value = "", text]) => button(text, () => choose(value), { "aria-pressed": `${value === chosen}` })));

/** @param {string} id */
function jump(id) {
  drawNow();
  const target = document.getElementById(id);
  target?.scrollIntoView();
  focusOn(target);
}

function tiles() {
  /** How the runs of a period ended; of a shorter one, if no more of them are known. @param {number} period @param {string} name */
  const tally = (period, name) => {
    const [wanted, known] = [now() - period, Date.parse(head("ended").since) || 0];
    const since = Math.max(wanted, known);
    const ended = view.runs.filter(({ alive, end }) => !alive && end >= since);
    const failed = ended.filter(({ tone }) => isTroubled(tone)).length;
    const good = ended.filter(({ status }) => status === "succeeded").length;
    return { within: since > wanted ? roughly((now() - since) / SECOND) : name, all: ended.length, failed, counted: good + failed, rate: good / (good + failed) };
  };
  const [day, week, [next]] = [tally(DAY, "24 h"), tally(7 * DAY, "7 d"), coming()];
  const others = ["queued", "unknown"].map((status) => [status, view.live.filter((run) => run.status === status).length]).filter(([, number]) => number);
  const { used_bytes: used, low } = head("disk");
  const { removable_bytes: removable = 0, removable_total: goes } = head("plan");
  const { today, total, since } = head("usage");
  const spent = today?.cost_usd ?? total?.cost_usd;
  /** @param {string} label @param {any} value @param {any} more @param {string} to @param {any} [tone] */
  const tile = (label, value, more, to, tone) =>
    h("li", { key: label }, button([h("small", label), h("strong", { class: tone || null }, value), h("small", more)], () => {
      if (to === "runs") Object.assign(ui, { filter: "bad", routine: "" });
      jump(to);
    }, { class: "tile" }));
  return h("ul.tiles", { label: "At a glance" },
    tile("Running", count(view.running.length), others.length ? others.map(([status, number]) => `${number} ${status}`).join(", ") : view.running.length ? view.running.map((run, n) => [n > 0 && ", ", bdi(titleOf(run.routine))]) : "nothing", "now", view.running.length && "live"),
    tile(`Failed, ${day.within}`, count(day.failed), `of ${plural(day.all, "run")}`, "runs", day.failed && "bad"),
    tile(`Success, ${week.within}`, percent(week.rate) || "–", `of ${plural(week.counted, "run")}`, "routines"),
    tile("Next", next ? time(next.at) : "–", next ? bdi(titleOf(next.slug)) : "nothing", "timeline"),
    spent !== undefined && tile("Cost, today", money(today?.cost_usd ?? 0), since && [money(total?.cost_usd), " since ", time(since, date)], "routines"),
    used !== undefined && tile("Disk", size(used), goes ? `${size(removable)} can go now` : "nothing to clean up", "disk", low && "bad"));
}

function attention() {
  const { snoozed_until: snoozed } = head("attention");
  /** @type {AttentionRow[]} */
  const all = rows("attention").filter(({ question }) => !question).sort((a, b) => Number(b.severity === "problem") - Number(a.severity === "problem"));
  if (snoozed) {
    const action = { label: "End the snooze", tool: "snooze_routine", arguments: {} };
    all.unshift({ key: "snoozed", kind: "", severity: "notice", text: "All schedules are snoozed; they fire again", at: snoozed, action });
  }
  const asks = asking();
  return all.length + asks.length > 0 && section("attention", "Needs attention", null, h("ul", asks.map(askingNotice), all.map(notice)));
}

/** @param {AttentionRow} row */
function notice({ key, severity, text, fix, routine, run, at, command, action }) {
  const place = `attention ${key}`;
  return h(`li.notice.${severity}`, { key }, icon(severity === "problem" ? "bad" : "late"),
    h("div.what", h("b", bdi(text)), at && [" ", h("small", time(at))], fix && h("p", bdi(fix)), command && !run && copyable(command)),
    h("div.buttons",
      run && serves("get_run") ? quiet("Open the run", () => openRun(run)) : routine && quiet("Show its runs", () => showRoutine(routine)),
      action && toolButton(action.label, place, action.tool, action.arguments, `Done: ${action.label}.`)),
    strip(place));
}

/** How much of a bound is used. @param {() => number} share @param {Tone} tone */
const bar = (share, tone) =>
  h(`span.bar.${tone}`, { tick: (/** @type {HTMLElement} */ node) => {
    const used = Math.min(1, share());
    node.classList.toggle("near", used > 0.8);
    node.style.setProperty("--used", pc(used * 100));
  } });

/** @param {Run} run */
function liveCard({ id, routine, status, row, at, reason }) {
  const place = `live ${id}`;
  const { job, bound_from: from, max_runtime_secs: bound, max_silence_secs: quietBound, last_output_at: said, started_at: started, headline } = row;
  const heard = Date.parse(said ?? started ?? "");
  /** @param {number} since */
  const secs = (since) => (now() - since) / SECOND;
  /** @param {string} before @param {number} since @param {number} [bound] */
  const used = (before, since, bound) => since && [h("span", before, ticks(() => roughly(secs(since))), bound && ` of ${roughly(bound)}`), bound ? bar(() => secs(since) / bound, "live") : h("span")];
  return h("li.card.run-card", { key: id },
    h("div.line", icon(statusOf(status)[0]), runLink(bdi(titleOf(routine)), id, { class: "link title" }), status !== "running" && h("small", statusOf(status)[1]),
      h("div.buttons", serves("read_log") && runLink("Log", id, { class: "quiet", label: `Log of ${id}` }), status !== "unknown" && stopButton(id, place))),
    h("p.brief", bdi(headline ?? reason)),
    job && h("p.brief", shown("", job)),
    h("div.bounds", status === "queued" ? used("waits ", at) : used("", Date.parse(from ?? "") || at, bound), used("silent ", heard, quietBound)),
    strip(place));
}

function running() {
  const { live } = view;
  const [next] = coming();
  return section("now", "Now", live.length > 1 && h("small", plural(live.length, "run")),
    live.length ? h("ul.cards", live.slice(0, 24).map(liveCard)) : h("p.card.aside", "Nothing is running.", next && [" ", bdi(titleOf(next.slug)), " is next, ", time(next.at), "."]));
}
