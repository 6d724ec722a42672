// Draws the page, and decides when to poll.

const NET_MS = 30_000;
const BUSY_BEAT_MS = 3000;
const CALM_BEAT_MS = 15_000;
/** How often the open run is asked for while it is alive. */
const LOOK_MS = 5000;

const html = document.documentElement;
const root = /** @type {Element} */ (document.getElementById("page"));
const panel = inHost
  ? hostLink({
      context: applyContext,
      input: ({ routine = "" }) => draw((ui.routine = routine)),
      result: (result) => draw((ui.summary = textOf(result))),
      end: () => (isEnded = true),
    })
  : null;
/** @type {Link} */
const link = panel ?? browserLink();
let isEnded = false;
const isInline = () => panel !== null && panel.host.context.displayMode !== "fullscreen";

/** @param {any} context */
function applyContext({ theme, styles }) {
  const { style } = html;
  if (theme) style.setProperty("color-scheme", theme);
  for (const [name, value] of Object.entries(styles?.variables ?? {})) if (name.startsWith("--")) style.setProperty(name, `${value}`);
  draw();
}

let isDue = false;
/** Draws soon what was changed. @param {any} [_change] */
function draw(_change) {
  if (!isDue) requestAnimationFrame(() => isDue && drawNow());
  isDue = true;
}
function drawNow() {
  isDue = false;
  const { locale, timeZone } = panel?.host.context ?? {};
  setFormats(locale, head("server").time_zone ?? timeZone);
  html.className = `${inHost ? "host" : ""} ${isInline() ? "inline" : ""}`;
  const problems = rows("attention").filter(({ severity }) => severity === "problem").length;
  document.title = `${problems ? `(${problems}) ` : ""}${ui.open || `${view.running.length} running`} · moadim`;
  redraw(root, [
    ui.hasNoToken ? noToken() : [header(), gone(), !ui.isLoaded ? waiting() : ui.open ? runPage() : overview()],
    h("div.toast", { role: "status" }, Date.now() < toasted.until && h("p", bdi(toasted.text))),
  ]);
}

function header() {
  const { home, program, time_zone: name } = head("server");
  if (!inHost) {
    return h("header", h("p.brand", icon("live"), "moadim"),
      h("p.where", program && h("span.wide", bdi(home), ` · version ${program}`), ui.isLoaded && h("span", { title: name }, ticks(() => clock(now())))));
  }
  const isOffered = isInline() && panel?.host.context.availableDisplayModes?.includes("fullscreen");
  return isOffered && h("div.modes", quiet("Full screen", () => panel?.show("fullscreen").catch(() => {})));
}

const gone = () =>
  ui.goneAt > 0 && ui.isLoaded && h("p.banner", { role: "alert" }, `Nothing new since ${clock(ui.goneAt)}: `, bdi(ui.trouble), ui.isGone && [" To start the dashboard again: ", copyable("moadim-mcp dashboard")]);

const noToken = () =>
  h("main.lone", h("h1", "This page needs a token"),
    h("p", "The token is new each time the dashboard starts, and this tab has none or an old one. To open the page again: ", copyable("moadim-mcp dashboard")));

const waiting = () =>
  h("main.lone", ui.summary && h("div.card.prose", bdi(ui.summary)),
    ui.trouble ? h("p", { role: "alert" }, bdi(ui.trouble)) : h("p.wait", "Loading…"));

const empty = () =>
  h("section.card.empty", h("h1", "No routines yet"),
    h("p", "A routine is a prompt, an agent and, if you like, a schedule. Ask the agent that you work with to make one:"),
    ["Create a routine that triages new issues every weekday at 8.", "Create a routine that checks the links of our docs each night."].map((text) => h("q", text)),
    h("p", "If your agent has no moadim tools yet: ", copyable("moadim-mcp setup")));

