// The whole: what is drawn, and when it is asked for again.

const NET_MS = 30_000;
const BUSY_BEAT_MS = 3000;
const CALM_BEAT_MS = 20_000;
/** How often the open run is asked for, while it is alive. */
const LOOK_MS = 5000;

const root = /** @type {Element} */ (document.getElementById("page"));
const wide = matchMedia("(min-width: 1040px)");

const panel = inHost
  ? hostLink({
      onContext: applyContext,
      onInput: (args) => change(() => (ui.routine = typeof args.routine === "string" ? args.routine : ui.routine)),
      onResult: (result) => change(() => (ui.summary = (result.content ?? []).map((/** @type {any} */ part) => part.text ?? "").join("\n"))),
      onEnd: () => (isEnded = true),
    })
  : null;
/** @type {Link} */
const link = panel ?? browserLink();
let isEnded = false;

const isInline = () => panel !== null && panel.host.context.displayMode !== "fullscreen";

/** @param {any} context */
function applyContext(context) {
  const { style } = document.documentElement;
  if (context.theme) style.setProperty("color-scheme", context.theme === "dark" ? "dark" : "light");
  for (const [name, value] of Object.entries(context.styles?.variables ?? {})) {
    if (name.startsWith("--") && typeof value === "string") style.setProperty(name, value);
  }
  for (const [side, length] of Object.entries(context.safeAreaInsets ?? {})) style.setProperty(`--safe-${side}`, `${Number(length) || 0}px`);
  draw();
}

/** Changes what is shown, and shows it. @param {() => void} how */
function change(how) {
  how();
  draw();
}
let isDue = false;
function draw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => isDue && drawNow());
}
function drawNow() {
  isDue = false;
  setFormats(panel?.host.context.locale, server().time_zone ?? panel?.host.context.timeZone);
  document.documentElement.className = `${inHost ? "host" : "browser"} ${isInline() ? "inline" : ""}`;
  const live = view.runs.filter((run) => run.alive).length;
  const problems = rows("attention").filter((row) => row.severity === "problem").length;
  document.title = `${problems ? `(${problems}) ` : ""}${ui.open ? `${ui.open} · ` : live ? `${live} running · ` : ""}moadim`;
  redraw(root, [ui.noToken ? noToken() : [header(), banner(), ui.loaded ? (ui.open ? runPage() : overview()) : waiting()], toastArea()]);
}

function header() {
  const modes = panel?.host.context.availableDisplayModes ?? [];
  if (inHost) {
    return isInline() && modes.includes("fullscreen") ? h("div.modes", { key: "modes" }, button("Full screen", () => void panel?.show("fullscreen"), QUIET)) : null;
  }
  const { home, program, time_zone: name } = server();
  return h("header.top", { key: "header" }, h("p.brand", icon("live"), "moadim"),
    h("p.where", home ? h("span.wide", bdi(home)) : null, program ? h("span", `version ${program}`) : null,
      ui.loaded ? h("span", { title: name }, ticks(() => format("clock", now()))) : null));
}

function banner() {
  return ui.goneAt && ui.loaded ? h("p.banner", { key: "gone", role: "alert" },
    `The dashboard has not answered since ${format("clock", ui.goneAt)}. What you see is from then. It is asked again every few seconds; if it has ended, start it with `, h("code", "moadim-mcp dashboard"), ".") : null;
}

const noToken = () =>
  h("main.lone", { key: "token" }, h("h1", "This page needs its token"),
    h("p", "The address of the dashboard holds a token, which is new each time it starts. This tab has none, or an old one."),
    h("p", "Open it with:"), h("p", copyable("moadim-mcp dashboard")),
    h("p", "The command opens the dashboard that runs, or starts one."));

const waiting = () =>
  h("main.lone", { key: "waiting" },
    ui.summary ? h("div.prose", bdi(ui.summary)) : null,
    ui.trouble ? h("p", { role: "alert" }, bdi(ui.trouble)) : h("p.wait", h("span.spinner", { "aria-hidden": "true" }), "Looking at what runs…"));

