// Follows what Cargo.toml tells cargo binstall: does it find the archive, and the program in it?
// node packaging/binstall.mjs ARCHIVE TARGET, with the archive's list of files on stdin.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { facts } from "./facts.mjs";

const [archive, target] = process.argv.slice(2);
const { "pkg-url": url, "bin-dir": path, "pkg-fmt": format } = facts.metadata?.binstall ?? {};
const values = { repo: facts.repository ?? "REPOSITORY", name: facts.name, version: facts.version, bin: "moadim-mcp", target };
values["binary-ext"] = "";
const render = (template) =>
  template.replace(/\{ *([a-z-]+) *\}/g, (_, name) => {
    if (values[name] === undefined) throw new Error(`unknown { ${name} } in ${template}`);
    return values[name];
  });

if (format !== "tgz") throw new Error(`pkg-fmt is ${format}, not tgz`);
const expected = `${values.repo}/releases/download/v${facts.version}/${basename(archive)}`;
if (render(url) !== expected) throw new Error(`binstall would fetch ${render(url)}, not ${expected}`);
const files = readFileSync(0, "utf8").split("\n");
if (!files.includes(render(path))) throw new Error(`binstall would look for ${render(path)} in ${files.join(" ")}`);
