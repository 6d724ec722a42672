// The page of one run: what it says, how it ended, what it left, and its log.

/** The open run: what get_run answered, and when it was asked. @type {{answer: any, at: number, log: ReturnType<typeof openLog>} | null} */
let opened = null;
/** Where the overview was left, and by which button. */
const left = { scroll: 0, from: "" };
/** @param {any} button @returns {string} */
const nameOf = (button) => button.ariaLabel || button.title || button.textContent;

/** @param {string} id */
function openRun(id) {
  if (inHost) goTo(id);
  else location.hash = id && `run=${id}`;
}

/** Shows a run, or the overview. @param {string} id */
function goTo(id) {
  if (id === ui.open) return;
  if (!ui.open) Object.assign(left, { scroll: scrollY, from: nameOf(document.activeElement) });
  ui.open = id;
  opened = id ? { answer: {}, at: 0, log: openLog(id) } : null;
  drawNow();
  scrollTo(0, id ? 0 : left.scroll);
  if (!id) focusOn([...document.querySelectorAll("button")].find((one) => nameOf(one) === left.from));
  opened?.log.tail();
  look();
}

/** Asks for all that is known of the open run. */
async function look() {
  const open = opened;
  if (!open || !ui.isLoaded) return;
  open.at = Date.now();
  open.answer = await link.call("get_run", { run: open.log.run }).catch(({ message }) => ({ ...open.answer, error: message }));
  if (open.answer.liveness === "finished" && !open.log.isOver()) open.log.finish();
  draw();
}

const RUN_FACTS =
  "reason continues continued_by job signal verified work archive recover_command attach_command resume_command usage duration_secs triggered_at origin last_output_at reap_at kept_because agent model options turns denied needs limit " +
  "limit_warning over_budget workbench processes window_problem program";

function runPage() {
  const id = ui.open;
  const { answer = {}, log } = opened ?? {};
  const held = view.runs.find((run) => run.id === id);
  const run = { ...held?.row, ...answer.run };
  const status = held?.status ?? run.outcome ?? run.status ?? "unknown";
  const isAlive = status !== "unknown" && (held?.alive ?? answer.liveness === "alive");
  const isGone = run.reaped || run.status === "reaped";
  const { output = {}, report, question, routine = id.replace(/-\d+$/, ""), max_runtime_secs: most } = run;
  const bound = status !== "queued" && most;
  const isKnown = held || answer.run;
  const isOpen = question?.state === "open";
  const place = `page ${id}`;
  const used = () => (now() - Date.parse(run.bound_from ?? run.triggered_at)) / SECOND;
  const all = { ...answer, ...output, ...run, reason: run.status_reason ?? run.reason, program: answer.command?.join(" ") };
  // It follows the log where the run has no window.
  all.attach_command ??= `moadim-mcp attach ${id}`;
  // What is of no use then.
  for (const name of isAlive ? ["duration_secs", "kept_because"] : ["attach_command", "last_output_at", ...(isGone ? ["workbench"] : [])]) delete all[name];
  return h("main",
    h("div.run-head",
      quiet("← Overview", () => openRun("")),
      h("div.what", h("h1", { key: id, tabindex: -1, focus: true }, icon(statusOf(status)[0]), bdi(titleOf(routine))), h("p", h("code", bdi(id)), run.pinned && h("span.tag", "pinned"))),
      h("div.buttons", isAlive ? stopButton(id, place) : isKnown && runButton("Run again", routine, place), answer.run && !isGone && pinButton(id, run.pinned, place)),
      strip(place)),
    h("div.stack.run-page",
      h("section.card.facts", { label: "Facts" },
        h("div.line", statusWord(status), isAlive && h("small", ticks(() => span(used())), bound && ` of ${roughly(bound)}`)),
        isAlive && bound && bar(() => used() / bound, "live"),
        h("p.bad", bdi(answer.error)),
        facts(all, RUN_FACTS),
        !isOpen && run.started_at && run.finished_at && !isGone && !run.continued_by && answers(id, place)),
      h("div.stack",
        question && h("section.card", { label: "Question" }, h("div.head", h("h2", "Question"), h("small", question.state)),
          h("div.prose", bdi(question.text)),
          h("div.facts", isOpen ? answers(id, place, question) : facts(question, "answer closed_at closed_by"))),
        report && h("section.card", { label: "Report" }, h("div.head", h("h2", "Report"), h("small", "in its agent's words")),
          h("div.prose", bdi(report.text ?? report.headline)), report.is_cut && h("p.aside", "The rest is in report.md.")),
        output.result && output.result !== report?.text && h("details.card", { open: !report }, h("summary", "Last message"), h("div.prose", bdi(output.result))),
        isKnown && serves("read_log") && log?.panel())));
}