function empty() {
  return h("section.card.empty", { key: "empty", "aria-labelledby": "empty-title" },
    h("h2", { id: "empty-title" }, "No routine yet"),
    h("p", "A routine is a prompt, an agent and, if you like, a schedule. Ask the agent that you work with to make one:"),
    h("ul.quotes", ["Create a routine that triages new issues every weekday at 8.", "Create a routine that checks the links of our documentation each night, and reports what is broken.", "Run that routine now, and tell me how it went."].map((text) => h("li", { key: text }, h("q", text)))),
    h("p", "If your agent does not know moadim yet, connect the two:"), h("p", copyable("moadim-mcp setup")),
    h("p", "Or make one yourself:"), h("p", copyable("moadim-mcp create")));
}

function overview() {
  if (!view.routines.length && !view.runs.length) return [h("h1.unseen", { key: "h1" }, "Dashboard"), h("main", { key: "overview" }, attention(), empty(), disk())];
  const lists = [timeline(), routines(), runs()];
  const side = [nextFires(), disk(), usage()];
  return [
    h("h1.unseen", { key: "h1" }, "Dashboard"),
    h("main", { key: "overview" }, tiles(), attention(), nowRunning(),
      wide.matches ? h("div.columns", { key: "columns" }, h("div", lists), h("div", side)) : [lists, side]),
  ];
}

function nextFires() {
  const fires = coming().slice(0, 7);
  if (!fires.length || isInline()) return null;
  return section("next", "Next", null, h("ul.card.list", fires.map(({ at, routine }) =>
    h("li", { key: `${routine.slug} ${at}`, class: "line" }, button(bdi(titleOf(routine.slug)), () => showRoutine(routine.slug), { class: "link" }), h("small", time(at, (at) => format("moment", at)), " · ", time(at))))));
}

let isAsking = false;
let isStale = false;
/** Asks for what is newer. */
async function refresh() {
  isStale = true;
  if (isAsking || isEnded) return;
  isAsking = true;
  while (isStale) {
    isStale = false;
    try {
      const answer = await link.call("dashboard_data", { known: known() });
      const wasGone = ui.goneAt > 0 || !ui.loaded || ui.noToken;
      Object.assign(ui, { loaded: true, goneAt: 0, noToken: false });
      if (absorb(answer) || wasGone) {
        draw();
        if (opened && answer.parts?.live) void look();
      }
    } catch (error) {
      const { kind, message } = /** @type {CallError} */ (error);
      if (kind === "token") ui.noToken = true;
      else if (kind === "gone") ui.goneAt ||= now();
      ui.trouble = message;
      draw();
    }
  }
  isAsking = false;
}

/** A beat: hosts are asked each time, a server that tells of changes now and then. */
function beat() {
  const isLive = view.runs.some((run) => run.alive);
  const pause = ui.goneAt ? BUSY_BEAT_MS : inHost ? (isLive ? BUSY_BEAT_MS : CALM_BEAT_MS) : NET_MS;
  setTimeout(() => {
    if (!document.hidden) void refresh();
    beat();
  }, pause);
}

let seconds = 0;
function second() {
  if (document.hidden || isEnded) return;
  seconds += 1;
  tick();
  // The timeline moves.
  if (seconds % 30 === 0) draw();
  if (!opened || opened.log.isOver) return;
  if (!inHost || seconds % 3 === 0) void opened.log.follow();
  if (Date.now() - opened.at > LOOK_MS) void look();
}

function readAddress() {
  if (/^#token=/.test(location.hash)) return location.reload();
  const [, run] = /^#run=(.+)$/.exec(location.hash) ?? [];
  goTo(run ? decodeURIComponent(run) : "");
}

async function start() {
  draw();
  wide.addEventListener("change", draw);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void refresh();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && ui.open && !(event.target instanceof HTMLInputElement) && !(event.target instanceof Element && event.target.closest(".doing"))) closeRun();
  });
  if (panel) {
    const watch = new ResizeObserver(() => {
      clearTimeout(resize);
      resize = setTimeout(() => panel.resized(Math.ceil(document.documentElement.clientWidth), Math.ceil(root.getBoundingClientRect().height)), 60);
    });
    watch.observe(root);
    await panel.start();
    if (!panel.host.capabilities.serverTools) {
      change(() => (ui.trouble = "This host shows the dashboard, but lets it call no tools: this is the summary. For all of it, run `moadim-mcp dashboard`."));
      return;
    }
  } else {
    addEventListener("hashchange", readAddress);
    readAddress();
    link.listen?.(() => void (document.hidden || refresh()));
  }
  void refresh();
  beat();
  setInterval(second, 1000);
}
let resize = 0;

void start();
