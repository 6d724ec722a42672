// Times, lengths, sizes, money and statuses as a person reads them.

/** Which statuses look alike; the most important first, for a picture with room for one. @type {Record<string, string[]>} */
const STATUSES = {
  live: ["running", "preparing", "queued"],
  bad: ["failed", "launch_failed"],
  late: ["timed_out", "silent"],
  lost: ["lost", "interrupted", "unknown"],
  asks: ["asked"],
  good: ["succeeded"],
  off: ["stopped", "limited", "skipped"],
};

/** A code in words. @param {string} code */
const spaced = (code) => code.replaceAll("_", " ");
/** @param {string} status @returns {[Tone, string]} */
function statusOf(status) {
  const [tone = "off"] = Object.keys(STATUSES).filter((tone) => STATUSES[tone]?.includes(status));
  return [/** @type {Tone} */ (tone), status === "launch_failed" ? "did not start" : spaced(status)];
}
/** Whether it needs a look. @param {Tone} tone */
const isTroubled = (tone) => tone === "bad" || tone === "late" || tone === "lost";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** @type {string | undefined} */
let locale;
/** @type {string | undefined} */
let zone;
/** @type {Map<string, any>} */
const formats = new Map();

let given = "";
/** The name that formats take, unless this browser does not know it. @param {string | undefined} name @param {Intl.DateTimeFormatOptions} [options] */
function ifKnown(name, options) {
  try {
    new Intl.DateTimeFormat(options ? "en" : name, options);
    return name;
  } catch {
    return undefined;
  }
}
/** @param {string | undefined} newLocale @param {string | undefined} newZone */
function setFormats(newLocale, newZone) {
  const wanted = `${newLocale} ${newZone}`;
  if (given === wanted) return;
  given = wanted;
  formats.clear();
  locale = ifKnown(newLocale);
  zone = ifKnown(newZone, { timeZone: newZone });
}

/** @param {string} name @param {Intl.DateTimeFormatOptions} options */
const format = (name, options) => (/** @type {number} */ at) => {
  let made = formats.get(name);
  if (!made) {
    made = new Intl.DateTimeFormat(name === "offset" ? "en" : locale, { ...options, hourCycle: "h23", timeZone: zone });
    formats.set(name, made);
  }
  return made.format(at);
};
const hours = /** @type {const} */ ({ hour: "2-digit", minute: "2-digit" });
const date = format("date", { month: "short", day: "numeric" });
const weekday = format("weekday", { weekday: "short", day: "numeric" });
const clock = format("clock", hours);
const moment = format("moment", { weekday: "short", month: "short", day: "numeric", ...hours });
const exact = format("exact", { dateStyle: "full", timeStyle: "medium" });
const offset = format("offset", { timeZoneName: "longOffset" });

/** How far the machine's local time is ahead of UTC, in ms. @param {number} at */
function zoneOffset(at) {
  const [, sign, h = 0, m = 0] = /GMT([-+])(\d+):(\d+)/.exec(offset(at)) ?? [];
  return (sign === "-" ? -1 : 1) * (Number(h) * HOUR + Number(m) * MINUTE);
}
/** When the day begins that is `days` after the day of `at`. @param {number} at @param {number} days */
function midnight(at, days) {
  const utc = (Math.floor((at + zoneOffset(at)) / DAY) + days) * DAY;
  return utc - zoneOffset(utc - zoneOffset(utc));
}

/** @type {[number, string][]} */
const UNITS = [[DAY, "d"], [HOUR, "h"], [MINUTE, "min"], [SECOND, "s"]];
/** A length in its two largest units; in one, if `isRough` and that says enough. @param {number | undefined} secs @param {boolean} [isRough] */
function span(secs, isRough) {
  if (secs === undefined) return "";
  const ms = Math.max(0, Math.round(secs)) * SECOND;
  const large = ms ? UNITS.findIndex(([unit]) => ms >= unit) : 3;
  const [unit, word] = UNITS[large] ?? [SECOND, "s"];
  const [small, smallWord] = UNITS[large + 1] ?? [1, ""];
  const [count, rest] = [Math.floor(ms / unit), Math.floor((ms % unit) / small)];
  const isOne = unit === SECOND || !rest || (isRough && (count > 1 || unit === MINUTE));
  return `${count} ${word}${isOne ? "" : ` ${rest} ${smallWord}`}`;
}
/** @param {number | undefined} secs */
const roughly = (secs) => span(secs, true);
/** @param {number} at */
function relative(at) {
  const secs = (at - now()) / SECOND;
  return secs > 0 ? `in ${roughly(secs)}` : `${roughly(-secs)} ago`;
}

/** @param {any} number @param {Intl.NumberFormatOptions} [options] */
function count(number, options) {
  const key = JSON.stringify(options) ?? "";
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(locale, options));
  return Number.isFinite(number) ? formats.get(key).format(number) : "";
}
/** @param {number} number @param {string} one @param {string} [many] */
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : (many ?? `${one}s`)}`;
/** @param {number | undefined} rate */
const percent = (rate) => count(rate, { style: "percent" });
/** @param {number | undefined} usd */
const money = (usd) => count(usd, { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol", maximumFractionDigits: usd && usd < 0.1 ? 3 : 2 });
/** @param {number | undefined} bytes */
function size(bytes) {
  if (bytes === undefined) return "";
  let unit = 0;
  for (; bytes >= 1000 && unit < 4; unit += 1) bytes /= 1024;
  return `${count(bytes, { maximumFractionDigits: unit && bytes < 10 ? 1 : 0 })} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** A time that stays relative, with the exact one on hover. @param {string | number} at @param {(at: number) => string} [words] */
