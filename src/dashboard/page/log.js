// The log of the open run: its end, which it follows; the part at an offset; or the lines that match.

const TAIL_LINES = 500;
const INLINE_LINES = 14;
/** What is kept in the document at most. */
const MAX_LINES = 5000;
const MAX_CHARS = 1 << 20;
/** A reader further behind than this jumps to the end. */
const MAX_BEHIND_BYTES = 1 << 20;

/** @param {string} run */
function openLog(run) {
  const box = document.createElement("div");
  Object.assign(box, { className: "log", tabIndex: 0, role: "region", ariaLabel: "Log" });
  /** @type {"end" | "place" | "matches"} */
  let mode = "end";
  let [follows, isOver, isBusy, isCut] = [true, false, false, false];
  let [next, bytes, chars] = [0, 0, 0];
  let [note, stderr, query] = ["", "", ""];
  /** Counts what was asked for: a late answer is not shown. */
  let turn = 0;
  /** The last line, if it has no end yet. @type {HTMLElement | null} */
  let half = null;
  /** The read that is under way. @type {Promise<any>} */
  let reading = Promise.resolve();

  box.onscroll = () => {
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 12;
    if (mode === "end" && isAtEnd !== follows) draw((follows = isAtEnd));
  };

  /** Reads a part, and shows it unless something else was asked for since; returns whether more follows. @param {object} args @param {boolean} isNew */
  async function read(args, isNew) {
    const mine = isNew ? (turn += 1) : turn;
    const from = next;
    isBusy = true;
    reading = link.call("read_log", { run, ...args }).catch(({ message }) => ({ note: message }));
    const answer = await reading;
    if (mine !== turn) return false;
    isBusy = false;
    const { text = "", cut = false } = answer;
    ({ next_offset: next = next, log_bytes: bytes = bytes, note = "", stderr = stderr } = answer);
    isCut = cut || (isCut && !isNew && mode === "end");
    if (isNew) {
      box.replaceChildren();
      half = null;
      chars = 0;
    }
    if (mode === "matches") showMatches(text);
    // A tail shows the beginning of an event, which comes again once it is whole.
    else append(isNew && mode === "end" && bytes - next > 3 && !text.endsWith("\n") ? text.slice(0, text.lastIndexOf("\n") + 1) : text);
    if (isNew && mode !== "end") box.scrollTop = 0;
    draw();
    return cut && next > from;
  }

  /** Shows the end. @param {number} [lines] */
  function tail(lines = isInline() ? INLINE_LINES : TAIL_LINES) {
    [mode, follows, query] = ["end", true, ""];
    return read({ tail_lines: lines }, true);
  }
  /** Reads what came since. */
  async function follow() {
    while (!isBusy && follows && mode === "end" && (await read({ offset: next }, false))) {
      if (bytes - next > MAX_BEHIND_BYTES) return tail();
    }
  }
  /** Shows what is at a byte. @param {number} offset */
  function show(offset) {
    [mode, follows, query] = ["place", false, ""];
    read({ offset }, true);
  }
  /** Shows the lines that have a text. */
  function search() {
    mode = "matches";
    (query ? read({ grep: query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), offset: 0 }, true) : tail());
  }

  /** @param {string} text */
  function showMatches(text) {
    patch(box, [...text.matchAll(/^(\d+):(.*)$/gm)].map(([, offset, words = ""]) => {
      const at = Math.max(0, words.toLowerCase().indexOf(query.toLowerCase()));
      const end = at + query.length;
      return button([words.slice(0, at), h("mark", words.slice(at, end)), words.slice(end)], () => show(Number(offset)), { class: "line-button" });
    }));
  }

  /** @param {string} text */
  function append(text) {
    const added = document.createDocumentFragment();
    const lines = text.split("\n");
    lines.forEach((words, index) => {
      const isLast = index === lines.length - 1;
      if (isLast && !words) return;
      const line = half ?? document.createElement("div");
      if (!half) {
        if (words.startsWith("[moadim")) line.className = "ours";
        added.append(line);
      }
      line.append(visible(words));
      half = isLast ? line : null;
    });
    box.append(added);
    chars += text.length;
    const max = isInline() ? INLINE_LINES : MAX_LINES;
    for (let first; mode === "end" && (first = box.firstChild) && (box.childElementCount > max || (chars > MAX_CHARS && first.nextSibling)); first.remove()) {
      chars -= (first.textContent?.length ?? 0) + 1;
      isCut = true;
    }
    if (follows) box.scrollTop = box.scrollHeight;
  }

  function panel() {
    const lines = box.childElementCount;
    const isEnd = mode === "end";
    const says = mode === "matches" ? `${plural(lines, "line")}${isCut ? " or more" : ""}` : !isEnd ? "part of the log" : isOver ? "" : follows ? "following" : "paused while you read";
    return h("div.card", { key: run },
      h("div.head", h("h2", "Log"),
        h("small", { class: isEnd && follows && !isOver && "live" }, [says, bytes > 0 && size(bytes)].filter(Boolean).join(" · ")),
        isEnd && isCut && !isInline() && [lines < MAX_LINES && quiet("Earlier", () => tail(MAX_LINES)), quiet("From the start", () => show(0))],
        !(isEnd && follows) && quiet(isOver ? "To the end" : "Follow", () => tail()),
        finder("the log", query, (text) => {
          query = text;
          setTimeout(() => text === query && search(), 250);
        })),
      note && h("p.aside", bdi(note)),
      box,
      !lines && !isBusy && h("p.aside", query ? "No match." : "Nothing yet."),
      mode === "place" && isCut && button("More", () => isBusy || read({ offset: next }, false), { class: "more" }),
      stderr && h("details", h("summary", "End of stderr"), h("pre", bdi(stderr))));
  }

  return {
    run, tail, follow, panel,
    isOver: () => isOver,
    /** Reads the rest of a log that no longer grows, once the read that is under way is done. */
    async finish() {
      isOver = true;
      await reading;
      return follow();
    },
  };
}
