// Runs that ask a person: answered, dismissed and refused on the page, and gone on with.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { Dashboard } from '../harness/dashboard.mjs';
import { asking, Home, PROMPTS } from '../harness/home.mjs';
import { hostile } from '../harness/homes.mjs';
import { Host } from '../harness/host.mjs';
import { until } from '../harness/until.mjs';

const QUESTION = '# Which database?\n\nBoth were found.\n\n- Postgres\n- SQLite\n';

describe('questions', () => {
    let home;
    let dashboard;
    before(async () => {
        home = new Home();
        await home.create('Migrate', asking(QUESTION));
        await home.create('Check links', PROMPTS.succeeds);
        dashboard = await Dashboard.start(home);
    });
    after(() => home?.remove());
    // Whatever a case leaves open is no other's.
    afterEach(async () => {
        const open = (await home.runs()).filter(({ question }) => question?.state === 'open');
        for (const { id } of open) await home.ask('answer', id, '--dismiss');
    });

    const inTab = (what) => () => dashboard.inTab({}, what);
    const ask = async () => home.runToEnd('migrate', 'asked');
    const answersOf = (tab) => tab.requests.filter((request) => request.endsWith('/continue_run')).length;
    const closed = (run, state) => until(`question that is ${state}`, async () => {
        const { question } = await home.run(run);
        return question.state === state && question;
    });

    test('a button answers, and the run goes on', inTab(async (tab) => {
        const run = await ask();
        await tab.sees('Which database?', '#attention');
        await tab.sees('Both were found.', '#attention');
        await tab.sees(/Migrate · .* ago · expires in \d d/, '#attention');
        await tab.sees(/asked[^]*it asks: Which database\?/, '#runs tbody');
        await tab.press('SQLite', '#attention');
        const { answer, closed_by: by } = await closed(run, 'answered');
        assert.deepEqual([answer, by], ['SQLite', 'a person']);
        await until('no question', async () => !(await tab.has('textbox', 'Your answer', '#attention')));
        const { continued_by: next } = await home.run(run);
        await home.runIs(next, 'succeeded');

        await tab.evaluate((id) => { location.hash = `run=${id}`; }, run);
        await tab.sees(/Question\s+answered[^]*Both were found[^]*SQLite/, 'main');
        assert.equal(await tab.has('textbox', 'What to do next'), false, 'another goes on already');
        await tab.press(next, '.facts');
        await tab.sees(new RegExp(`continues\\s+${run}`, 'i'), '.facts');
        await tab.press(run, '.facts');
        await tab.sees(new RegExp(`continued by\\s+${next}`, 'i'), '.facts');
    }));

    test('what is typed stays while the page changes, and is sent once', inTab(async (tab) => {
        const run = await ask();
        const field = await tab.find('textbox', 'Your answer', '#attention');
        await field.type('MariaDB,');
        await home.create('Made meanwhile', PROMPTS.succeeds);
        await tab.sees('Made meanwhile', '#routines');
        // Above it, if it were sorted so.
        const other = await ask();
        await until('the other question', async () => (await tab.all('textbox', 'Your answer', '#attention')).length === 2);
        assert.equal(await tab.evaluate(() => document.activeElement.value), 'MariaDB,');
        await tab.page.keyboard.type(' and <b>soon</b>');
        // On the page of a run, and back.
        await tab.press('Open the run', '#attention .notice:first-child');
        await tab.sees(run, 'main');
        await until('the same draft', async () => (await tab.find('textbox', 'Your answer', 'main')).evaluate((one) => one.value === 'MariaDB, and <b>soon</b>'));
        await tab.press('← Overview');
        const button = await tab.find('button', 'Answer', '#attention .notice:first-child');
        await button.evaluate((one) => {
            one.click();
            one.click();
        });
        await button.click({ count: 2 }).catch(() => {});
        assert.equal((await closed(run, 'answered')).answer, 'MariaDB, and <b>soon</b>');
        await until('one question', async () => (await tab.all('textbox', 'Your answer', '#attention')).length === 1);
        assert.equal(answersOf(tab), 1);

        await tab.press('Dismiss', '#attention');
        await closed(other, 'dismissed');
        await until('no question', async () => !(await tab.has('textbox', 'Your answer')));
        assert.equal((await home.run(other)).continued_by, undefined);
    }));

    test('an answer that comes too late is refused beside its question', inTab(async (tab) => {
        tab.excuse(/status of 4\d\d/);
        const run = await ask();
        await (await tab.find('textbox', 'Your answer', '#attention')).type('Postgres 17');
        await home.ask('answer', run, 'SQLite');
        await tab.sees('closed meanwhile', '#attention');
        await tab.press('Answer', '#attention');
        await tab.sees(/Failed:[^]*was answered at/, '#attention .asking');
        await until('the same draft', async () => (await tab.find('textbox', 'Your answer', '#attention')).evaluate((one) => one.value === 'Postgres 17'));
        await tab.press('Close', '#attention .answers');
        await until('no question', async () => !(await tab.has('textbox', 'Your answer')));
    }));

    test('a run that is over is given more to do', inTab(async (tab) => {
        const run = await home.runToEnd('check-links', 'succeeded');
        await tab.evaluate((id) => { location.hash = `run=${id}`; }, run);
        await (await tab.find('textbox', 'What to do next', '.facts')).type('Check them again');
        await tab.press('Continue…', '.facts');
        const next = await until('the run that goes on', async () => (await home.run(run)).continued_by);
        await tab.sees(new RegExp(`continued by\\s+${next}`, 'i'), '.facts');
        await until('no field', async () => !(await tab.has('textbox', 'What to do next')));
        await home.runIs(next, 'succeeded');
    }));

    test('a login has its command and one button, and no other item', inTab(async (tab) => {
        const at = Math.floor(Date.now() / 1000) - 5 * 86_400;
        const run = `check-links-${at}`;
        home.addHistory(1, () => ({
            routine: 'check-links', at, status: 'asked', version: 2, question: { kind: 'login', text: 'Log shell in.\n\nshell said: /login' }, output: { needs: 'login' },
        }));
        for (const folder of ['questions', 'questions/open', `workbenches/${run}`]) mkdirSync(home.path(folder), { recursive: true, mode: 0o700 });
        home.write(`questions/open/${run}.json`, '{}');
        await tab.find('button', 'Logged in: go on', '#attention');
        await tab.sees('shell said: /login', '#attention');
        await tab.find('button', 'Copy sh', '#attention');
        assert.equal(await tab.has('textbox', 'Your answer', '#attention'), false);
        await tab.seesNot('asks for a login', '#attention');
        await tab.press('Dismiss', '#attention');
        await until('no question', async () => !(await tab.has('button', 'Logged in: go on')));
    }));

    test('a panel shows why it may not answer', async () => {
        const run = await ask();
        await Host.on(home, { width: 760 }, async (host) => {
            await host.show();
            const { tab } = host;
            await tab.press('Postgres', '#attention');
            await tab.sees(`moadim-mcp answer ${run}`, '#attention .error');
            assert.equal((await home.run(run)).question.state, 'open');
            assert.ok(host.calls.some(({ name, arguments: given }) => name === 'continue_run' && given.text === 'Postgres'));
        });
    });

    test('a server that changes nothing shows the question and the command', async () => {
        const run = await ask();
        await Host.on(home, { flags: ['--read-only'] }, async (host) => {
            await host.show();
            await host.tab.sees(`moadim-mcp answer ${run}`, '#attention');
            assert.equal(await host.tab.has('button', 'Postgres'), false);
        });
    });
});

describe('a hostile question', () => {
    test('is only text, fits, and is answered with what its button says', async () => {
        const home = await hostile();
        try {
            const dashboard = await Dashboard.start(home);
            await dashboard.inTab({ width: 380 }, async (tab) => {
                await tab.evaluate(() => { globalThis.boom = (how) => { throw new Error(`boom ${how}`); }; });
                await tab.sees('</script><script>boom(9)</script>', '#attention .answers');
                assert.ok((await tab.overflow()) <= 0, 'it is wider than its window');
                const { options, text } = (await home.run(home.asked)).question;
                assert.ok(text.length <= 4096 && options.length === 3, `${options}`);
                const buttons = await tab.root.$$('#attention .answers button');
                await buttons[1].click();
                await until('answer', async () => (await home.run(home.asked)).question.answer === options[1]);
                await tab.seesNot('boom(9)', '#attention, main');
            });
        } finally {
            await home.remove();
        }
    });
});