function time(at, words = relative) {
  const ms = new Date(at).getTime();
  return Number.isFinite(ms) ? h("time", { datetime: iso(ms), title: exact(ms), tick: (/** @type {Element} */ node) => setText(node, words(ms)) }) : "";
}
/** @param {number} at */
const iso = (at) => `${new Date(at).toISOString().slice(0, 19)}Z`;
/** Words that change with the clock. @param {() => string} words */
const ticks = (words) => h("span", { tick: (/** @type {Element} */ node) => setText(node, words()) });
/** A text that others wrote. @param {string | undefined} text */
const bdi = (text) => text && h("bdi", { dir: "auto" }, text);

const ROUND = "M8 1a7 7 0 1 1 0 14A7 7 0 0 1 8 1";
/** One outline and one sign for each tone, so that colour is never alone. @type {Record<Tone, [string, string]>} */
const SHAPES = {
  live: [ROUND, "M6.6 5v6l4.6-3z"],
  good: [ROUND, "m4.8 8.2 2.2 2.3 4.2-4.8"],
  bad: ["M5 1h6l4 4v6l-4 4H5l-4-4V5z", "m5.4 5.4 5.2 5.2m0-5.2-5.2 5.2"],
  late: ["M8 1 15.5 15H.5z", "M8 6v4m0 1.6v1"],
  lost: ["M8 .6 15.4 8 8 15.4.6 8z", "M6.2 6.6c0-2.4 3.7-2.2 3.7 0 0 1.4-1.9 1.4-1.9 2.9m0 1.2v.8"],
  asks: ["M1 1h14v10H8l-4 4v-4H1z", "M6.2 4.6c0-2.2 3.7-2 3.7 0 0 1.3-1.9 1.2-1.9 2.6m0 1.4v.2"],
  off: ["M3 1h10a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H3a2 2 0 0 1-2-2V3a2 2 0 0 1 2-2", "M4.8 8h6.4"],
  fire: ["M8 3.2a4.8 4.8 0 1 1 0 9.6 4.8 4.8 0 0 1 0-9.6", ""],
};
/** @param {Tone} tone */
const icon = (tone) => h(`svg.icon.${tone}`, { viewBox: "0 0 16 16", "aria-hidden": "true" }, SHAPES[tone].map((d) => h("path", { d })));
/** @param {string} status */
function statusWord(status) {
  const [tone, word] = statusOf(status);
  return h(`span.status.${tone}`, icon(tone), word);
}

/** @type {Record<string, string>} */
const LABELS = { attach_command: "watch", reap_at: "goes", program: "command", count: "times", closed_by: "closed by", continued_by: "continued by" };
/** What comes first of an object's fields. */
const ORDER = "name tool path branch cost_usd".split(" ");
/** A name without its unit. @param {string} name */
const label = (name) => LABELS[name] ?? spaced(name.replace(/(^|_)(secs|bytes|usd|ms|at|command|name|path|kind|by|tool|count)$/, ""));
/** @param {string} name */
const orderOf = (name) => ORDER.indexOf(name) >>> 0;
/** A value in the unit that its name says. @param {string} name @param {any} value @returns {any} */
function shown(name, value) {
  const [, unit = ""] = /([a-z]+)$/.exec(name) ?? [];
  if (Array.isArray(value)) return value.map((one, n) => (typeof one === "object" ? h("p", shown("", one)) : [n > 0 && ", ", shown(name, one)]));
  if (typeof value === "object") {
    return Object.entries(value ?? {}).filter(([name, one]) => one !== 0 && name !== "head").sort(([a], [b]) => orderOf(a) - orderOf(b)).map(([name, one], n) => {
      const isCount = typeof one === "number" && !UNITS_OF[/([a-z]+)$/.exec(name)?.[1] ?? ""];
      return [n > 0 && " · ", isCount ? [count(one), " ", one === 1 ? label(name).replace(/s$/, "") : label(name)] : [label(name), " ", shown(name, one)]];
    });
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return (UNITS_OF[unit] ?? count)(value);
  if (/^\d{4}-\d\d-\d\dT.*Z$/.test(value)) return time(value, (at) => `${moment(at)}, ${relative(at)}`);
  return /^continue/.test(name) ? runLink(bdi(value), value) : unit === "command" ? copyable(value) : name === "disagreements" ? spaced(value) : bdi(value);
}
/** @type {Record<string, (number: any) => string>} */
const UNITS_OF = { pid: String, secs: span, ms: (ms) => span(ms / SECOND), bytes: size, usd: money, rate: percent };
/** Those of its fields that are known. @param {Record<string, any>} all @param {string} names */
const facts = (all, names) =>
  h("dl", names.split(" ").filter((name) => (all[name] ?? "").length !== 0).map((name) => h("div", h("dt", label(name)), h("dd", shown(name, all[name])))));
