// Disk and cleanup: what is stored, what a cleanup would remove and why, and what stays.

/** The plan that is shown: what a dry run answered. @type {any} */
let plan = null;
let staysShown = false;

/** What goes by a plan. @param {any} of @returns {string[]} */
const goes = (of) => [...(of.killed ?? []), ...(of.removed ?? [])].map((one) => String(one.run));

function preview() {
  const origin = document.activeElement;
  doing("cleanup", { phase: "wait", text: "Looking at each workbench…", origin });
  link.call("cleanup_workbenches", { dry_run: true }).then(
    (answer) => {
      plan = answer;
      finish("cleanup");
    },
    (error) => doing("cleanup", { phase: "error", text: error.message, origin }));
}

/** Does what the plan shows; if there is more by now, it is shown first. */
async function cleanUp() {
  const shown = new Set(goes(plan));
  doing("cleanup", { phase: "wait", text: "Looking once more…", origin: document.activeElement });
  try {
    const newer = await link.call("cleanup_workbenches", { dry_run: true });
    const isMore = goes(newer).some((run) => !shown.has(run)) || (newer.removed_total ?? 0) > (plan.removed_total ?? 0);
    plan = newer;
    if (isMore) return void doing("cleanup", { phase: "done", text: "More can go by now. Look at the plan again." });
  } catch (error) {
    return void doing("cleanup", { phase: "error", text: /** @type {Error} */ (error).message });
  }
  await run({
    place: "cleanup", tool: "cleanup_workbenches", args: {}, label: "Clean up",
    done(answer) {
      plan = null;
      const failed = answer.failed_total ?? answer.failed?.length ?? 0;
      const pending = answer.pending_bytes ? ` ${size(answer.pending_bytes)} are still being removed.` : "";
      return `${plural(answer.removed_total ?? answer.removed?.length ?? 0, "workbench", "workbenches")} removed, ${size(answer.freed_bytes ?? 0)} freed.${pending}${failed ? ` ${failed} could not be removed: ${answer.failed?.[0]?.error ?? ""}` : ""}${answer.note ? ` ${answer.note}` : ""}`;
    },
  }, null);
}

/** @param {any[]} kept @param {number} total */
function whyKept(kept, total) {
  /** @type {Record<string, number>} */
  const counts = {};
  for (const { why } of kept) counts[why] = (counts[why] ?? 0) + 1;
  const words = Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([why, n]) => `${n} ${REASONS[why] ?? why.replaceAll("_", " ")}`);
  if (total > kept.length) words.push(`${total - kept.length} more`);
  return `${plural(total, "workbench stays", "workbenches stay")}${words.length ? `: ${words.join(", ")}` : ""}.`;
}

/** @param {any} verdict @param {string} verb */
function verdictRow({ run: id, reason, bytes, archived, not_archived: lost, until }, verb) {
  const place = `plan ${id}`;
  const isPinned = part("ended").rows.get(id)?.pinned ?? false;
  return h("li", { key: id },
    h("div.line",
      h("div.what", button(bdi(id), () => openRun(id), { class: "link mono" }),
        h("p", verb, bdi(reason), until ? [" · goes ", time(until)] : null),
        archived ? h("p", "its unsaved work is archived first") : null,
        lost ? h("p.late", "some of it is not archived") : null),
      bytes === undefined ? null : h("span.number", size(bytes)),
      verb ? null : pinButton(id, isPinned, place, { "aria-label": `${isPinned ? "Unpin" : "Pin"} ${id}` })),
    strip(place));
}

