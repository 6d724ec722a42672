// How the page reaches the tools: over HTTP in a browser, through the host where it is a panel.

/** A call that did not succeed. `kind` is "refused", "ask" (a person must agree), "gone" (nobody answers) or "token". @param {string} message @param {string} kind @param {string} [agreement] */
const callError = (message, kind, agreement) => Object.assign(new Error(message), { kind, agreement });

const inHost = window.parent !== window;
const CALL_TIMEOUT_MS = 90_000;

/** Takes the token out of the address bar; it lives as long as the tab. */
function takeToken() {
  const [, token, rest] = /^#token=([\w-]+)&?(.*)$/.exec(location.hash) ?? [];
  if (token) history.replaceState(null, "", location.pathname + (rest && `#${rest}`));
  try {
    if (token) sessionStorage.setItem("token", token);
    return token ?? sessionStorage.getItem("token");
  } catch {
    return token;
  }
}

/** @returns {Link} */
function browserLink() {
  const token = takeToken();
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  return {
    async call(tool, args, agreement) {
      if (!token) throw callError("", "token");
      let answer, body;
      try {
        answer = await fetch(`/api/tools/${tool}`, {
          method: "POST",
          headers: agreement ? { ...headers, "Moadim-Agreement": agreement } : headers,
          body: JSON.stringify(args),
          signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
        });
        body = await answer.json().catch(() => ({}));
      } catch {
        throw callError("No answer.", "gone");
      }
      if (answer.ok) return body;
      const kind = answer.status === 401 ? "token" : body.agreement ? "ask" : "refused";
      throw callError(body.question ?? body.error ?? `The server answered ${answer.status}.`, kind, body.agreement);
    },
    async listen(onChange) {
      const decoder = new TextDecoder();
      while (token && !ui.hasNoToken) {
        try {
          const { ok, body } = await fetch("/api/events", { headers });
          const reader = ok && body?.getReader();
          // What changed before is found by asking.
          if (reader) onChange();
          for (let part; reader && !(part = await reader.read()).done; ) {
            if (decoder.decode(part.value).includes("data:")) onChange();
          }
        } catch {
          // It is tried again.
        }
        // Asking shows whether anybody is there.
        onChange();
        await new Promise((done) => setTimeout(done, 3000));
      }
    },
  };
}

/**
 * MCP Apps: JSON-RPC with the window around.
 * @param {{context: (context: any) => void, input: (args: any) => void, result: (result: any) => void, end: () => void}} on
 */
function hostLink(on) {
  /** @type {Map<number, [(result: any) => void, (error: Error) => void]>} */
  const waiting = new Map();
  let calls = 0;
  const host = { capabilities: /** @type {any} */ ({}), context: /** @type {any} */ ({}) };

  /** @param {object} message */
  const post = (message) => window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
  /** @param {string} method @param {any} params @returns {Promise<any>} */
  const request = (method, params) =>
    new Promise((resolve, reject) => {
      const id = (calls += 1);
      waiting.set(id, [resolve, reject]);
      // The host may ask its person first.
      const patience = CALL_TIMEOUT_MS * (params.name === "continue_run" ? 9 : 1);
      setTimeout(() => waiting.delete(id) && reject(callError("No answer.", "gone")), patience);
      post({ id, method, params });
    });
  /** @param {object} context */
  const merge = (context) => on.context(Object.assign(host.context, context));
  /** @type {Record<string, (params: any) => void>} */
  const handlers = {
    ping() {},
    "ui/resource-teardown": on.end,
    "ui/notifications/tool-input": (params) => on.input(params.arguments ?? {}),
    "ui/notifications/tool-result": on.result,
    "ui/notifications/host-context-changed": merge,
  };

  addEventListener("message", ({ source, data }) => {
    if (source !== window.parent || data?.jsonrpc !== "2.0") return;
    const { id, method, params, result, error } = data;
    if (method) {
      const handler = handlers[method];
      handler?.(params ?? {});
      if (id !== undefined) post(handler ? { id, result: {} } : { id, error: { code: -32601, message: "no such method" } });
      return;
    }
    const [resolve, reject] = waiting.get(id) ?? [];
    waiting.delete(id);
    if (error) reject?.(callError(error.message, "refused"));
    else resolve?.(result);
  });

  return {
    host,
    async start() {
      const answer = await request("ui/initialize", {
        protocolVersion: "2026-01-26",
        appInfo: { name: "moadim", version: "1" },
        appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
      });
      host.capabilities = answer.hostCapabilities ?? {};
      merge(answer.hostContext ?? {});
      post({ method: "ui/notifications/initialized", params: {} });
    },
    /** @param {string} tool @param {object} args */
    async call(tool, args) {
      const result = await request("tools/call", { name: tool, arguments: args });
      if (result.isError) throw callError(textOf(result) || "The tool refused.", "refused");
      return result.structuredContent ?? {};
    },
    /** @param {string} mode */
    async show(mode) {
      merge({ displayMode: (await request("ui/request-display-mode", { mode })).mode });
    },
    /** @param {number} width @param {number} height */
    resized: (width, height) => post({ method: "ui/notifications/size-changed", params: { width, height } }),
  };
}

/** What a tool's result says in words. @param {any} result @returns {string} */
const textOf = ({ content = [] }) => content.map((/** @type {any} */ { text = "" }) => text).join("\n");
