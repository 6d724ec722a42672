// What the page knows: the parts that the server sent, and what follows from them.

/** The key of a row that is used, where it is not its id. @type {Record<string, string>} */
const KEYS = { attention: "key", routines: "slug", disk: "name", plan: "run" };

/** What the user chose, and the state of the connection. */
const ui = {
  isLoaded: false,
  hasNoToken: false,
  /** Since when nobody answers. */
  goneAt: 0,
  /** Whether that is because the server is gone. */
  isGone: false,
  /** Why there is no data, where that is so. */
  trouble: "",
  /** What the tool that opened the panel said. */
  summary: "",
  range: "24 h",
  lanesShown: 12,
  filter: "all",
  routine: "",
  runsShown: 0,
  routinesShown: 20,
  find: "",
  /** The run whose page is shown. */
  open: "",
  /** What is unfolded. */
  unfolded: new Set(),
};

/** @type {Record<string, Part>} */
const parts = {};
/** @param {string} name @returns {Part} */
const part = (name) => (parts[name] ??= { version: "", head: {}, rows: new Map() });
/** @param {string} name @returns {any[]} */
const rows = (name) => [...part(name).rows.values()];
/** @param {string} name @returns {any} */
const head = (name) => part(name).head;
/** @param {string} slug @returns {string} */
const titleOf = (slug) => part("routines").rows.get(slug)?.title || slug;

/** How far the machine's clock is ahead of this one. */
let ahead = 0;
const now = () => Date.now() + ahead;

/** @param {string} tool */
const serves = (tool) => Boolean(head("server").tools?.includes(tool));

/** What follows from the parts. */
const view = {
  /** The newest first. @type {Run[]} */
  runs: [],
  /** Those that are not over, as far as is known. @type {Run[]} */
  live: [],
  /** Those of them that are known to be at work. @type {Run[]} */
  running: [],
  /** @type {Map<string, Run[]>} */
  byRoutine: new Map(),
  /** @type {RoutineRow[]} */
  routines: [],
  /** The soonest first. @type {{at: number, slug: string}[]} */
  fires: [],
};

/** Takes in what is newer; returns whether anything is. @param {DataAnswer} answer */
function absorb(answer) {
  const at = Date.parse(answer.now ?? "");
  // A smaller difference is the delay of the answer.
  if (Math.abs(at - now()) > 1500) ahead = at - Date.now();
  const news = Object.entries(answer.parts ?? {});
  for (const [name, { version, whole, head, rows = [], gone = [] }] of news) {
    const held = part(name);
    if (whole) held.rows = new Map();
    for (const key of gone) held.rows.delete(key);
    for (const row of rows) held.rows.set(row[KEYS[name] ?? "id"], row);
    Object.assign(held, { version, head: head ?? held.head });
  }
  if (news.length) derive();
  return news.length > 0;
}

/** @param {LiveRow & EndedRow} row @param {boolean} alive @returns {Run} */
function runOf(row, alive) {
  const { id, routine, status, triggered_at, finished_at, disagreements, reaped, archived } = row;
  const at = Date.parse(triggered_at);
  const [tone] = statusOf(status);
  return {
    id, routine, status, row, alive, at, tone,
    end: Date.parse(finished_at ?? "") || at,
    reason: row.reason ?? row.status_reason,
    isBad: isTroubled(tone) || Boolean(disagreements?.length),
    isKept: alive || !reaped || Boolean(archived),
  };
}

function derive() {
  view.live = rows("live").map((row) => runOf(row, true)).sort((a, b) => b.at - a.at);
  view.running = view.live.filter(({ status }) => status !== "unknown" && status !== "queued");
  // For a moment a run may be in both.
  const ended = rows("ended").filter(({ id }) => !part("live").rows.has(id)).map((row) => runOf(row, false));
  view.runs = [...view.live, ...ended.sort((a, b) => b.at - a.at)];
  view.byRoutine = Map.groupBy(view.runs, (run) => run.routine);
  view.routines = rows("routines").sort((a, b) => titleOf(a.slug).localeCompare(titleOf(b.slug)));
  view.fires = view.routines.flatMap(({ slug, next_fires: fires = [] }) => fires.map((at) => ({ at: Date.parse(at), slug }))).sort((a, b) => a.at - b.at);
}

/** The coming fires, the soonest first. */
const coming = (after = now()) => view.fires.filter(({ at }) => at > after);
