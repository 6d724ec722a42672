// Prints the entry for the MCP registry, server.json filled in: node packaging/render.mjs OWNER/NAME BUNDLE.mcpb
// Where the code is hosted stands in no file: whoever renders says it, and the release workflow knows it.
// The icons are addresses here, for the registry's schema takes no data URIs.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { facts, fill } from "./facts.mjs";

const [repository, bundle] = process.argv.slice(2);
if (!/^[\w.-]+\/[\w.-]+$/.test(repository ?? "") || !bundle) {
  console.error("usage: node packaging/render.mjs OWNER/NAME BUNDLE.mcpb");
  process.exit(2);
}

const values = {
  repository,
  owner: repository.split("/")[0],
  version: facts.version,
  description: facts.description,
  bundle: basename(bundle),
  sha256: createHash("sha256").update(readFileSync(bundle)).digest("hex"),
};
process.stdout.write(fill(readFileSync(new URL("server.json", import.meta.url), "utf8"), values));
