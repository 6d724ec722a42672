// What an MCP host does in its window, with the official host side: a client, a bridge, and the panel in a sandboxed frame.
// The client's messages go to the server by way of the test, which has its stdin and stdout.
import { Client } from '@modelcontextprotocol/client';
import { AppBridge, PostMessageTransport, RESOURCE_MIME_TYPE, getToolUiResourceUri } from '@modelcontextprotocol/ext-apps/app-bridge';

/** The specification's policy for a resource that declares none. */
const POLICY =
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
    "media-src 'self' data:; connect-src 'none'";

class Relay {
    async start() {
        globalThis.fromServer = (message) => this.onmessage?.(message);
    }
    async send(message) {
        await globalThis.toServer(message);
    }
    async close() {
        this.onclose?.();
    }
}

const seen = { sizes: [], modes: [], initialized: false, tools: [] };
let client;
let bridge;
let tool;
let panel;

globalThis.host = {
    seen,
    async connect({ mode, declares }) {
        const extensions = declares ? { 'io.modelcontextprotocol/ui': { mimeTypes: [RESOURCE_MIME_TYPE] } } : undefined;
        const options = { capabilities: extensions ? { extensions } : {}, versionNegotiation: { mode } };
        client = new Client({ name: 'test-host', version: '1' }, options);
        await client.connect(new Relay());
        seen.tools = (await client.listTools()).tools.map(({ name }) => name);
        return seen.tools;
    },
    /** Calls the tool as a model would, and shows its panel. `asked` are the tool's arguments. */
    async show({ capabilities, context, asked = {} }) {
        const { tools } = await client.listTools();
        tool = tools.find(({ name }) => name === 'show_dashboard');
        const uri = getToolUiResourceUri(tool);
        const [content] = (await client.readResource({ uri })).contents;
        if (content.mimeType !== RESOURCE_MIME_TYPE) throw new Error(`the panel is ${content.mimeType}`);
        panel = document.createElement('iframe');
        panel.title = 'panel';
        panel.sandbox.add('allow-scripts');
        document.body.append(panel);

        bridge = new AppBridge(client, { name: 'test-host', version: '1' }, capabilities, { hostContext: { toolInfo: { tool }, ...context } });
        bridge.onsizechange = ({ width, height }) => {
            seen.sizes.push({ width, height });
            if (height !== undefined) panel.style.height = `${height}px`;
        };
        bridge.onrequestdisplaymode = async ({ mode }) => {
            seen.modes.push(mode);
            bridge.setHostContext({ ...context, displayMode: mode });
            return { mode };
        };
        const ready = new Promise((resolve) => {
            bridge.oninitialized = resolve;
        });
        // In place before the first message.
        await bridge.connect(new PostMessageTransport(panel.contentWindow, panel.contentWindow));
        const policy = `<meta http-equiv="Content-Security-Policy" content="${POLICY}">`;
        panel.srcdoc = content.text.replace(/<html[^>]*>(\s*<head[^>]*>)?/i, (start) => start + policy);
        await ready;
        seen.initialized = true;
        await bridge.sendToolInput({ arguments: asked });
        await bridge.sendToolResult(await client.callTool({ name: tool.name, arguments: asked }));
        return { app: bridge.getAppVersion(), capabilities: bridge.getAppCapabilities(), bytes: content.text.length };
    },
    setContext(context) {
        bridge.setHostContext(context);
    },
    async tearDown() {
        await bridge.teardownResource({});
    },
};
