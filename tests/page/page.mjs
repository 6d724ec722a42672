// The page as the program has it: the parts, joined in the order that page.rs names, without comments and indentation.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

const source = new URL("../../src/dashboard/", import.meta.url);

export function page() {
  const rust = readFileSync(new URL("page.rs", source), "utf8");
  const [, joined] = /concat!\(([^]*?)\n\);/.exec(rust);
  return [...joined.matchAll(/include_str!\("([^"]+)"\)|"((?:[^"\\]|\\.)*)"/g)]
    .map(([, file, text]) => (file ? readFileSync(new URL(file, source), "utf8") : JSON.parse(`"${text}"`)))
    .join("")
    .replace(/\/\*\*[^]*?\*\/ ?/g, "")
    .replace(/^\s+/gm, "")
    .replace(/^\/\/.*\n/gm, "");
}

const hash = (html, tag) =>
  createHash("sha256").update(new RegExp(`<${tag}>([^]*?)</${tag}>`).exec(html)[1]).digest("base64");

/** The policy under which a browser gets it. */
export const policy = (html) =>
  [
    "default-src 'none'",
    `script-src 'sha256-${hash(html, "script")}'`,
    `style-src 'sha256-${hash(html, "style")}'`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join("; ");
