// Runs on a cluster: those that wait in its queue, and where the others are.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Dashboard } from '../harness/dashboard.mjs';
import { PROMPTS } from '../harness/home.mjs';
import { ClusterHome } from '../harness/slurm.mjs';
import { until } from '../harness/until.mjs';

describe('on a cluster', () => {
    test('a queued run shows what it waits for and no bound, then its node, and can be stopped in both', async () => {
        const home = new ClusterHome();
        try {
            await home.create('Train', PROMPTS.hangs, '--max-runtime', '2h');
            const queued = await home.trigger('train');
            const dashboard = await Dashboard.start(home);
            await dashboard.inTab({}, async (tab) => {
                const bars = () => tab.root.$$eval('#now .bar, .facts .bar', (all) => all.length);
                await tab.sees("it waits in Slurm's queue for free resources", '#now');
                await tab.sees(/queued[^]*id 17 · partition gpu · state PENDING[^]*waits \d+ s/, '#now');
                await tab.sees(/Running\s+0\s+1 queued/, '.tiles');
                assert.match(await tab.evaluate(() => document.title), /0 running/);
                assert.equal(await bars(), 0);
                await tab.press(`Log of ${queued}`, '#now');
                await tab.sees('queued', '.facts');
                await tab.sees('partition gpu', '.facts');
                assert.equal(await bars(), 0);
                await tab.press('← Overview');

                home.startJob();
                await tab.sees(/id 17 · node node7 · partition gpu · state RUNNING[^]*\d+ s\D* of 2 h/, '#now');
                await tab.sees(/Running\s+1\s+Train/, '.tiles');
                await tab.press(`Stop ${queued}`, '#now');
                await tab.agree('Stop it', '#now');
                await home.runIs(queued, 'stopped');
                await tab.sees('Nothing is running.', '#now');

                const second = await home.trigger('train');
                await tab.sees('queued', '#now');
                await tab.press(`Stop ${second}`, '#now');
                await tab.agree('Stop it', '#now');
                await home.runIs(second, 'stopped');
                await until('no queued run', async () => !/queued/.test(await tab.text('.tiles')));
            });
        } finally {
            await home.remove();
        }
    });
});
