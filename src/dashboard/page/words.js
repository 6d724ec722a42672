// Times, lengths, sizes, money and statuses as a person reads them.

/** What a status looks like, and what it is called. @type {Record<string, [Tone, string]>} */
const STATUSES = {
  preparing: ["live", "preparing"],
  running: ["live", "running"],
  succeeded: ["good", "succeeded"],
  failed: ["bad", "failed"],
  launch_failed: ["bad", "did not start"],
  timed_out: ["late", "timed out"],
  silent: ["late", "silent"],
  stopped: ["off", "stopped"],
  limited: ["off", "limited"],
  skipped: ["off", "skipped"],
  lost: ["lost", "lost"],
  interrupted: ["lost", "interrupted"],
  unknown: ["lost", "unknown"],
};
/** From the worst to the best, for a picture that has room for one. @type {Tone[]} */
const TONES = ["live", "bad", "late", "lost", "good", "off", "fire"];
/** @type {Record<string, string>} */
const DISAGREEMENTS = {
  verification_failed: "its agent reports success, but the verification failed",
  calls_denied: "some of its tool calls were denied",
  no_report: "it left no report",
};
/** What each reason to keep or remove a workbench is called, after a count. @type {Record<string, string>} */
const REASONS = {
  alive: "running",
  unknown: "unknown",
  young: "not old enough",
  newest: "among the newest",
  pinned: "pinned",
  clock_in_doubt: "waiting for a certain clock",
  in_use: "in use",
  archiving: "being archived",
  unsaved_work: "with unsaved work",
  not_archived: "that cannot be archived",
  not_in_history: "not in the history yet",
};

/** @param {string} status @returns {[Tone, string]} */
const statusOf = (status) => STATUSES[status] ?? ["off", status.replaceAll("_", " ")];

/** @type {string | undefined} */
let locale;
/** @type {string | undefined} */
let zone;
/** @type {Map<string, Intl.DateTimeFormat>} */
const formats = new Map();

/** @param {string | undefined} newLocale @param {string | undefined} newZone */
function setFormats(newLocale, newZone) {
  if (newLocale === locale && newZone === zone) return;
  formats.clear();
  locale = newLocale;
  zone = newZone;
}