function overview() {
  const isEmpty = !view.routines.length && !view.runs.length;
  return h("main",
    isEmpty ? [attention(), empty()]
      : [h("h1.unseen", "Dashboard"), tiles(), attention(), running(), h("div.columns", h("div.stack", timeline(), routines(), runs()), h("div.stack", nextFires(), disk()))]);
}

function nextFires() {
  const fires = coming().slice(0, 7);
  return fires.length > 0 && !isInline() && section("next", "Next", null, h("ul.card.list", fires.map(({ at, slug }) =>
    h("li", { key: `${slug} ${at}` }, button(bdi(titleOf(slug)), () => showRoutine(slug), { class: "link" }), h("p", time(at, moment), " · ", time(at))))));
}

let askedAt = 0;
let isAsking = false;
let isStale = false;
let hasNews = false;
/** Polls for changes. */
async function refresh() {
  isStale = true;
  if (isAsking || isEnded) return;
  isAsking = true;
  askedAt = Date.now();
  while (isStale) {
    isStale = false;
    try {
      const known = Object.fromEntries(Object.entries(parts).map(([name, { version }]) => [name, version]));
      const answer = await link.call("dashboard_data", { known });
      const isBack = ui.goneAt > 0 || !ui.isLoaded;
      Object.assign(ui, { isLoaded: true, goneAt: 0 });
      hasNews = absorb(answer);
      if (hasNews || isBack) draw();
      if (isBack || answer.parts?.live || answer.parts?.ended) look();
    } catch (error) {
      const { kind, message } = /** @type {ReturnType<typeof callError>} */ (error);
      // A new token comes with a reload.
      if (kind === "token") ui.hasNoToken = isEnded = true;
      if (!isEnded) ui.goneAt ||= now();
      ui.isGone = !inHost && kind === "gone";
      ui.trouble = message;
      draw();
    }
  }
  isAsking = false;
}

let seconds = 0;
function second() {
  if (document.hidden || isEnded) return;
  seconds += 1;
  tick();
  // The timeline moves.
  if (seconds % 30 === 0) draw();
  // Hosts push nothing; the server announces each change.
  // What is computed in the background, such as the cleanup's plan, follows a change by seconds.
  const pause = hasNews || ui.goneAt || (inHost && view.running.length) ? BUSY_BEAT_MS : inHost ? CALM_BEAT_MS : NET_MS;
  if (Date.now() - askedAt >= pause) refresh();
  if (!opened || opened.log.isOver()) return;
  if (!inHost || seconds % 3 === 0) opened.log.follow();
  if (Date.now() - opened.at > LOOK_MS) look();
}

function readAddress() {
  if (location.hash.startsWith("#token=")) return location.reload();
  // A run's id has nothing that an address would write in another way.
  goTo(/^#run=([\w-]+)$/.exec(location.hash)?.[1] ?? "");
}

async function start() {
  draw();
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  addEventListener("keydown", ({ key, target }) => {
    if (key !== "Escape" || /** @type {any} */ (target).matches("input, textarea")) return;
    const [place] = [...doings.keys()].slice(-1);
    if (place) finish(place);
    else if (ui.open) openRun("");
  });
  if (panel) {
    let due = 0;
    new ResizeObserver(() => {
      clearTimeout(due);
      due = setTimeout(() => panel.resized(html.clientWidth, Math.ceil(root.getBoundingClientRect().height)), 60);
    }).observe(root);
    try {
      await panel.start();
    } catch {
      return draw((ui.trouble = "The host does not answer the panel. Close it, and ask for the dashboard again."));
    }
    if (!panel.host.capabilities.serverTools) {
      return draw((ui.trouble = "This host does not let the panel call tools, so this is only a summary. To see everything, run moadim-mcp dashboard."));
    }
  } else {
    addEventListener("hashchange", readAddress);
    readAddress();
    link.listen?.(() => document.hidden || refresh());
  }
  refresh();
  setInterval(second, SECOND);
}

start();