function planCard() {
  const { removed = [], killed = [], kept = [], removed_total: total = removed.length, removable_bytes: bytes = 0, kept_total: stays = kept.length, note } = plan;
  const all = total + killed.length;
  return h("div.card.plan", { key: "plan" },
    h("div.head", h("h3", "The plan"), button("Close", () => change(() => (plan = null)), QUIET)),
    note ? h("p.aside", bdi(note)) : null,
    all ? h("ul.list", killed.map((/** @type {any} */ one) => verdictRow(one, "is ended: ")), removed.map((/** @type {any} */ one) => verdictRow(one, "")))
      : h("p.aside", "Nothing can go now."),
    total > removed.length ? h("p.aside", `and ${total - removed.length} more`) : null,
    h("div.line.foot", h("p", whyKept(kept, stays)),
      stays ? button(staysShown ? "Hide them" : "Which, and why", () => change(() => (staysShown = !staysShown)), { class: "quiet", "aria-expanded": String(staysShown) }) : null,
      all && isServed("cleanup_workbenches") ? button(`Remove ${count(all)}, ${size(bytes)}`, cleanUp, { class: "danger solid" }) : null),
    staysShown ? h("ul.list.stays", kept.slice(0, 200).map((/** @type {any} */ one) => verdictRow(one, ""))) : null);
}

/** @param {StoreRow} store */
function storeRow({ name, path, bytes, bytes_complete: isWhole, max_bytes: max, max_age_secs: age, if_lost: lost, goes_next: next }) {
  return h("li", { key: name, title: lost ? `If it is lost: ${lost.replaceAll("_", " ")}` : null },
    h("div.line", h("div.what", h("b", { title: path }, bdi(name)),
      h("p", max ? `of ${size(max)}` : null, max && age ? ", " : null, age ? `kept for ${roughly(age)}` : null,
        next ? [max || age ? " · " : null, bdi(next.name), " goes ", time(next.at)] : null)),
      h("span.number", isWhole === false ? "> " : "", size(bytes))),
    max ? bar(() => bytes / max, "off") : null);
}

function disk() {
  const { used_bytes: used, free_bytes: free, low } = part("disk").head;
  const { removable_bytes: bytes, removable_total: total } = part("plan").head;
  const stores = rows("disk");
  const archived = view.runs.filter((run) => run.row.archived).slice(0, 3);
  const can = isServed("cleanup_workbenches");
  return section("disk", "Disk and cleanup", can && !plan ? button("Clean up…", preview, { "aria-haspopup": "true" }) : null,
    strip("cleanup"),
    plan ? planCard() : null,
    h("div.card", { key: "stores" },
      h("p.sum", h("b", total ? `${size(bytes ?? 0)} in ${plural(total, "workbench", "workbenches")} can go now` : "Nothing to clean up"),
        used === undefined ? null : h("small", { class: low ? "bad" : "" }, `${size(used)} used`, free === undefined ? null : `, ${size(free)} free${low ? ", which is little" : ""}`)),
      h("ul.list", stores.map(storeRow)),
      archived.length ? h("div.recover", h("p", "Work that nobody else has is archived. Bring it back:"), archived.map((run) => h("p", { key: run.id }, copyable(`moadim-mcp recover ${run.id}`)))) : null));
}

function usage() {
  const { total, today, since } = part("usage").head;
  /** @type {UsageRow[]} */
  const agents = rows("usage");
  if (!agents.length || !total) return null;
  return section("usage", "Usage", since ? h("small", "since ", time(since, (at) => format("date", at))) : null,
    h("div.card", h("ul.list", agents.map(({ name, runs: many = 0, input_tokens: read = 0, output_tokens: wrote = 0, cost_usd: cost }) =>
      h("li", { key: name }, h("div.line", h("div.what", h("b", bdi(name)), h("p", plural(many, "run"), read || wrote ? ` · ${count(read)} tokens in, ${count(wrote)} out` : "")),
        h("span.number", cost === undefined ? "" : money(cost)))))),
      today?.max_daily_cost_usd === undefined && today?.max_daily_runs === undefined ? null
        : h("p.aside", "Today: ", plural(today.runs ?? 0, "run"), today.max_daily_runs === undefined ? null : ` of ${count(today.max_daily_runs)}`, today.max_daily_cost_usd === undefined ? null : `, ${money(today.cost_usd ?? 0)} of ${money(today.max_daily_cost_usd)}`)));
}
