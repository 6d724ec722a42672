// Serves the page with a story instead of a home, to look at it: `node tests/page/fixture.mjs [PORT] [hostile] [empty] [many]`.
import { createServer } from "node:http";
import { page, policy } from "./page.mjs";
import { inspection, story } from "./story.mjs";

const [, , port = "8123", ...words] = process.argv;
const hostile = words.includes("hostile");
const data = words.includes("empty")
  ? { server: { head: { ...story().server.head, routines_total: 0, runs_total: 0 } }, attention: { head: {}, rows: [] }, live: { rows: [] }, routines: { rows: [] }, ended: { head: {}, rows: [] } }
  : story({ hostile, ...(words.includes("many") && { routines: 70 }) });
const TOKEN = "x".repeat(43);
const started = Date.now();
const rate = words.includes("fast") ? 1000 : 1;

const line = (n) => `[${new Date(started + (n * 1000) / rate).toISOString().slice(11, 19)}] run ${n} of 900: ${n % 7 ? "ok 412 tests" : "FAILED timing::sweep_is_quick"}${hostile ? ' <script>alert("log")</script> \u202e' : ""}\n`;
const WIDTH = 64 + (hostile ? 48 : 0);
const pad = (text) => text.slice(0, -1).padEnd(WIDTH - 1) + "\n";
const lines = () => 300 + Math.floor(((Date.now() - started) / 1000) * rate);

function readLog({ run, offset, tail_lines: tail = 200, grep }) {
  const total = lines();
  if (grep) {
    const found = [];
    for (let n = 0; n < total && found.length < 200; n += 1) if (new RegExp(grep, "i").test(line(n))) found.push(`${n * WIDTH}:${pad(line(n)).trimEnd()}`);
    return { run, text: found.join("\n") + "\n", cut: found.length === 200, next_offset: total * WIDTH, log_bytes: total * WIDTH };
  }
  const from = offset === undefined ? Math.max(0, total - Math.min(tail, 4000)) : Math.ceil(offset / WIDTH);
  const to = Math.min(total, from + 4000);
  let text = "";
  for (let n = from; n < to; n += 1) text += pad(line(n));
  return { run, text, cut: offset === undefined ? from > 0 : to < total, next_offset: to * WIDTH, log_bytes: total * WIDTH };
}

const find = (id) => data.ended.rows.find((run) => run.id === id);
let version = 1;
const changed = new Set();
const tools = {
  dashboard_data({ known = {} }) {
    const parts = {};
    for (const [name, part] of Object.entries(data)) {
      const current = `${name}${changed.has(name) ? version : 0}`;
      if (known[name] !== current) parts[name] = { version: current, whole: true, ...part };
    }
    return { format: 1, now: new Date().toISOString().replace(/\.\d+/, ""), parts };
  },
  get_run: ({ run }) => inspection(data, run, hostile) ?? fail(`there is no run '${run}'`),
  read_log: readLog,
  stop_run({ run }) {
    const at = data.live.rows.findIndex((one) => one.id === run);
    if (at < 0) return fail(`the run '${run}' has ended`);
    const [row] = data.live.rows.splice(at, 1);
    data.ended.rows.unshift({ id: row.id, routine: row.routine, status: "stopped", triggered_at: row.triggered_at, finished_at: new Date().toISOString(), duration_secs: 100, reason: "a person stopped it" });
    return change(["live", "ended"], { run: { id: run } });
  },
  pin_run({ run, pinned }) {
    Object.assign(find(run), { pinned });
    return change(["ended"], { run: { id: run } });
  },
  trigger_routine({ routine }) {
    if (routine === "release-notes") return fail("cannot trigger routine 'release-notes': its agent 'claude' is not installed; install it, or choose another agent");
    const now = Math.floor(Date.now() / 1000);
    const id = `${routine}-${now}`;
    data.live.rows.push({ id, routine, title: routine, status: "preparing", triggered_at: new Date(now * 1000).toISOString(), max_runtime_secs: 900 });
    return change(["live"], { run: { id } });
  },
  update_routine({ routine, enabled }) {
    Object.assign(data.routines.rows.find((one) => one.slug === routine), { enabled });
    return change(["routines"], {});
  },
  snooze_routine: () => ({}),
  cleanup_workbenches({ dry_run: dry }) {
    const of = (what) => data.plan.rows.filter((row) => row.what === what);
    const removed = of("remove");
    const answer = { dry_run: Boolean(dry), removed, removed_total: removed.length, killed: [], kept: of("keep"), kept_total: of("keep").length, removable_bytes: removed.length * 143_000, freed_bytes: dry ? 0 : removed.length * 143_000, failed: [], failed_total: 0, stores: data.disk.rows };
    if (dry) return answer;
    for (const { run } of removed) Object.assign(find(run) ?? {}, { reaped: true });
    data.plan.rows = of("keep");
    Object.assign(data.plan.head, { removable_total: 0, removable_bytes: 0 });
    return change(["ended", "plan"], answer);
  },
};
function fail(message) {
  throw new Error(message);
}
const listeners = new Set();
function change(names, answer) {
  version += 1;
  names.forEach((name) => changed.add(name));
  listeners.forEach((listener) => listener.write('event: changed\ndata: {"topics":["moadim://runs/"]}\n\n'));
  return answer;
}

createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  if (pathname === "/") {
    const html = page();
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy(html), "Cache-Control": "no-store" });
    return response.end(html);
  }
  if (request.headers.authorization !== `Bearer ${TOKEN}`) return response.writeHead(401).end('{"error":"no token"}');
  if (pathname === "/api/events") {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(": open\n\n");
    listeners.add(response);
    return request.on("close", () => listeners.delete(response));
  }
  let body = "";
  for await (const piece of request) body += piece;
  const tool = tools[pathname.replace("/api/tools/", "")];
  try {
    const answer = JSON.stringify(tool(JSON.parse(body || "{}")));
    response.writeHead(200, { "Content-Type": "application/json" }).end(answer);
  } catch (error) {
    response.writeHead(tool ? 422 : 404, { "Content-Type": "application/json" }).end(JSON.stringify({ error: error.message }));
  }
}).listen(Number(port), "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/#token=${TOKEN}`));
