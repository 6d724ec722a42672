// How the page reaches the tools: over HTTP in a browser, through the host where it is a panel.

/** A call that did not succeed. `kind` is "refused", "ask" (a person must agree), "gone" (nobody answers) or "token". */
class CallError extends Error {
  /** @param {string} message @param {string} kind @param {string} [agreement] */
  constructor(message, kind, agreement) {
    super(message);
    this.kind = kind;
    this.agreement = agreement;
  }
}

const inHost = window.parent !== window;
const CALL_TIMEOUT_MS = 90_000;

/** @param {number} ms @returns {Promise<void>} */
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Takes the token out of the address bar; it lives as long as the tab. @returns {string} */
function takeToken() {
  const given = /^#token=([\w-]+)&?(.*)$/.exec(location.hash);
  try {
    if (given) sessionStorage.setItem("token", given[1] ?? "");
  } catch {
    // Without storage it lives until the page is loaded again.
  }
  if (given) {
    history.replaceState(null, "", location.pathname + (given[2] ? "#" + given[2] : ""));
    return given[1] ?? "";
  }
  try {
    return sessionStorage.getItem("token") ?? "";
  } catch {
    return "";
  }
}

/** @returns {Link} */
function browserLink() {
  const token = takeToken();
  const headers = { Authorization: `Bearer ${token}` };
  return {
    async call(tool, args, agreement) {
      if (!token) throw new CallError("", "token");
      let answer, body;
      try {
        answer = await fetch("/api/tools/" + tool, {
          method: "POST",
          headers: { ...headers, "Content-Type": "application/json", ...(agreement && { "Moadim-Agreement": agreement }) },
          body: JSON.stringify(args),
          signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
        });
        body = await answer.json().catch(() => ({}));
      } catch {
        throw new CallError("The dashboard does not answer.", "gone");
      }
      if (answer.ok) return body;
      const kind = answer.status === 401 ? "token" : answer.status === 409 && body.agreement ? "ask" : "refused";
      throw new CallError(String(body.question ?? body.error ?? `It answered ${answer.status}.`), kind, body.agreement);
    },
    async listen(onChange) {
      const decoder = new TextDecoder();
      for (;;) {
        try {
          const answer = await fetch("/api/events", { headers });
          const reader = answer.ok ? answer.body?.getReader() : undefined;
          // What changed while nobody listened is found by asking.
          if (reader) onChange();
          for (let text = ""; reader; ) {
            const { done, value } = await reader.read();
            if (done) break;
            const events = (text + decoder.decode(value, { stream: true })).split("\n\n");
            text = (events.pop() ?? "").slice(-10_000);
            if (events.some((event) => event.includes("event: changed"))) onChange();
          }
        } catch {
          // It is tried again.
        }
        await sleep(3000);
      }
    },
  };
}

/**
 * MCP Apps: JSON-RPC with the window around.
 * @param {{onContext: (context: any) => void, onInput: (args: any) => void, onResult: (result: any) => void, onEnd: () => void}} on
 */
function hostLink(on) {
  /** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
  const waiting = new Map();
  let calls = 0;
  const host = { capabilities: /** @type {any} */ ({}), context: /** @type {any} */ ({}) };

  /** @param {object} message */
  const post = (message) => window.parent.postMessage({ jsonrpc: "2.0", ...message }, "*");
  /** @param {string} method @param {object} params @returns {Promise<any>} */
  function request(method, params) {
    const id = ++calls;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      setTimeout(() => waiting.delete(id) && reject(new CallError("The host does not answer.", "gone")), CALL_TIMEOUT_MS);
      post({ id, method, params });
    });
  }
  /** @param {object} context */
  function merge(context) {
    Object.assign(host.context, context);
    on.onContext(host.context);
  }

  window.addEventListener("message", (event) => {
    const message = event.data;
    if (event.source !== window.parent || message?.jsonrpc !== "2.0") return;
    const { id, method, params, result, error } = message;
    if (method === undefined) {
      const call = waiting.get(id);
      waiting.delete(id);
      if (error) call?.reject(new CallError(String(error.message ?? "The host refused."), "refused"));
      else call?.resolve(result);
    } else if (id !== undefined) {
      if (method === "ping") post({ id, result: {} });
      else if (method === "ui/resource-teardown") {
        on.onEnd();
        post({ id, result: {} });
      } else post({ id, error: { code: -32601, message: `no method '${method}'` } });
    } else if (method === "ui/notifications/tool-input") on.onInput(params?.arguments ?? {});
    else if (method === "ui/notifications/tool-result") on.onResult(params ?? {});
    else if (method === "ui/notifications/host-context-changed") merge(params ?? {});
  });

  return {
    host,
    async start() {
      const answer = await request("ui/initialize", {
        protocolVersion: "2026-01-26",
        appInfo: { name: "moadim", version: "1" },
        appCapabilities: { availableDisplayModes: ["inline", "fullscreen"] },
      });
      host.capabilities = answer?.hostCapabilities ?? {};
      merge(answer?.hostContext ?? {});
      post({ method: "ui/notifications/initialized", params: {} });
    },
    /** @param {string} tool @param {object} args */
    async call(tool, args) {
      const result = await request("tools/call", { name: tool, arguments: args });
      if (!result?.isError) return result?.structuredContent ?? {};
      const texts = (result.content ?? []).map((/** @type {any} */ part) => part.text).filter(Boolean);
      throw new CallError(texts.join("\n") || "The tool refused.", "refused");
    },
    /** @param {string} mode */
    async show(mode) {
      const answer = await request("ui/request-display-mode", { mode });
      merge({ displayMode: answer?.mode ?? host.context.displayMode });
    },
    /** @param {number} width @param {number} height */
    resized: (width, height) => post({ method: "ui/notifications/size-changed", params: { width, height } }),
  };
}
