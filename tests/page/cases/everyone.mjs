// The page for everyone: what axe says, narrow windows, the keyboard, and those whom motion makes ill.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Dashboard } from '../harness/dashboard.mjs';
import { Home } from '../harness/home.mjs';
import { everyday, hostile } from '../harness/homes.mjs';
import { until } from '../harness/until.mjs';

const HOMES = {
    'an everyday home': { make: () => everyday(), sees: 'Check links' },
    'a hostile home': { make: hostile, sees: 'boom' },
    'an empty home': { make: async () => new Home(), sees: 'No routines yet' },
};

for (const [name, { make, sees }] of Object.entries(HOMES)) {
    describe(name, () => {
        let home;
        let dashboard;
        before(async () => {
            home = await make();
            dashboard = await Dashboard.start(home);
        });
        after(() => home?.remove());

        /** Looks at what is open in each width and theme. */
        async function suitsAll(tab, what) {
            for (const width of [380, 760, 1360]) {
                for (const theme of ['light', 'dark']) {
                    await tab.show({ width, theme });
                    const where = `${what}, ${theme}, ${width} px`;
                    // A window that has just become narrow is drawn in its next frame.
                    await until(`page within its window: ${where}`, async () => (await tab.overflow()) <= 0);
                    if (width !== 760) assert.deepEqual(await tab.axe(), [], where);
                }
            }
        }

        test('axe finds nothing, and nothing is wider than its window', () =>
            dashboard.inTab({}, async (tab) => {
                await tab.sees(sees);
                const run = (await home.runs()).find(({ status }) => status !== 'reaped');
                if (!run) return suitsAll(tab, 'the overview');
                await tab.press(`More about ${run.routine}`);
                await tab.press('Clean up…', '#disk');
                await tab.find('heading', 'What a cleanup would do');
                for (const range of ['7 days', '4 weeks', '24 h']) {
                    await tab.press(range, '#timeline');
                    await suitsAll(tab, `the overview, ${range}`);
                }
                await (await tab.find('button', undefined, '#runs tbody tr:nth-child(2) .run')).click();
                await tab.find('heading', 'Log');
                await suitsAll(tab, 'a run');
            }));
    });
}

describe('without a mouse', () => {
    let home;
    let dashboard;
    before(async () => {
        home = await everyday();
        dashboard = await Dashboard.start(home);
    });
    after(() => home?.remove());

    const focused = (tab) => tab.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent ?? '');

    test('Tab reaches each button in order, and shows where it is', async () => {
        await dashboard.inTab({}, async (tab) => {
            await tab.sees('Check links');
            const wanted = await tab.evaluate(() => [...document.querySelectorAll('button, input, select')].filter((element) => element.tabIndex >= 0 && element.checkVisibility()).length);
            const reached = new Set();
            const unmarked = [];
            for (let n = 0; n < wanted + 20; n += 1) {
                await tab.page.keyboard.press('Tab');
                const { place, isMarked, name } = await tab.evaluate(() => {
                    const element = document.activeElement;
                    const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
                    const all = [...document.querySelectorAll('*')];
                    return {
                        place: element === document.body ? -1 : all.indexOf(element),
                        isMarked: (outlineStyle !== 'none' && outlineWidth !== '0px') || boxShadow !== 'none',
                        name: element.textContent,
                    };
                });
                if (place < 0) break;
                if (!isMarked) unmarked.push(name);
                if (await tab.evaluate(() => document.activeElement.matches('button, input, select'))) reached.add(place);
            }
            assert.equal(reached.size, wanted);
            assert.deepEqual(unmarked, []);
        });
    });

    test('Enter works a button, and focus survives a redraw', async () => {
        await dashboard.inTab({}, async (tab) => {
            await (await tab.find('button', 'More about check-links')).focus();
            await tab.page.keyboard.press('Enter');
            await tab.find('button', 'Snooze for 1 h', '#routines');
            // Something happens elsewhere, and the page is drawn again.
            const id = await home.runToEnd('hunt-flaky-tests', 'failed');
            await tab.find('button', `Pin ${id}`, '#runs');
            assert.equal(await focused(tab), 'More about check-links');

            await (await tab.find('button', `Pin ${id}`, '#runs')).focus();
            await tab.page.keyboard.press('Enter');
            await until('pin', async () => (await home.run(id)).pinned);
            await tab.find('button', `Unpin ${id}`, '#runs');
            assert.equal(await focused(tab), `Unpin ${id}`);
        });
    });

    test('a question is answered by keyboard, and focus goes back', async () => {
        await dashboard.inTab({}, async (tab) => {
            const stop = `Stop ${home.hanging}`;
            await (await tab.find('button', stop, '#now')).focus();
            await tab.page.keyboard.press('Enter');
            await until('focus on the answer', async () => (await focused(tab)) === 'Stop it');
            await tab.page.keyboard.press('Escape');
            await until('focus on the button', async () => (await focused(tab)) === stop);
            assert.equal((await home.run(home.hanging)).status, 'running');
        });
    });

    test('a run opens at its heading, and leaving it goes back to where one was', async () => {
        await dashboard.inTab({}, async (tab) => {
            await (await tab.find('button', `Log of ${home.hanging}`, '#now')).focus();
            await tab.page.keyboard.press('Enter');
            await until('focus on the heading', async () => (await tab.evaluate(() => document.activeElement.tagName)) === 'H1');
            await (await tab.find('button', '← Overview')).focus();
            await tab.page.keyboard.press('Enter');
            await until('focus on the button', async () => (await focused(tab)) === `Log of ${home.hanging}`);
        });
    });

    test('what goes on is announced', async () => {
        await dashboard.inTab({}, async (tab) => {
            const [run] = await home.runs('--routine', 'write-notes');
            await tab.press(`Pin ${run.id}`, '#runs');
            await until('announcement', async () => (await tab.text('[role=status]')).length > 0);
            await tab.press(`Unpin ${run.id}`, '#runs');
            await tab.find('button', `Pin ${run.id}`, '#runs');
        });
    });

    test('nothing moves for those who do not want it', async () => {
        for (const [motion, moves] of [['reduce', false], ['no-preference', true]]) {
            await dashboard.inTab({ motion }, async (tab) => {
                await tab.find('button', `Stop ${home.hanging}`, '#now');
                const moving = await tab.evaluate(() => document.getAnimations().filter((animation) => animation.playState === 'running').length);
                assert.equal(moving > 0, moves, `${moving} animations with ${motion}`);
            });
        }
    });

    test('it can be read at twice the size, and with forced colours', async () => {
        // 1,360 px at 200 % are 680.
        await dashboard.inTab({ width: 680 }, async (tab) => {
            await tab.sees('Check links');
            assert.ok((await tab.overflow()) <= 0);
            await tab.page.emulateMediaFeatures([{ name: 'forced-colors', value: 'active' }]).catch(() => {});
            assert.deepEqual(await tab.axe(), []);
        });
    });
});
