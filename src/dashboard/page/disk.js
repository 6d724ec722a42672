// Disk and cleanup: what is stored, what a cleanup would remove and why, and what stays.

/** The plan that is shown: what a dry run answered. @type {any} */
let plan = null;

/** What goes by a plan. @param {any} of @returns {any[]} */
const goes = ({ killed = [], removed = [] }) => [...killed, ...removed];

/** Asks what a cleanup would do; returns whether that is more than is shown, if it is known. @returns {Promise<boolean | void>} */
async function preview() {
  doing("cleanup", { phase: "wait", text: "Looking…" });
  const shown = new Set(goes(plan ?? {}).map(({ run }) => run));
  try {
    const newer = await link.call("cleanup_workbenches", { dry_run: true });
    const isMore = goes(newer).some(({ run }) => !shown.has(run)) || newer.removed_total > plan?.removed_total;
    plan = newer;
    finish("cleanup");
    return isMore;
  } catch (error) {
    doing("cleanup", { phase: "error", text: /** @type {Error} */ (error).message });
  }
}

/** Does what the plan shows; if there is more by now, that is shown first. */
async function cleanUp() {
  const isMore = await preview();
  if (isMore) doing("cleanup", { phase: "done", text: "There is more to clean up now. Review the list, then confirm again." });
  if (isMore !== false) return;
  act({ place: "cleanup", tool: "cleanup_workbenches", args: {}, said({ removed_total: removed = 0, freed_bytes: freed = 0, pending_bytes: pending, failed: [failed] = [], note = "", kept = [] }) {
    plan = null;
    const archiving = kept.filter((/** @type {any} */ { why }) => why === "archiving").length;
    return `${plural(removed, "workbench", "workbenches")} removed, ${size(freed)} freed. ${archiving ? `${archiving} more will go once archived. ` : ""}${pending ? `${size(pending)} still being removed. ` : ""}${failed ? `${failed.path ?? failed.run}: ${failed.error}. ` : ""}${note}`;
  } });
}

/** @param {any} plan */
function whyKept({ kept = [], kept_total: total = kept.length }) {
  const words = Object.entries(Object.groupBy(kept, (/** @type {any} */ { why }) => why)).map(([why, all]) => `${all?.length} ${spaced(why)}`);
  return `${plural(total, "workbench stays", "workbenches stay")}: ${words.concat(total > kept.length ? `${count(total - kept.length)} more` : []).join(", ")}`;
}

/** @param {any} verdict */
function verdict({ run, what, reason, bytes, archived, not_archived: lost, until, why }) {
  const place = `plan ${run}`;
  return h("li", { key: run },
    h("div.line",
      h("div.what", runLink(bdi(run), run, { class: "link mono" }),
        h("p", what && (what === "keep" ? "Stays: " : "Goes: "), bdi(reason), until && [" · goes ", time(until)], archived && " · archived first", lost && " · not archived: ", lost && shown("", lost))),
      h("span.number", size(bytes)),
      why !== "alive" && pinButton(run, part("ended").rows.get(run)?.pinned, place)),
    strip(place));
}

/** @param {any} label @param {() => void} onclick @param {object} [props] */
const cleanupButton = (label, onclick, props) => toolButton(label, "cleanup", "cleanup_workbenches", {}, "", { onclick, ...props });

function planCard() {
  const { removed_total: total = 0, killed_total: ended = 0, removable_bytes: bytes = 0, kept = [], note } = plan;
  const going = goes(plan);
  const all = total + ended;
  return h("div.card.plan",
    h("div.head", h("h3", "What a cleanup would do"), quiet("Close", () => (plan = null))),
    note && h("p.aside", bdi(note)),
    all ? h("ul.list", going.map(verdict)) : h("p.aside", "Nothing can go now."),
    all > going.length && h("p.aside", `and ${all - going.length} more`),
    h("div.buttons.foot", kept.length > 0 && [h("p", whyKept(plan)), fold("Which, and why", "stays")],
      all > 0 && cleanupButton(`Clean up ${count(all)} (${size(bytes)})`, cleanUp, { class: "danger solid" })),
    ui.unfolded.has("stays") && h("ul.list.stays", kept.slice(0, 200).map(verdict)));
}

/** @type {Record<string, string>} */
const IF_LOST = { lost: "Lost if deleted.", fetched_again: "Can be fetched again." };
function disk() {
  const { removable_bytes: bytes = 0, removable_total: total } = head("plan");
  const { used_bytes: used, free_bytes: free, low } = head("disk");
  const archived = view.runs.filter(({ row }) => row.archived);
  return section("disk", "Disk and cleanup", !plan && cleanupButton("Clean up…", preview),
    strip("cleanup"),
    plan && planCard(),
    !serves("cleanup_workbenches") && rows("plan").length > 0 && h("div.card.plan", fold("What goes, and what stays", "plan"), ui.unfolded.has("plan") && h("ul.list.stays", rows("plan").map(verdict))),
    h("div.card",
      h("p.aside", h("b", total ? `${size(bytes)} in ${plural(total, "workbench", "workbenches")} can go now` : total === 0 ? "Nothing to clean up" : "Still measuring…"), used !== undefined && [h("br"), `used ${size(used)}`, free !== undefined && ` · free ${size(free)}`, low && " · disk space is low"]),
      h("ul.list", rows("disk").map(({ name, bytes, bytes_complete: isWhole, path, max_bytes: most, max_age_secs: age, goes_next: next, if_lost: loss }) =>
        h("li", { key: name },
          h("div.line", h("div.what", h("b", { title: path }, bdi(name)), h("p", most && `At most ${size(most)}. `, age && `At most ${span(age)}. `, next && ["Goes next: ", bdi(next.name), ", ", time(next.at), ". "], IF_LOST[loss])), h("span.number", isWhole === false && "> ", size(bytes))),
          most && bar(() => bytes / most, "off")))),
      archived.length > 0 && h("div.aside", "To bring back archived work:", archived.slice(0, 3).map(({ id }) => h("p", copyable(`moadim-mcp recover ${id}`))), archived[3] && h("p", "All of them: ", copyable("moadim-mcp recover")))));
}
