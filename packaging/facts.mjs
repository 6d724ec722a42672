// What Cargo.toml says of the package, so that no second place has to: node packaging/facts.mjs version
import { execFileSync } from "node:child_process";
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

const manifest = fileURLToPath(new URL("../Cargo.toml", import.meta.url));
const command = ["metadata", "--no-deps", "--format-version", "1", "--manifest-path", manifest];
const { packages } = JSON.parse(execFileSync("cargo", command, { encoding: "utf8" }));

export const facts = packages[0];

/** Replaces each @name@ in the text of a JSON file; a name without a value is an error. */
export function fill(text, values) {
  return text.replace(/@([a-z0-9_]+)@/g, (_, name) => {
    if (values[name] === undefined) throw new Error(`there is no value for @${name}@`);
    return JSON.stringify(values[name]).slice(1, -1);
  });
}

if (realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const value = facts[process.argv[2]];
  if (typeof value !== "string") throw new Error(`Cargo.toml does not say ${process.argv[2]}`);
  console.log(value);
}
