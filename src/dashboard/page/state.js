// What the page knows: the parts that the server sent, and what follows from them.

/** The key of a row in each part. @type {Record<string, string>} */
const KEYS = { attention: "key", live: "id", routines: "slug", ended: "id", disk: "name", plan: "run", usage: "name" };
/** @type {Record<string, Part>} */
const parts = {};

/** What the person chose, and what goes on. */
const ui = {
  loaded: false,
  /** Since when nobody answers. */
  goneAt: 0,
  noToken: false,
  /** Why there is no data, where that is so. */
  trouble: "",
  /** What the tool that opened the panel said. */
  summary: "",
  range: "24h",
  allLanes: false,
  filter: "all",
  routine: "",
  runsShown: 0,
  routinesShown: 20,
  find: "",
  open: "",
  spread: new Set(),
};

/** How far the machine's clock is ahead of this one. */
let ahead = 0;
const now = () => Date.now() + ahead;

/** @param {string} name @returns {Part} */
const part = (name) => (parts[name] ??= { version: "", head: {}, rows: new Map() });
/** @param {string} name @returns {any[]} */
const rows = (name) => [...part(name).rows.values()];
/** @returns {ServerHead} */
const server = () => part("server").head;
/** @param {string} tool */
const isServed = (tool) => server().tools?.includes(tool) ?? false;
/** @param {string} slug @returns {string} */
const titleOf = (slug) => part("routines").rows.get(slug)?.title || slug;

/** Takes in what is newer. Returns whether anything is. @param {DataAnswer} answer */
function absorb(answer) {
  const at = Date.parse(answer.now ?? "");
  // Less than a second is the time that the answer took.
  if (Number.isFinite(at) && Math.abs(at - now()) > 1500) ahead = at - Date.now();
  const news = Object.entries(answer.parts ?? {});
  for (const [name, { version, whole, head, rows: changed, gone }] of news) {
    const held = part(name);
    if (whole) held.rows = new Map();
    for (const key of gone ?? []) held.rows.delete(key);
    for (const row of changed ?? []) held.rows.set(row[KEYS[name] ?? "id"], row);
    if (head) held.head = head;
    held.version = version;
  }
  if (news.length) derive();
  return news.length > 0;
}

const known = () => Object.fromEntries(Object.entries(parts).map(([name, { version }]) => [name, version]));

/** What follows from the parts. */
const view = {
  /** Newest first. @type {Run[]} */
  runs: [],
  /** @type {Map<string, Run[]>} */
  byRoutine: new Map(),
  /** @type {RoutineRow[]} */
  routines: [],
  /** The soonest first. @type {{at: number, routine: RoutineRow}[]} */
  next: [],
};

/** Which ends say that a routine does not work. */
const FAILURES = new Set(["failed", "timed_out", "silent", "launch_failed", "lost", "interrupted"]);

/** @param {LiveRow & EndedRow} row @param {boolean} alive @returns {Run} */
function runOf(row, alive) {
  const at = Date.parse(row.triggered_at);
  const finished = Date.parse(row.finished_at ?? "");
  return {
    row, alive, at,
    id: row.id,
    routine: row.routine,
    status: row.status,
    tone: statusOf(row.status)[0],
    end: Number.isFinite(finished) ? finished : at,
    ...(row.duration_secs !== undefined && { secs: row.duration_secs }),
    isBad: FAILURES.has(row.status) || row.status === "unknown" || Boolean(row.disagreements?.length),
    isKept: alive || !row.reaped || Boolean(row.archived),
    ...((row.reason ?? row.status_reason) && { reason: row.reason ?? row.status_reason }),
    ...(row.headline && { headline: row.headline }),
    ...(row.cost_usd !== undefined && { cost: row.cost_usd }),
  };
}

function derive() {
  const live = part("live").rows;
  view.runs = rows("live").map((row) => runOf(row, true));
  // For a moment a run may be in both.
  for (const row of part("ended").rows.values()) if (!live.has(row.id)) view.runs.push(runOf(row, false));
  view.runs.sort((a, b) => Number(b.alive) - Number(a.alive) || b.at - a.at || (a.id < b.id ? 1 : -1));
  view.byRoutine = new Map();
  for (const run of view.runs) {
    const of = view.byRoutine.get(run.routine);
    if (of) of.push(run);
    else view.byRoutine.set(run.routine, [run]);
  }
  /** @param {RoutineRow} a @param {RoutineRow} b */
  const byTitle = (a, b) => (a.title || a.slug).localeCompare(b.title || b.slug);
  view.routines = rows("routines").sort(byTitle);
  view.next = [];
  for (const routine of view.routines) {
    for (const fire of routine.next_fires ?? []) view.next.push({ at: Date.parse(fire), routine });
  }
  view.next.sort((a, b) => a.at - b.at);
}
/** The coming fires. */
const coming = () => view.next.filter((fire) => fire.at > now());
