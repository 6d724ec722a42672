// Buttons that call tools: what they ask first, what they wait for, and how it went, at the place where they are.

/** @type {Map<string, Doing>} */
const doings = new Map();
/** A second click of a double click is no answer. */
const LEAST_THOUGHT_MS = 400;

/** @param {Action} action */
function act(action) {
  const origin = document.activeElement;
  if (!action.ask) return void run(action, origin);
  const go = () => void run(action, origin);
  doing(action.place, { phase: "ask", text: action.ask, label: action.label ?? "Yes", danger: true, go, origin });
}

/** @param {Action} action @param {Element | null} origin @param {string} [agreement] */
async function run(action, origin, agreement) {
  const { place, tool, args, done } = action;
  doing(place, { phase: "wait", text: "Working…", origin });
  try {
    const said = done?.(await link.call(tool, args, agreement)) ?? "";
    const end = typeof said === "string" ? { text: said } : said;
    if (end.text) toast(end.text);
    if ("open" in end) doing(place, { phase: "done", ...end, origin });
    else finish(place);
  } catch (error) {
    const { message, kind, agreement: asked } = /** @type {CallError} */ (error);
    if (kind === "ask") {
      const go = () => void run(action, origin, asked);
      doing(place, { phase: "ask", text: message, label: action.label ?? "Agree", danger: true, go, origin });
      return;
    }
    doing(place, { phase: "error", text: message, origin });
    toast(message);
  }
  refresh();
}

/** @param {string} place @param {Doing} what */
function doing(place, what) {
  doings.set(place, { ...what, since: performance.now() });
  draw();
}

/** @param {string} place */
function finish(place) {
  const origin = doings.get(place)?.origin;
  const isHere = document.activeElement?.closest(".doing");
  doings.delete(place);
  draw();
  if (isHere && origin instanceof HTMLElement && origin.isConnected) origin.focus({ preventScroll: true });
}

/** What goes on at a place; nothing mostly. @param {string} place */
function strip(place) {
  const what = doings.get(place);
  if (!what) return null;
  const { phase, text, label, danger, since = 0, go, open } = what;
  const onkeydown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Escape") finish(place);
  };
  const answer = () => performance.now() - since > LEAST_THOUGHT_MS && go?.();
  return h("div", { key: `doing ${phase}`, class: `doing ${phase}`, role: phase === "ask" ? "group" : null, "aria-label": phase === "ask" ? "Question" : null, onkeydown },
    phase === "wait" ? h("span.spinner", { "aria-hidden": "true" }) : null,
    h("p", phase === "error" ? "It did not work: " : null, bdi(text)),
    go ? button(label ?? "Yes", answer, { class: danger ? "danger solid" : "solid", focus: true }) : null,
    open ? button("Open it", () => openRun(open), { class: "solid", focus: true }) : null,
    phase === "wait" ? null : button(phase === "ask" ? "No" : "Close", () => finish(place), QUIET));
}

/** @param {Kids} label @param {(event: Event) => void} onclick @param {Record<string, any>} [props] */
const button = (label, onclick, props) => h("button", { type: "button", onclick, ...props }, label);

const QUIET = { class: "quiet" };
/** A button for a tool that is served; no other is drawn. @param {Kids} label @param {Action} action @param {Record<string, any>} [props] */
const toolButton = (label, action, props) => {
  const isBusy = doings.get(action.place)?.phase === "wait";
  return isServed(action.tool) ? button(label, () => isBusy || act(action), { ...props, "aria-disabled": isBusy ? "true" : null }) : null;
};

/** @param {string} run @param {string} place @param {Record<string, any>} [props] */
const stopButton = (run, place, props) =>
  toolButton("Stop", {
    place, tool: "stop_run", args: { run }, label: "Stop it",
    ask: "Stop this run? All of its processes are ended, and what it did so far stays in its workbench.",
    done: () => "The run has been stopped.",
  }, { class: "danger", ...props });
/** @param {string} run @param {boolean} isPinned @param {string} place @param {Record<string, any>} [props] */
const pinButton = (run, isPinned, place, props) =>
  toolButton(isPinned ? "Unpin" : "Pin", {
    place, tool: "pin_run", args: { run, pinned: !isPinned },
    done: () => (isPinned ? "Its workbench goes as usual." : "Its workbench stays until you unpin it."),
  }, { class: "quiet", title: isPinned ? "Let its workbench go as usual" : "Keep its workbench until you unpin it", ...props });

/** A command to type, which can be copied where that is allowed. @param {string} command */
function copyable(command) {
  /** @param {Event} event */
  const copy = async (event) => {
    const code = /** @type {Element} */ (event.currentTarget).previousElementSibling;
    try {
      await navigator.clipboard.writeText(command);
      toast("Copied.");
    } catch {
      if (code) getSelection()?.selectAllChildren(code);
      toast("It is selected: copy it with the keyboard.");
    }
  };
  return h("span.command", h("code", bdi(command)), button("Copy", copy, { class: "quiet", "aria-label": `Copy ${command}` }));
}

const toasted = { text: "", until: 0 };
/** @param {string} text */
function toast(text) {
  Object.assign(toasted, { text, until: Date.now() + 7000 });
  setTimeout(draw, 7100);
  draw();
}
const toastArea = () =>
  h("div.toast", { key: "toast", role: "status" }, Date.now() < toasted.until ? h("p", bdi(toasted.text)) : null);
