// The page under load: thousands of runs, and a log that never stops.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Dashboard } from '../harness/dashboard.mjs';
import { Home, PROMPTS } from '../harness/home.mjs';
import { longHistory } from '../harness/homes.mjs';
import { until } from '../harness/until.mjs';

const REDRAW_LIMIT_MS = 50;

describe('5,000 runs', () => {
    let home;
    let dashboard;
    before(async () => {
        home = await longHistory(5000);
        dashboard = await Dashboard.start(home);
    });
    after(() => home?.remove());

    /** How long it takes to draw what a click on a button changes, layout included: the best of several. */
    const redraw = (tab, names, within) =>
        tab.evaluate(async (names, within, limit) => {
            const frame = (what) => new Promise((done) => requestAnimationFrame(() => done(what())));
            let best = Infinity;
            // Others use this machine, too: where the best is not good enough, there are more tries.
            for (let n = 0; n < 12 || (best >= limit && n < 100); n += 1) {
                const name = names[n % names.length];
                const button = [...document.querySelectorAll(`${within} button`)].find((one) => one.innerText.trim() === name);
                // The page draws in the next frame, between these two.
                const began = frame(() => performance.now());
                button.click();
                const ended = frame(() => {
                    document.body.getBoundingClientRect();
                    return performance.now();
                });
                best = Math.min(best, (await ended) - (await began));
            }
            return best;
        }, names, within, REDRAW_LIMIT_MS);

    test('are drawn again within 50 ms', async (t) => {
        await dashboard.inTab({}, async (tab) => {
            await tab.sees('Routine 7', '#routines');
            await tab.sees(/older runs?|Show more/, '#runs');
            const took = {
                ranges: await redraw(tab, ['7 days', '4 weeks'], '#timeline'),
                day: await redraw(tab, ['24 h', '7 days'], '#timeline'),
                filters: await redraw(tab, ['Problems', 'All'], '#runs'),
            };
            t.diagnostic(`ms: ${JSON.stringify(took)}`);
            for (const [what, ms] of Object.entries(took)) assert.ok(ms < REDRAW_LIMIT_MS, `${what}: ${ms} ms`);
        });
    });

    test('are all counted in a picture of four weeks, though only 2,000 have a row', async () => {
        await dashboard.inTab({}, async (tab) => {
            await tab.sees('Routine 7', '#routines');
            await tab.press('4 weeks', '#timeline');
            await tab.press('Show more (8)', '#timeline');
            const counted = () =>
                tab.root.$$eval('#timeline .cell', (all) => all.reduce((sum, { ariaLabel }) => sum + Number(/: (\d+) runs?/.exec(ariaLabel)?.[1] ?? 0), 0));
            // Today began up to a day ago.
            const [least, most] = [(27 * 5000) / 30, (28 * 5000) / 30 + 5];
            await until('all runs', async () => (await counted()) >= least);
            assert.ok((await counted()) <= most, `${await counted()} of ${most}`);
        });
    });

    test('are reached by Show more, and counted beyond', async () => {
        await dashboard.inTab({}, async (tab) => {
            await tab.sees('Routine 7', '#routines');
            const shown = () => tab.root.$$eval('#runs tbody tr', (all) => all.length);
            const first = await shown();
            for (let n = 1; n <= 3; n += 1) {
                const [more] = await until('button for more', () => tab.root.$$('#runs > button.more'));
                const before = await shown();
                await more.click();
                await until('more runs', async () => (await shown()) > before);
            }
            assert.ok((await shown()) >= first + 100);
        });
    });
});

describe('1,000 lines per second', () => {
    let home;
    let dashboard;
    before(async () => {
        home = new Home();
        await home.create('Floods', PROMPTS.floods);
        dashboard = await Dashboard.start(home);
    });
    after(() => home?.remove());

    test('are followed in bounded memory', async (t) => {
        const run = await home.trigger('floods');
        await dashboard.inTab({}, async (tab) => {
            await tab.press(`Log of ${run}`, '#now');
            await tab.sees('line ', '.log');
            const cdp = await tab.page.createCDPSession();
            await cdp.send('HeapProfiler.enable');
            const measure = async () => {
                await cdp.send('HeapProfiler.collectGarbage');
                const { usedSize } = await cdp.send('Runtime.getHeapUsage');
                const { nodes } = await cdp.send('Memory.getDOMCounters');
                const lines = await tab.root.$eval('.log', (log) => log.childElementCount);
                const last = Number((await tab.root.$eval('.log', (log) => log.lastElementChild.textContent)).match(/\d+/)?.[0] ?? 0);
                return { usedSize, nodes, lines, last };
            };
            await until('5,500 lines', async () => (await measure()).last > 5500, { within: 60_000, every: 250 });
            const early = await measure();
            await until('3,000 more', async () => (await measure()).last > early.last + 3000, { within: 60_000, every: 250 });
            const late = await measure();
            t.diagnostic(JSON.stringify({ early, late }));
            assert.ok(late.lines <= 5000, `${late.lines} lines are kept`);
            // A line is an element and its text; what was removed may wait for Chromium.
            assert.ok(late.nodes < 30_000, `${late.nodes} nodes`);
            assert.ok(late.usedSize < 32 << 20, `${late.usedSize} bytes`);
            assert.ok(late.usedSize < early.usedSize * 1.5 + (2 << 20), `from ${early.usedSize} to ${late.usedSize} bytes`);
            // It is not behind: what the log has now is on the page soon.
            const written = await home.ask('logs', run, '-n', '1');
            const number = Number(JSON.stringify(written).match(/line (\d+)/)[1]);
            await until('the newest line', async () => (await measure()).last >= number);
            await home.ask('stop', run);
            await tab.sees('stopped', 'main');
        });
    });
});