/** @type {Record<string, Intl.DateTimeFormatOptions>} */
const FORMATS = {
  clock: { hour: "2-digit", minute: "2-digit" },
  day: { weekday: "short", day: "numeric" },
  date: { month: "short", day: "numeric" },
  moment: { weekday: "short", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" },
  exact: { dateStyle: "full", timeStyle: "medium" },
};
/** @param {string} name @param {number} at */
function format(name, at) {
  let made = formats.get(name);
  if (!made) {
    const options = { ...FORMATS[name], hourCycle: /** @type {"h23"} */ ("h23") };
    try {
      made = new Intl.DateTimeFormat(locale, { ...options, timeZone: zone });
    } catch {
      made = new Intl.DateTimeFormat(undefined, options);
    }
    formats.set(name, made);
  }
  return made.format(at);
}

/** How many minutes the machine's clock is before UTC. @param {number} at */
function zoneOffset(at) {
  let made = formats.get("offset");
  if (!made) {
    made = new Intl.DateTimeFormat("en-US", {
      timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric",
    });
    formats.set("offset", made);
  }
  /** @type {Record<string, number>} */
  const parts = {};
  for (const part of made.formatToParts(at)) parts[part.type] = Number(part.value);
  const { year = 0, month = 1, day = 0, hour = 0, minute = 0 } = parts;
  return Math.round((Date.UTC(year, month - 1, day, hour, minute) - at) / MINUTE);
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The first moment of a day, so many days after the one of `at`. @param {number} at @param {number} days */
function midnight(at, days) {
  const local = at + zoneOffset(at) * MINUTE;
  const utc = Math.floor(local / DAY) * DAY + days * DAY;
  const guess = utc - zoneOffset(utc) * MINUTE;
  return utc - zoneOffset(guess) * MINUTE;
}

/** A length in its two largest units. @param {number} secs */
function span(secs) {
  const s = Math.max(0, Math.round(secs));
  /** @param {number} n */
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** A length in one unit, or two where one would say too little. @param {number} secs */
function roughly(secs) {
  const s = Math.max(0, Math.round(secs));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  const [large, unit, small, next] = s < 86400 ? [s / 3600, "h", (s % 3600) / 60, "min"] : [s / 86400, "d", (s % 86400) / 3600, "h"];
  return large < 3 && small >= 1 ? `${Math.floor(large)} ${unit} ${Math.floor(small)} ${next}` : `${Math.floor(large)} ${unit}`;
}

/** @param {number} at */
function relative(at) {
  const secs = (at - now()) / 1000;
  return secs > 0 ? `in ${roughly(secs)}` : secs > -2 ? "just now" : `${roughly(-secs)} ago`;
}

/** @param {number} bytes */
function size(bytes) {
  let unit = 0;
  for (; bytes >= 1000 && unit < 5; unit += 1) bytes /= 1024;
  const number = new Intl.NumberFormat(locale, { maximumFractionDigits: unit && bytes < 10 ? 1 : 0 }).format(bytes);
  return `${number} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
}

/** @param {number} usd */
const money = (usd) =>
  new Intl.NumberFormat(locale, { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", maximumFractionDigits: usd && usd < 0.1 ? 3 : 2 }).format(usd);
/** @param {number} number */
const count = (number) => new Intl.NumberFormat(locale).format(number);
/** @param {number} number @param {string} one @param {string} [many] */
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : (many ?? one + "s")}`;
/** @param {number} rate */
const percent = (rate) => new Intl.NumberFormat(locale, { style: "percent" }).format(rate);

/** A time that stays relative, with the exact one on hover. @param {string | number} at @param {(at: number) => string} [words] */
function time(at, words = relative) {
  const ms = typeof at === "number" ? at : Date.parse(at);
  if (!Number.isFinite(ms)) return "";
  const key = Math.floor(ms / 1000);
  const tick = (/** @type {Element} */ node) => setText(node, words(ms));
  return h("time", { datetime: new Date(key * 1000).toISOString(), title: format("exact", ms), tick });
}
/** Words that change with the clock. @param {() => string} words @param {string} [kind] */
const ticks = (words, kind) => h("span", { class: kind, tick: (/** @type {Element} */ node) => setText(node, words()) });

/** A text that others wrote. @param {string | undefined} text @param {string} [kind] */
const bdi = (text, kind) => (text ? h("bdi", { class: kind, dir: "auto" }, text) : null);

/** One outline and one sign for each tone, so that colour is never alone. @type {Record<Tone, [string, string]>} */
const SHAPES = {
  live: ["M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1", "M6.6 5v6l4.6-3z"],
  good: ["M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1", "m4.8 8.2 2.2 2.3 4.2-4.8"],
  bad: ["M5 1h6l4 4v6l-4 4H5l-4-4V5z", "m5.4 5.4 5.2 5.2m0-5.2-5.2 5.2"],
  late: ["M8 1.2 15.3 14a.7.7 0 0 1-.6 1H1.3a.7.7 0 0 1-.6-1z", "M8 6v4m0 1.6v1"],
  lost: ["M8 .6 15.4 8 8 15.4.6 8z", "M6.2 6.6c0-2.4 3.7-2.2 3.7 0 0 1.4-1.9 1.4-1.9 2.9m0 1.2v.8"],
  off: ["M3 1h10a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H3a2 2 0 0 1-2-2V3a2 2 0 0 1 2-2", "M4.8 8h6.4"],
  fire: ["M8 3.2a4.8 4.8 0 1 1 0 9.6 4.8 4.8 0 0 1 0-9.6", ""],
};
/** @param {Tone} tone @param {string} [kind] */
const icon = (tone, kind = "") =>
  h("svg", { class: `icon ${tone} ${kind}`, viewBox: "0 0 16 16", "aria-hidden": "true" },
    h("path.outline", { d: SHAPES[tone][0] }), h("path.sign", { d: SHAPES[tone][1] }));
/** @param {string} status */
function statusWord(status) {
  const [tone, word] = statusOf(status);
  return h("span", { class: `status ${tone}` }, icon(tone, status === "running" ? "pulse" : ""), word);
}
