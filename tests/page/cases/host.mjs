// The page as a panel: in the official host side of MCP Apps, in a sandboxed frame under the specification's default policy.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Home, PROMPTS } from '../harness/home.mjs';
import { everyday } from '../harness/homes.mjs';
import { Host } from '../harness/host.mjs';
import { until } from '../harness/until.mjs';

/** Tools that change something. */
const CHANGING = ['trigger_routine', 'stop_run', 'pin_run', 'snooze_routine', 'update_routine', 'cleanup_workbenches'];

/** How often a panel asks while a run is alive. */
const BEAT_MS = 3000;

describe('in a host', () => {
    let home;
    before(async () => {
        home = await everyday();
    });
    after(() => home?.remove());

    for (const mode of ['legacy', 'auto']) {
        test(`the panel works by the host's calls: ${mode} protocol`, async () => {
            await Host.on(home, { mode, width: 760 }, async (host) => {
                assert.ok(host.tools.includes('show_dashboard') && host.tools.includes('dashboard_data'), `tools: ${host.tools}`);
                const { app, bytes } = await host.show();
                assert.equal(app.name, 'moadim');
                assert.ok(bytes <= 64 * 1024, `the page has ${bytes} bytes`);
                const { tab } = host;
                await tab.sees('Check links');
                assert.ok(!(await tab.has('banner')), 'a panel has no header of its own');

                await tab.press('Run check-links', '#routines');
                await tab.press('Open it', '#routines');
                const [newest] = await home.runs('--routine', 'check-links');
                await tab.sees(newest.id);
                await tab.press('← Overview');
                await tab.press(`Stop ${home.hanging}`, '#now');
                await tab.agree('Stop it', '#now');
                await home.runIs(home.hanging, 'stopped');
                await tab.sees('Nothing is running', '#now');
                // Where nothing runs, the panel asks seldom: a run that it starts itself is seen at once.
                await tab.press('Run wait-for-review', '#routines');
                await tab.find('button', 'Open it', '#routines');
                [{ id: home.hanging }] = await home.runs('--routine', 'wait-for-review');
                await tab.find('button', `Stop ${home.hanging}`, '#now');

                const names = new Set(host.calls.map(({ name }) => name));
                for (const name of ['dashboard_data', 'trigger_routine', 'stop_run', 'get_run', 'read_log']) assert.ok(names.has(name), `${name} is not among ${[...names]}`);
            });
        });
    }

    test('its other buttons do what the command line confirms, too', async () => {
        await Host.on(home, { width: 760 }, async (host) => {
            await host.show();
            const { tab } = host;
            const routine = () => home.routine('check-links');
            await tab.press('More about check-links');
            await tab.press('Snooze until tomorrow', '#routines');
            await until('snooze', async () => (await routine()).snoozed_until);
            await tab.press('End the snooze', '#routines');
            await until('end of the snooze', async () => !(await routine()).snoozed_until);
            const [first] = (await routine()).next_fires;
            await tab.press('Skip the next fire', '#routines');
            await until('skipped fire', async () => !(await routine()).next_fires.includes(first) || (await routine()).skip_next);
            await tab.press('Disable', '#routines');
            await tab.agree('Disable it', '#routines');
            await until('disabled routine', async () => !(await routine()).enabled);
            await tab.press('Enable', '#routines');
            await until('enabled routine', async () => (await routine()).enabled);

            const count = async () => (await home.runs('--routine', 'hunt-flaky-tests')).length;
            const before = await count();
            await tab.press('Run again', '#attention');
            await until('another run', async () => (await count()) === before + 1);
            await tab.press('Clean up…', '#disk');
            await tab.find('heading', 'What a cleanup would do', '#disk');
            assert.deepEqual(await tab.axe(), []);
        });
    });

    test('the theme is the host\'s, not the window\'s', async () => {
        for (const theme of ['dark', 'light']) {
            await Host.on(home, { theme: theme === 'dark' ? 'light' : 'dark' }, async (host) => {
                await host.show({ context: { theme, styles: { variables: { '--color-text-primary': 'light-dark(#010203, #fafbfc)' } } } });
                const { tab } = host;
                await tab.sees('Check links');
                const look = () => tab.evaluate(() => [getComputedStyle(document.documentElement).colorScheme, getComputedStyle(document.body).color]);
                const colors = { light: 'rgb(1, 2, 3)', dark: 'rgb(250, 251, 252)' };
                assert.deepEqual(await look(), [theme, colors[theme]]);
                // And changes with it.
                const other = theme === 'dark' ? 'light' : 'dark';
                await host.setContext({ theme: other });
                await until('other theme', async () => String(await look()) === String([other, colors[other]]));
            });
        }
    });

    test('it reports its size, and does not scroll inside of itself', async () => {
        await Host.on(home, { width: 380 }, async (host) => {
            await host.show();
            const { tab } = host;
            await tab.sees('Check links');
            const fits = () => tab.evaluate(() => document.scrollingElement.scrollHeight <= window.innerHeight + 1);
            await until('a frame as high as the page', fits);
            const heights = (await host.seen()).sizes.map(({ height }) => height);
            await tab.press('More about check-links');
            await until('a higher page', async () => Math.max(...(await host.seen()).sizes.map(({ height }) => height)) > Math.max(...heights));
            await until('a frame as high as that', fits);
            // A height that follows the frame's own would grow without end.
            const count = (await host.seen()).sizes.length;
            await tab.press('More about check-links');
            await until('the height of before', async () => Math.abs((await host.seen()).sizes.at(-1).height - heights.at(-1)) < 60);
            assert.ok((await host.seen()).sizes.length < count + 12, 'it tells sizes again and again');
            assert.ok((await tab.overflow()) <= 0);
        });
    });

    test('full screen is the host\'s to give', async () => {
        await Host.on(home, {}, async (host) => {
            await host.show();
            const { tab } = host;
            await tab.sees('Check links');
            await tab.press('Full screen');
            await until('wish for full screen', async () => (await host.seen()).modes.includes('fullscreen'));
            await until('no button where it is full', async () => !(await tab.has('button', 'Full screen')));
        });

        await Host.on(home, {}, async (without) => {
            await without.show({ context: { availableDisplayModes: ['inline'] } });
            await without.tab.sees('Check links');
            assert.equal(await without.tab.has('button', 'Full screen'), false);
        });
    });

    test('after the end of the panel nothing is asked', async () => {
        await Host.on(home, {}, async (host) => {
            await host.show();
            const { tab } = host;
            // A run is alive: the panel asks every few seconds.
            await tab.find('button', `Stop ${home.hanging}`, '#now');
            const asked = () => host.calls.filter(({ name }) => name === 'dashboard_data').length;
            const first = asked();
            await until('another beat', () => asked() > first);
            await host.tearDown();
            const last = asked();
            const ended = performance.now();
            await until('the time of a beat', () => performance.now() - ended > BEAT_MS * 1.4, { every: 200 });
            assert.ok(asked() <= last, 'it goes on asking');
        });
    });

    test('a host without calls shows the summary', async () => {
        await Host.on(home, {}, async (host) => {
            await host.show({ capabilities: { logging: {} } });
            const { tab } = host;
            await tab.sees('does not let the panel call tools');
            await tab.sees('wait-for-review');
            assert.deepEqual(host.calls.map(({ name }) => name), ['show_dashboard']);
            assert.equal(await tab.has('button', 'Run check-links'), false);
        });
    });

    test('a client that shows no panels does not see the tool of panels', async () => {
        await Host.on(home, { declares: false }, async (host) => {
            assert.ok(host.tools.includes('show_dashboard'));
            assert.ok(!host.tools.includes('dashboard_data'));
        });
    });

    test('it opens on the routine that was asked for', async () => {
        await Host.on(home, {}, async (host) => {
            await host.show({ asked: { routine: 'write-notes' } });
            const { tab } = host;
            await until('its runs', async () => (await tab.root.$$('#runs tbody tr')).length === (await home.runs('--routine', 'write-notes')).length);
            await tab.seesNot('Hunt flaky tests', '#runs tbody');
        });
    });

    test('a server that changes nothing gets no button that would', async () => {
        await Host.on(home, { flags: ['--read-only'] }, async (host) => {
            for (const name of CHANGING) assert.ok(!host.tools.includes(name), `${name} is served`);
            await host.show();
            const { tab } = host;
            await tab.sees('Check links');
            await tab.press('More about check-links');
            assert.deepEqual(await tab.offers(), []);
            await tab.press(`Log of ${home.hanging}`, '#now');
            await tab.sees('waiting for an answer', '.log');
            assert.deepEqual(await tab.offers(), []);
        });
    });
});

describe('with some tools', () => {
    test('only their buttons are drawn', async () => {
        const home = new Home();
        try {
            await home.create('Check links', PROMPTS.succeeds);
            const run = await home.runToEnd('check-links', 'succeeded');
            await Host.on(home, { flags: ['--tools', 'show_dashboard,dashboard_data,pin_run,get_run,read_log'] }, async (host) => {
                await host.show();
                const { tab } = host;
                await tab.press(`Pin ${run}`, '#runs');
                await until('pin', async () => (await home.run(run)).pinned);
                assert.equal(await tab.has('button', 'Run check-links'), false);
            });
        } finally {
            await home.remove();
        }
    });
});
