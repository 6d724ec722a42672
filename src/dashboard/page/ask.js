// Questions of runs: answers to them, and more to do for a run that is over.

/** What is typed, by run. @type {Map<string, string>} */
const drafts = new Map();
/** The questions that were shown: one that somebody closes stays while there is a draft or an error. @type {Map<string, AttentionRow>} */
const questions = new Map();

/** Buttons and a field that go on with a run. @param {string} run @param {string} place @param {AttentionRow["question"]} [question] @param {boolean} [isClosed] */
function answers(run, place, question, isClosed) {
  const { kind, options = [] } = question ?? {};
  /** @param {any} label @param {object} args @param {any} [props] */
  const give = (label, args, props) => toolButton(label, place, "continue_run", args, ({ run: { id } }) => {
    drafts.delete(run);
    return id === run ? "The question was dismissed." : `${id} goes on.`;
  }, props);
  const typed = drafts.get(run) ?? "";
  const name = question ? "Your answer" : "What to do next";
  return serves("continue_run") && h("div.answers",
    kind === "login" ? give("Logged in: go on", { run, text: "The login was seen to." }) : [
      options.map((text) => give(bdi(text), { run, text })),
      h("textarea", { label: name, placeholder: name, rows: 1, value: typed, oninput: (/** @type {any} */ { target: { value } }) => draw(value ? drafts.set(run, value) : drafts.delete(run)) }),
      // What is typed is read when it is sent.
      give(question ? "Answer" : "Continue…", { run, get text() { return drafts.get(run); } }, !typed.trim() && { "aria-disabled": "true", onclick: null }),
    ],
    isClosed ? quiet("Close", () => finish(place, drafts.delete(run))) : question && give("Dismiss", { run, dismiss: true }, { class: "quiet" }));
}

/** What waits for an answer, the oldest first, and what somebody still types at. @returns {AttentionRow[]} */
function asking() {
  const open = part("attention").rows;
  for (const row of open.values()) if (row.question) questions.set(row.key, row);
  for (const [key, { run = "" }] of questions) if (!open.has(key) && !drafts.has(run) && doings.get(`attention ${key}`)?.phase !== "error") questions.delete(key);
  return [...questions.values()].sort((a, b) => `${a.at}`.localeCompare(`${b.at}`));
}

/** @param {AttentionRow} row */
function askingNotice({ key, text, fix, run = "", at = "", command, question }) {
  const place = `attention ${key}`;
  const isClosed = !part("attention").rows.has(key);
  return h("li.notice.asking", { key }, icon("asks"),
    h("div.what", h("b", bdi(text)), " ", h("small", bdi(titleOf(run.replace(/-\d+$/, ""))), " · ", time(at), isClosed ? " · closed meanwhile" : [" · expires ", time(question?.expires_at ?? "")]), h("p", bdi(fix)), command && copyable(command)),
    serves("get_run") && quiet("Open the run", () => openRun(run)),
    question?.text && h("div.prose.stays", { tabindex: 0, role: "group", label: "The whole question" }, bdi(question.text)),
    answers(run, place, question, isClosed),
    strip(place));
}
