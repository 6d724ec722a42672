// Lays out what goes into the bundle: node stage.mjs STAGE HOME BINARY...
// The version and the list of tools are those of the program that runs here; HOME is one that it may use meanwhile.
import { chmodSync, closeSync, copyFileSync, mkdirSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { facts, fill } from "../facts.mjs";
import { look } from "./client.mjs";

const [stage, home, ...binaries] = process.argv.slice(2);
const packaging = new URL("../", import.meta.url);

/** The system and the processor that a program is for, by its first bytes. */
function platform(path) {
  const head = Buffer.alloc(20);
  const file = openSync(path);
  readSync(file, head);
  closeSync(file);
  let processor;
  if (head.readUInt32BE(0) === 0x7f454c46) {
    processor = { 0x3e: "x86_64", 0xb7: "arm64" }[head.readUInt16LE(18)];
    if (processor) return { system: "linux", processor };
  } else if (head.readUInt32LE(0) === 0xfeedfacf) {
    processor = { 0x01000007: "x86_64", 0x0100000c: "arm64" }[head.readUInt32LE(4)];
    if (processor) return { system: "darwin", processor };
  }
  throw new Error(`${path} is not a program for Linux or macOS on x86-64 or arm64`);
}

const here = `${process.platform}-${process.arch === "x64" ? "x86_64" : process.arch}`;
const programs = new Map();
for (const binary of binaries) {
  const { system, processor } = platform(binary);
  const name = `${system}-${processor}`;
  if (programs.has(name)) throw new Error(`${binary} is a second program for ${name}`);
  programs.set(name, { binary, system });
  mkdirSync(join(stage, "server", name), { recursive: true });
  const program = join(stage, "server", name, "moadim-mcp");
  copyFileSync(binary, program);
  chmodSync(program, 0o755);
}
if (!programs.has(here)) throw new Error(`none of the programs is for ${here}, so that nothing could be checked`);

const { serverInfo, tools } = await look(programs.get(here).binary, [], { ...process.env, MOADIM_HOME: home });
if (serverInfo.version !== facts.version) {
  throw new Error(`the program's version is ${serverInfo.version}, that of Cargo.toml ${facts.version}`);
}

const template = readFileSync(new URL("manifest.json", import.meta.url), "utf8");
const manifest = JSON.parse(fill(template, facts));
manifest.tools = tools.map(({ name, description }) => ({ name, description }));
manifest.compatibility = { platforms: [...new Set([...programs.values()].map(({ system }) => system))].sort() };
const repository = process.env.GITHUB_REPOSITORY;
if (repository) {
  manifest.homepage = `https://github.com/${repository}`;
  manifest.repository = { type: "git", url: `https://github.com/${repository}.git` };
}
writeFileSync(join(stage, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);

const launch = join(stage, "server", "launch");
copyFileSync(new URL("launch", import.meta.url), launch);
chmodSync(launch, 0o755);
copyFileSync(new URL("icon-512.png", packaging), join(stage, "icon.png"));
copyFileSync(new URL("icon-128.png", packaging), join(stage, "icon-128.png"));
copyFileSync(new URL("../LICENSE", packaging), join(stage, "LICENSE"));
