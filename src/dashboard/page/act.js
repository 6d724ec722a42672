// Buttons that call tools, with the question, the wait and the result shown beside the button.

/** @type {Map<string, Doing>} */
const doings = new Map();
/** The second half of a double click must not confirm. */
const LEAST_THOUGHT_MS = 400;

/** @param {Action} action @param {string} [agreement] */
async function act(action, agreement) {
  const { place, tool, args, said, ask, yes } = action;
  if (doings.get(place)?.phase === "wait") return;
  /** @param {string} text @param {string} [id] */
  const question = (text, id) => doing(place, { phase: "ask", text, yes, go: () => act({ ...action, ask: "" }, id) });
  if (ask) return question(ask);
  doing(place, { phase: "wait", text: "Working…" });
  try {
    const answer = await link.call(tool, args, agreement);
    const text = typeof said === "string" ? said : said(answer);
    toast(text);
    if (tool === "continue_run") {
      // Its buttons stay off until the answer is seen.
      doing(place, { phase: "wait", text });
      setTimeout(() => finish(place), 5000);
    } else if (tool === "trigger_routine") doing(place, { phase: "done", text, open: answer.run?.id });
    else finish(place);
  } catch (error) {
    const { message, kind, agreement: id } = /** @type {ReturnType<typeof callError>} */ (error);
    if (kind === "ask") return question(message, id);
    doing(place, { phase: "error", text: message });
    toast(message);
  }
  refresh();
  look();
  // The plan of a cleanup is made in the background.
  setTimeout(refresh, 2000);
}

/** @param {string} place @param {Doing} what */
function doing(place, what) {
  const origin = doings.get(place)?.origin ?? document.activeElement;
  doings.set(place, { since: performance.now(), origin, ...what });
  draw();
}

/** @param {string} place @param {any} [_change] */
function finish(place, _change) {
  const origin = doings.get(place)?.origin;
  const isHere = document.activeElement?.closest(".doing");
  doings.delete(place);
  drawNow();
  if (isHere) focusOn(origin);
}

/** The question or result at a place, if there is one. @param {string} place */
function strip(place) {
  const { phase, text, yes = "Agree", since = 0, go, open } = doings.get(place) ?? {};
  if (!phase) return null;
  return h(`div.doing.${phase}`, { key: phase, role: "group", label: phase === "ask" ? "Question" : "Result" },
    h("p", phase === "error" && "Failed: ", bdi(text)),
    go && button(yes, () => performance.now() - since > LEAST_THOUGHT_MS && go(), { class: "danger solid", focus: true }),
    open && button("Open it", () => openRun(open), { class: "solid", focus: true }),
    phase !== "wait" && quiet(phase === "ask" ? "No" : "Close", () => finish(place)));
}

/** A button; what it does is drawn. @param {any} label @param {(event: Event) => void} go @param {object} [props] */
const button = (label, go, props) =>
  h("button", { type: "button", onclick: (/** @type {Event} */ event) => draw(go(event)), ...props }, label);
/** @param {any} label @param {(event: Event) => void} go @param {object} [props] */
const quiet = (label, go, props) => button(label, go, { class: "quiet", ...props });
/** A field that finds. @param {string} where @param {string} value @param {(value: string) => void} go */
const finder = (where, value, go) =>
  h("input", { type: "search", placeholder: "Find", label: `Find in ${where}`, value, oninput: (/** @type {any} */ { target }) => draw(go(target.value)) });
/** Folds and unfolds. @param {any} label @param {string} place @param {object} [props] */
const fold = (label, place, props) =>
  quiet(label, () => ui.unfolded.delete(place) || ui.unfolded.add(place), { "aria-expanded": `${ui.unfolded.has(place)}`, ...props });

/**
 * A button for a tool, if that is served. `ask` is what is asked first.
 * @param {any} label @param {string} place @param {string} tool @param {object} args @param {Action["said"]} said @param {object} [props] @param {string} [ask]
 */
function toolButton(label, place, tool, args, said, props, ask) {
  const isBusy = doings.get(place)?.phase === "wait";
  const go = () => act({ place, tool, args, said, ask, yes: `${label} it` });
  return serves(tool) && button(label, go, { "aria-disabled": isBusy && "true", ...props });
}
/** A name that opens a run, where runs are served. @param {any} name @param {string} run @param {object} [props] */
const runLink = (name, run, props) =>
  serves("get_run") ? button(name, () => openRun(run), { class: "link", ...props }) : h("span", props, name);
/** @param {string} run @param {string} place */
const stopButton = (run, place) =>
  toolButton("Stop", place, "stop_run", { run }, "The run was stopped.", { class: "danger", label: `Stop ${run}` }, "Stop this run and all its processes? Its work so far stays in the workbench.");
/** @param {string} run @param {boolean | undefined} isPinned @param {string} place */
function pinButton(run, isPinned, place) {
  const verb = isPinned ? "Unpin" : "Pin";
  const said = `The workbench ${isPinned ? "will be removed as usual" : "stays until you unpin it"}.`;
  return toolButton(verb, place, "pin_run", { run, pinned: !isPinned }, said, { class: "quiet", label: `${verb} ${run}` });
}
/** @param {string} label @param {string} routine @param {string} place */
const runButton = (label, routine, place) =>
  toolButton(label, place, "trigger_routine", { routine }, ({ run }) => (run.finished_at ? `${run.id}: ${statusOf(run.status)[1]}.` : `${run.id} has started.`), { label: `${label} ${routine}` });

/** A command to type, which can be copied where that is allowed. @param {string} command */
const copyable = (command) =>
  h("span.command", h("code", bdi(command)), quiet("Copy", async ({ currentTarget }) => {
    const code = /** @type {Element} */ (currentTarget).previousElementSibling ?? root;
    try {
      await navigator.clipboard.writeText(command);
      toast("Copied.");
    } catch {
      getSelection()?.selectAllChildren(code);
      toast("Selected. Now copy it.");
    }
  }, { label: `Copy ${command}` }));

const toasted = { text: "", until: 0 };
/** @param {string} text */
function toast(text) {
  Object.assign(toasted, { text, until: Date.now() + 7000 });
  setTimeout(draw, 7100);
  draw();
}
