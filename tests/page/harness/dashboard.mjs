// `moadim-mcp dashboard` on a home, and tabs that have its page.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { closing, openTab } from './browser.mjs';
import { until } from './until.mjs';

export class Dashboard {
    /** Starts it. `port` is for one that takes the place of another. */
    static async start(home, { port = 0, flags = [] } = {}) {
        const dashboard = new Dashboard();
        dashboard.home = home;
        const tokenFile = home.path(`token-${port}`);
        dashboard.process = home.start('dashboard', '--no-open', '--port', String(port), '--token-file', tokenFile, ...flags);
        let said = '';
        for (const stream of [dashboard.process.stdout, dashboard.process.stderr]) {
            stream.setEncoding('utf8');
            stream.on('data', (text) => {
                said += text;
            });
        }
        dashboard.url = await until('address of the dashboard', () => {
            if (dashboard.process.exitCode !== null) throw new Error(said);
            return said.match(/http:\/\/127\.0\.0\.1:\d+\/#token=\S+/)?.[0];
        });
        dashboard.origin = new URL(dashboard.url).origin;
        dashboard.token = readFileSync(tokenFile, 'utf8').trim();
        assert.equal(new URL(dashboard.url).hash, `#token=${dashboard.token}`);
        return dashboard;
    }

    /** Does something with the page in a new tab. */
    async inTab(view, what) {
        await closing(await openTab(view), async (tab) => {
            await tab.goto(this.url);
            await what(tab);
        });
    }

    async stop(signal = 'SIGTERM') {
        const gone = once(this.process, 'exit');
        this.process.kill(signal);
        await gone;
    }
}
