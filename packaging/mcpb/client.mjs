// A client for one look: starts a server, shakes hands, asks for its tools, closes its stdin and waits for its end.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

const SECONDS = 20;

export async function look(command, args, env) {
  const server = spawn(command, args, { env, stdio: ["pipe", "pipe", "inherit"] });
  const clock = setTimeout(() => server.kill("SIGKILL"), SECONDS * 1000);
  server.stdin.on("error", () => {}); // the end of a server that died tells more
  const ended = new Promise((resolve, reject) => {
    server.on("error", reject);
    server.on("close", (code, signal) => resolve(signal ?? code));
  });
  const lines = createInterface({ input: server.stdout })[Symbol.asyncIterator]();
  let id = 0;

  const send = (message) => server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  const ask = async (method, params) => {
    send({ id: ++id, method, params });
    for (;;) {
      const { value, done } = await lines.next();
      if (done) throw new Error(`the server ended (${await ended}) instead of answering ${method}`);
      const answer = JSON.parse(value);
      if (answer.id !== id) continue; // a notification
      if (answer.error) throw new Error(`${method}: ${JSON.stringify(answer.error)}`);
      return answer.result;
    }
  };

  try {
    const clientInfo = { name: "packaging", version: "1" };
    const { serverInfo } = await ask("initialize", { protocolVersion: "2025-11-25", capabilities: {}, clientInfo });
    send({ method: "notifications/initialized" });
    const tools = [];
    let cursor;
    do {
      const page = await ask("tools/list", cursor ? { cursor } : {});
      tools.push(...page.tools);
      cursor = page.nextCursor;
    } while (cursor);
    server.stdin.end();
    const status = await ended;
    if (status !== 0) throw new Error(`the server ended with ${status}`);
    return { serverInfo, tools };
  } finally {
    clearTimeout(clock);
    server.kill("SIGKILL");
  }
}
