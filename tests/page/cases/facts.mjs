// What the page says, against what the command line says of the same home.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { Dashboard } from '../harness/dashboard.mjs';
import { Home, PROMPTS } from '../harness/home.mjs';
import { everyday } from '../harness/homes.mjs';
import { Host } from '../harness/host.mjs';
import { until } from '../harness/until.mjs';

const now = () => Math.floor(Date.now() / 1000);

/** The name of each term of a list of facts, and its value. */
const facts = (tab, within) =>
    tab.root.$$eval(`${within} dl > div`, (all) => Object.fromEntries(all.map((one) => [one.querySelector('dt').textContent, one.querySelector('dd').textContent])));

describe('the overview', () => {
    let home;
    let dashboard;
    before(async () => {
        home = await everyday();
        dashboard = await Dashboard.start(home);
    });
    after(() => home?.remove());

    const tile = (tab, name) =>
        tab.root.$$eval('.tile', (all, name) => [...(all.find((one) => one.innerText.startsWith(name))?.children ?? [])].map((part) => part.innerText), name);

    test('goes from what is at hand to what is kept', () =>
        dashboard.inTab({}, async (tab) => {
            await tab.sees('Check links');
            const order = () => tab.root.$$eval('.tiles, main section', (all) => all.map((one) => one.id || one.className));
            await until('all sections', async () => (await order()).includes('disk'));
            assert.deepEqual((await order()).filter((name) => name !== 'next'), ['tiles', 'attention', 'now', 'timeline', 'routines', 'runs', 'disk']);
        }));

    test('counts what the command line counts', () =>
        dashboard.inTab({}, async (tab) => {
            await tab.sees('Check links');
            const runs = await home.runs();
            const ended = runs.filter(({ finished_at: at }) => at);
            const failed = ended.filter(({ status }) => status === 'failed').length;
            const rate = Math.round((100 * (ended.length - failed)) / ended.length);
            assert.deepEqual(await tile(tab, 'Running'), ['Running', '1', 'Wait for review']);
            assert.deepEqual(await tile(tab, 'Failed'), ['Failed, 24 h', `${failed}`, `of ${ended.length} runs`]);
            assert.deepEqual(await tile(tab, 'Success'), ['Success, 7 d', `${rate}%`, `of ${ended.length} runs`]);
            const [name, value, more] = await tile(tab, 'Next');
            assert.match(`${name} ${value} ${more}`, /^Next in .* (Check links|Hunt flaky tests)$/);
        }));

    test('shows how much of its bounds a run has used', () =>
        dashboard.inTab({}, async (tab) => {
            const bounds = () => tab.text('#now .bounds');
            await until('time and silence', async () => /\d+ (s|min)\D* of 2 h[^]*silent \d+ (s|min)/.test(await bounds()));
            const first = await bounds();
            await until('the clock', async () => (await bounds()) !== first);
        }));

    test('shows of a routine its last runs, success, median and next fire', () =>
        dashboard.inTab({}, async (tab) => {
            await tab.sees('Hunt flaky tests', '#routines');
            const row = () => tab.root.$$eval('#routines .list > li', (all) => {
                const one = all.find((li) => li.innerText.includes('Hunt flaky tests'));
                return { bars: one.querySelectorAll('.bars i').length, numbers: [...one.querySelectorAll('.number')].map((number) => number.innerText), text: one.innerText };
            });
            const count = (await home.runs('--routine', 'hunt-flaky-tests')).length;
            await until('its bars', async () => (await row()).bars === count);
            const { numbers, text } = await row();
            assert.deepEqual([numbers[0], /^\d+ s$/.test(numbers[1])], ['0%', true], `${numbers}`);
            assert.match(text, /in \d+ (s|min|h)/);
        }));

    test('shows each store, with its size', () =>
        dashboard.inTab({}, async (tab) => {
            await tab.sees(/workbenches[^]*history/, '#disk');
            await until('used space', async () => /used [\d.]+ [KMG]iB · free [\d.]+ [KMGT]iB/.test(await tab.text('#disk')));
        }));
});

