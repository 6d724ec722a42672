// The log of the open run: its end, which follows while one looks at its end; any other place of it; or the lines that match.

const TAIL_LINES = 500;
const INLINE_LINES = 14;
/** What is kept in the document at most. */
const MAX_LINES = 5000;
const MAX_CHARS = 1 << 20;
/** Who is further behind begins again at the end. */
const MAX_BEHIND_BYTES = 1 << 20;

class LogView {
  /** @param {string} run */
  constructor(run) {
    this.run = run;
    /** @type {"end" | "place" | "matches"} */
    this.mode = "end";
    this.follows = true;
    this.isOver = false;
    this.next = 0;
    this.bytes = 0;
    /** Whether there is more before it, or after it where it shows a place. */
    this.isCut = false;
    this.note = "";
    this.stderr = "";
    this.query = "";
    this.chars = 0;
    /** Counts what was asked for, so that a late answer is not shown. */
    this.turn = 0;
    this.isBusy = false;
    /** The last line, if it has no end yet. @type {HTMLElement | null} */
    this.half = null;
    this.box = document.createElement("div");
    this.box.className = "log";
    this.box.tabIndex = 0;
    this.box.setAttribute("role", "region");
    this.box.setAttribute("aria-label", "Log");
    this.box.onscroll = () => {
      if (this.mode !== "end" || this.isAtEnd() === this.follows) return;
      this.follows = !this.follows;
      draw();
    };
  }

  isAtEnd() {
    return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 12;
  }

  /** Asks for a part, and hands it over unless something else was asked for since. @param {object} args @param {(answer: any) => void} take */
  async read(args, take) {
    const turn = this.turn;
    this.isBusy = true;
    try {
      const answer = await link.call("read_log", { run: this.run, ...args });
      if (turn !== this.turn) return false;
      this.next = answer.next_offset ?? this.next;
      this.bytes = answer.log_bytes ?? this.bytes;
      this.isCut = Boolean(answer.cut);
      this.note = answer.note ?? "";
      this.stderr = answer.stderr ?? this.stderr;
      take(answer);
      return true;
    } catch (error) {
      if (turn !== this.turn) return false;
      this.note = /** @type {Error} */ (error).message;
      return false;
    } finally {
      this.isBusy = false;
      draw();
    }
  }

  /** Shows the end. @param {number} [lines] */
  tail(lines = isInline() ? INLINE_LINES : TAIL_LINES) {
    this.turn += 1;
    Object.assign(this, { mode: "end", follows: true });
    return this.read({ tail_lines: lines }, ({ text = "", next_offset: next = 0, log_bytes: bytes = 0 }) => {
      this.clear();
      // The beginning of an event is shown, and comes again once it is whole.
      this.append(bytes - next > 3 && !text.endsWith("\n") ? text.slice(0, text.lastIndexOf("\n") + 1) : text);
    });
  }

  /** Reads what came since. */
  async follow() {
    if (this.isBusy || this.mode !== "end" || !this.follows) return;
    for (let more = true; more && this.follows && this.mode === "end"; ) {
      const isRead = await this.read({ offset: this.next }, ({ text = "" }) => this.append(text));
      more = isRead && this.isCut;
      if (more && this.bytes - this.next > MAX_BEHIND_BYTES) return void this.tail();
      if (isRead) this.isCut = this.box.childElementCount > 0 && this.next > this.chars + 1000;
    }
  }

  /** Shows what is at a byte. @param {number} offset */
  show(offset) {
    this.turn += 1;
    Object.assign(this, { mode: "place", follows: false, query: "" });
    this.read({ offset }, ({ text = "" }) => {
      this.clear();
      this.append(text);
      this.box.scrollTop = 0;
    });
  }

  more() {
    this.read({ offset: this.next }, ({ text = "" }) => this.append(text));
  }

