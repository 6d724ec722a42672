// Starts what an unpacked bundle holds as a host would: node try.mjs UNPACKED HOME NODE_MODULES
// Which command that is, the packing tool's own library tells. Once with the setting given, once with it left out.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { facts } from "../facts.mjs";
import { look } from "./client.mjs";

const [bundle, home, modules] = process.argv.slice(2);
const { getMcpConfigForManifest } = await import(pathToFileURL(join(modules, "@anthropic-ai/mcpb/dist/index.js")));
const manifest = JSON.parse(readFileSync(join(bundle, "manifest.json"), "utf8"));

async function attempt(userConfig, expectedHome) {
  const { command, args, env } = await getMcpConfigForManifest({
    manifest,
    extensionPath: bundle,
    systemDirs: { HOME: home },
    userConfig,
    pathSeparator: "/",
  });
  const { serverInfo, tools } = await look(command, args, { ...process.env, HOME: home, ...env });
  if (serverInfo.version !== facts.version || manifest.version !== facts.version) {
    throw new Error(`versions: ${serverInfo.version} runs, the manifest says ${manifest.version}, Cargo.toml ${facts.version}`);
  }
  const real = tools.map(({ name }) => name).join(" ");
  const listed = manifest.tools.map(({ name }) => name).join(" ");
  if (!real || real !== listed) throw new Error(`the tools are ${real}, but the manifest lists ${listed}`);
  if (!existsSync(expectedHome)) throw new Error(`the server did not take ${expectedHome} for its home`);
}

await attempt({ moadim_home: join(home, "chosen") }, join(home, "chosen"));
await attempt({ moadim_home: "" }, join(home, ".moadim"));
await attempt({}, join(home, ".moadim"));
console.log(`the bundle starts, with ${manifest.tools.length} tools`);
