// A host of MCP Apps in a tab: its page comes from a server of ours, its MCP server is the real program on stdin and stdout.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { closing, openTab } from './browser.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
const PACKAGES = join(HERE, '../node_modules');

/** Where a browser finds what `import` names. */
const MODULES = {
    '@modelcontextprotocol/client': '@modelcontextprotocol/client/dist/index.mjs',
    '@modelcontextprotocol/client/_shims': '@modelcontextprotocol/client/dist/shimsBrowser.mjs',
    '@modelcontextprotocol/core': '@modelcontextprotocol/core/dist/index.mjs',
    '@modelcontextprotocol/core/internal': '@modelcontextprotocol/core/dist/internal.mjs',
    '@modelcontextprotocol/ext-apps/app-bridge': '@modelcontextprotocol/ext-apps/dist/src/app-bridge.js',
    eventsource: 'eventsource/dist/index.js',
    'eventsource-parser': 'eventsource-parser/dist/index.js',
    'eventsource-parser/stream': 'eventsource-parser/dist/stream.js',
    'pkce-challenge': 'pkce-challenge/dist/index.browser.js',
    'zod/v4': 'zod/v4/index.js',
};
const IMPORTS = Object.fromEntries(Object.entries(MODULES).map(([name, path]) => [name, `/packages/${path}`]));
const PAGE = `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Host</title><link rel="icon" href="data:,">
<style>body { margin: 0 } iframe { display: block; width: 100%; border: 0 }</style>
<script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script><script type="module" src="/host-page.mjs"></script></head><body></body></html>`;

async function answer(request, response) {
    const { pathname } = new URL(request.url, 'http://host');
    const file = pathname.startsWith('/packages/') ? join(PACKAGES, pathname.slice('/packages/'.length)) : join(HERE, pathname);
    try {
        const body = pathname === '/' ? PAGE : await readFile(file);
        response.writeHead(200, { 'content-type': pathname === '/' ? 'text/html' : 'text/javascript' }).end(body);
    } catch {
        response.writeHead(404).end();
    }
}

/** What a host can do for a panel, and what it tells of itself. */
export const CAPABILITIES = { serverTools: {}, serverResources: {}, logging: {} };
export const CONTEXT = {
    theme: 'light', displayMode: 'inline', availableDisplayModes: ['inline', 'fullscreen'], locale: 'en-GB', timeZone: 'UTC', platform: 'web',
    containerDimensions: { maxHeight: 4000 },
};

export class Host {
    /** Names and arguments of the tools that the panel and the host called. */
    calls = [];

    /** Does something with a host that `open` makes. */
    static async on(home, how, what) {
        await closing(await Host.open(home, how), what);
    }

    /** Opens a host on a home. `flags` are those of the server, `declares` whether it says that it can show panels. */
    static async open(home, { flags = [], mode = 'legacy', declares = true, ...view } = {}) {
        const host = new Host();
        host.server = createServer(answer);
        await new Promise((resolve) => host.server.listen(0, '127.0.0.1', resolve));
        host.transport = new StdioClientTransport({ ...home.server(...flags), stderr: 'inherit' });
        host.tab = await openTab(view);
        // The bridge says of each message that it passes on.
        host.tab.excuse(/^console\.debug: (Parsed|Sending) message/);
        const { page } = host.tab;
        host.transport.onmessage = (message) => page.evaluate((text) => globalThis.fromServer(JSON.parse(text)), JSON.stringify(message)).catch(() => {});
        await host.transport.start();
        await page.exposeFunction('toServer', async (message) => {
            if (message.method === 'tools/call') host.calls.push(message.params);
            await host.transport.send(message);
        });
        await host.tab.goto(`http://127.0.0.1:${host.server.address().port}/`);
        host.tools = await page.evaluate((how) => globalThis.host.connect(how), { mode, declares });
        return host;
    }

    /** Shows the panel. From then on `tab.root` is the panel's frame. */
    async show({ capabilities = CAPABILITIES, context = {}, asked } = {}) {
        const how = { capabilities, context: { ...CONTEXT, ...context }, asked };
        const shown = await this.tab.page.evaluate((value) => globalThis.host.show(value), how);
        this.tab.root = this.tab.page.frames().find((frame) => frame !== this.tab.page.mainFrame());
        return shown;
    }

    seen() {
        return this.tab.page.evaluate(() => globalThis.host.seen);
    }

    setContext(context) {
        return this.tab.page.evaluate((value) => globalThis.host.setContext(value), { ...CONTEXT, ...context });
    }

    tearDown() {
        return this.tab.page.evaluate(() => globalThis.host.tearDown());
    }

    async close() {
        try {
            await this.tab.close();
        } finally {
            await this.transport.close();
            await new Promise((resolve) => this.server.close(resolve));
        }
    }
}