  /** Shows the lines that match. @param {string} query */
  search(query) {
    this.query = query;
    if (!query) return void this.tail();
    this.turn += 1;
    this.mode = "matches";
    this.read({ grep: query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), offset: 0 }, ({ text = "" }) => {
      this.clear();
      for (const line of text.split("\n")) {
        const [, offset, words = ""] = /^(\d+):(.*)$/.exec(line) ?? [];
        if (offset !== undefined) this.addMatch(Number(offset), words, query);
      }
      this.box.scrollTop = 0;
    });
  }

  /** @param {number} offset @param {string} words @param {string} query */
  addMatch(offset, words, query) {
    const line = document.createElement("button");
    line.type = "button";
    line.className = "log-line";
    line.title = "Show it in the log";
    line.onclick = () => this.show(offset);
    const at = words.toLowerCase().indexOf(query.toLowerCase());
    const mark = document.createElement("mark");
    mark.append(visible(at < 0 ? "" : words.slice(at, at + query.length)));
    line.append(visible(at < 0 ? words : words.slice(0, at)), mark, visible(at < 0 ? "" : words.slice(at + query.length)));
    this.box.append(line);
  }

  clear() {
    this.box.replaceChildren();
    this.half = null;
    this.chars = 0;
  }

  /** @param {string} text */
  append(text) {
    if (!text) return;
    const lines = text.split("\n");
    const added = document.createDocumentFragment();
    lines.forEach((words, index) => {
      const isHalf = index === lines.length - 1;
      if (isHalf && !words) return void (this.half = null);
      let line = this.half;
      this.half = null;
      if (!line) {
        line = document.createElement("div");
        line.className = words.startsWith("[moadim") ? "log-line ours" : "log-line";
        added.append(line);
      }
      line.append(visible(words));
      if (isHalf) this.half = line;
    });
    this.box.append(added);
    this.chars += text.length;
    const max = isInline() ? INLINE_LINES : MAX_LINES;
    for (let first = this.box.firstChild; first && (this.box.childElementCount > max || (this.chars > MAX_CHARS && first.nextSibling)); first = this.box.firstChild) {
      if (this.mode === "place") break;
      this.chars -= (first.textContent?.length ?? 0) + 1;
      this.isCut = true;
      first.remove();
    }
    if (this.follows && !isInline()) this.box.scrollTop = this.box.scrollHeight;
  }

  /** @returns {VNode} */
  draw() {
    const isEnd = this.mode === "end";
    const says = this.mode === "matches" ? `${plural(this.box.childElementCount, "line")} ${this.isCut ? "or more match" : "match"}`
      : this.mode === "place" ? "a part of it" : this.isOver ? "" : this.follows ? "following" : "paused while you read";
    const oninput = (/** @type {any} */ event) => {
      const { value } = event.target;
      this.query = value;
      setTimeout(() => value === this.query && this.search(value), 250);
    };
    return h("div", { key: `log ${this.run}`, class: "card log-card" },
      h("div.head", h("h2", "Log"),
        h("small", { class: isEnd && this.follows && !this.isOver ? "live" : "" }, says, this.bytes ? ` · ${size(this.bytes)}` : ""),
        isEnd && this.isCut && !isInline() ? [button("Earlier", () => this.tail(MAX_LINES), QUIET), button("From the start", () => this.show(0), QUIET)] : null,
        isEnd && this.follows ? null : button(this.isOver ? "To the end" : "Follow", () => this.tail(), QUIET),
        h("input", { type: "search", placeholder: "Find", "aria-label": "Find in the log", value: this.query, oninput })),
      this.note ? h("p.aside", bdi(this.note)) : null,
      this.box,
      this.box.childElementCount || this.isBusy ? null : h("p.aside", this.mode === "matches" ? "No line matches." : "Nothing was printed yet."),
      this.mode === "place" && this.isCut ? button("More", () => this.more(), { class: "more" }) : null,
      this.stderr ? h("details", h("summary", "What it printed on stderr last"), h("pre", bdi(this.stderr))) : null);
  }
}