describe('a run', () => {
    let home;
    let dashboard;
    const at = now() - 500;
    const id = `reviews-${at}`;
    before(async () => {
        home = new Home();
        await home.create('Reviews', PROMPTS.hangs, '--slug', 'reviews');
        home.addHistory(1, () => ({
            routine: 'reviews',
            at,
            secs: 95,
            verified: false,
            status: 'failed',
            reason: 'its verification failed: 2 tests failed',
            disagreements: ['verification_failed'],
            report: { headline: 'Three reviews', text: '# Three reviews\n\nAll are done.' },
            work: [{ path: 'repo', branch: 'feature/reviews', unpushed_commits: 2, untracked_files: 3 }],
            output: {
                session_id: '1f0c', model: 'opus-5', turns: 12, result: 'I reviewed three of them.', denied: [{ tool: 'Bash', count: 2 }],
                usage: { input_tokens: 1200, output_tokens: 340, cost_usd: 0.42 },
            },
        }));
        home.live = await home.trigger('reviews');
        await home.runIs(home.live, 'running');
        dashboard = await Dashboard.start(home);
    });
    after(() => home?.remove());

    test('shows how it ended, what checked it, what it cost and what it left', () =>
        dashboard.inTab({}, async (tab) => {
            await (await tab.find('button', 'Reviews', '#runs tbody tr:nth-child(2)')).click();
            await tab.sees(id);
            await tab.sees('All are done.', 'main');
            const shown = await until('its facts', async () => {
                const shown = await facts(tab, '.run-page');
                return shown.usage && shown;
            });
            assert.equal(shown.reason, 'its verification failed: 2 tests failed');
            assert.equal(shown.verified, 'no');
            assert.match(shown.work, /branch feature\/reviews[^]*2 unpushed commits[^]*3 untracked files/);
            assert.match(shown.usage, /cost \$0\.42[^]*1,200 input tokens[^]*340 output tokens/);
            assert.deepEqual([shown.model, shown.turns, shown.duration], ['opus-5', '12', '1 min 35 s']);
            assert.match(shown.denied, /Bash[^]*2/);
            await tab.sees('Last message', 'main');
        }));

    test('shows while it lives how to watch it, and its processes', () =>
        dashboard.inTab({}, async (tab) => {
            await tab.press(`Log of ${home.live}`, '#now');
            const shown = await until('its processes', async () => {
                const shown = await facts(tab, '.run-page');
                return shown.processes && shown;
            });
            assert.match(shown.watch, new RegExp(`moadim-mcp attach ${home.live}`));
            assert.match(shown.processes, /sleep[^]*pid \d+/);
            assert.match(shown.workbench, new RegExp(home.live));
        }));

    test('"Run again" and Pin on its page do so', () =>
        dashboard.inTab({}, async (tab) => {
            const made = await home.create('Once', PROMPTS.succeeds);
            const run = await home.runToEnd(made, 'succeeded');
            await (await tab.find('button', 'Once', '#runs')).click();
            await tab.press(`Pin ${run}`);
            await until('pin', async () => (await home.run(run)).pinned);
            await tab.press(`Unpin ${run}`);
            await until('no pin', async () => !(await home.run(run)).pinned);
            await tab.find('button', `Pin ${run}`);
            await tab.press(`Run again ${made}`);
            await until('another run', async () => (await home.runs('--routine', made)).length === 2);
        }));
});

describe('what is not known', () => {
    test('a run in an unknown state is neither running nor offered to be stopped', async () => {
        const home = new Home();
        try {
            await home.create('Odd', PROMPTS.succeeds, '--schedule', '*/5 * * * *');
            const run = `odd-${now() - 900}`;
            // As another program would have left it.
            mkdirSync(home.path('workbenches', run), { recursive: true });
            await until('unknown run', async () => (await home.runs()).some(({ status }) => status === 'unknown'));
            const dashboard = await Dashboard.start(home);
            await dashboard.inTab({}, async (tab) => {
                await tab.sees('unknown', '#runs');
                await tab.sees(/Running\s+0/, '.tiles');
                assert.equal(await tab.has('button', `Stop ${run}`), false);
                assert.match(await tab.evaluate(() => document.title), /0 running/);
                await (await tab.find('button', 'Odd', '#runs')).click();
                await tab.sees('unknown', '.facts');
                assert.equal(await tab.has('button', `Stop ${run}`), false);
                await tab.press('← Overview');

                // It fires more often than fires are sent.
                const fires = () => tab.root.$$eval('#timeline .track > *', (all) => all.map(({ ariaLabel }) => ariaLabel));
                await until('fires without an end', async () => (await fires()).some((words) => /Odd: goes on firing/.test(words)));
            });
        } finally {
            await home.remove();
        }
    });

    test('without the tool that opens runs, nothing opens one; without that for clean-ups, the plan is shown', async () => {
        const home = new Home('default_ttl_secs = 1\n');
        try {
            await home.create('Check links', PROMPTS.succeeds);
            await Host.on(home, { flags: ['--tools', 'show_dashboard,list_runs'], width: 760 }, async (host) => {
                await host.show();
                const { tab } = host;
                // The server swept when it started, and does so again in an hour: until then the workbench may go, and stays.
                const run = await home.runToEnd('check-links', 'succeeded');
                await tab.sees('Check links', '#runs');
                for (const within of ['#runs', '#now', '#attention']) assert.equal(await tab.has('button', 'Check links', within), false, within);
                await tab.press('What goes, and what stays', '#disk');
                await tab.sees(run, '#disk');
                await until('verdict', async () => /Goes: /.test(await tab.text('#disk .plan')));
            });
        } finally {
            await home.remove();
        }
    });
});
