// Texts of agents and web pages are hostile: they are shown, and are nothing but text.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Dashboard } from '../harness/dashboard.mjs';
import { hostile } from '../harness/homes.mjs';
import { Host } from '../harness/host.mjs';

describe('a hostile home', () => {
    let home;
    let dashboard;
    before(async () => {
        home = await hostile();
        dashboard = await Dashboard.start(home);
    });
    after(() => home?.remove());

    /** Whatever the page has that it did not make itself. */
    async function isOnlyText(tab) {
        const found = await tab.evaluate(() => ({
            booms: globalThis.booms ?? [],
            made: [...document.querySelectorAll('script, a, img, iframe, object, embed, form, base, link, meta[http-equiv]')]
                .filter((element) => !element.closest('head') || element.tagName === 'BASE')
                .map((element) => element.outerHTML.slice(0, 200))
                .filter((html) => !html.startsWith('<script>\n') && !html.includes('"use strict"')),
            handlers: [...document.querySelectorAll('*')].flatMap((element) => element.getAttributeNames().filter((name) => name.startsWith('on') || /^(href|src|action|formaction|srcdoc)$/.test(name)).map((name) => `${element.tagName} ${name}`)),
            unseen: document.body.innerText.match(/[^\P{Cc}\t\n]|[\u202a-\u202e\u2066-\u2069]/gu) ?? [],
            title: /[\u202a-\u202e\u2066-\u2069]/.test(document.title),
        }));
        assert.deepEqual(found, { booms: [], made: [], handlers: [], unseen: [], title: false });
        assert.ok((await tab.overflow()) <= 0, 'it is wider than its window');
    }

    /** Opens everything that can be opened, and looks at it. */
    async function everywhere(tab) {
        await tab.evaluate(() => {
            globalThis.booms = [];
            globalThis.boom = (how = '?') => globalThis.booms.push(how);
        });
        await tab.sees('<script>boom("script")</script>', '#routines');
        await tab.sees('<img src=x onerror=boom("img")>', '#runs');
        await isOnlyText(tab);
        for (const slug of ['good', 'bad', 'live']) await tab.press(`More about ${slug}`);
        await tab.sees('<i/onload=boom(7)>', '#routines');
        if (await tab.has('button', 'Clean up…', '#disk')) {
            await tab.press('Clean up…', '#disk');
            await tab.press('Which, and why', '#disk');
        }
        const [more] = await tab.root.$$('#runs > button.more');
        await more?.click();
        for (const range of ['7 days', '4 weeks', '24 h']) {
            await tab.press(range, '#timeline');
            await isOnlyText(tab);
        }
        // What the pointer reads out.
        for (const mark of (await tab.root.$$('.mark')).slice(0, 6)) await mark.hover().catch(() => {});
        await isOnlyText(tab);

        await tab.press(`Log of ${home.live}`, '#now');
        await tab.sees('onerror=boom("img")', '.log');
        await isOnlyText(tab);
        await tab.press('← Overview');
        await (await tab.find('button', undefined, '#runs tbody tr:nth-child(2) .run')).click();
        await tab.sees('x/<img/src=x/onerror=boom()>', 'main');
        await tab.sees('<svg onload=boom("svg")>', 'main');
        await isOnlyText(tab);
        await (await tab.find('searchbox', 'Find in the log')).type('boom');
        await tab.sees(/\d lines?( or more)? ·/);
        await isOnlyText(tab);
        await tab.press('← Overview');
        await tab.find('heading', 'Runs');
        await isOnlyText(tab);
    }

    for (const width of [1360, 380]) {
        test(`nothing of it runs in a browser of ${width} px`, async () => {
            await dashboard.inTab({ width }, async (tab) => {
                await everywhere(tab);
            });
        });
    }

    test('nothing of it runs in a host', async () => {
        await Host.on(home, { width: 760 }, async (host) => {
            await host.show();
            await everywhere(host.tab);
        });
    });

    test('the page\'s own policy refuses what a fault would let in', async () => {
        await dashboard.inTab({}, async (tab) => {
            await tab.sees('boom');
            tab.excuse(/Content Security Policy|Trusted Type|TrustedHTML|TrustedScript|violates the following/);
            const refused = await tab.evaluate(async () => {
                const tries = {
                    innerHTML: () => (document.createElement('p').innerHTML = '<b>x</b>'),
                    script: () => (document.createElement('script').text = 'boom()'),
    eval: () => new Promise((done, fail) => setTimeout(() => {
                    // Later, because the debugger may do it.
                    try {
                        done((0, eval)('1'));
                    } catch (error) {
                        fail(error);
                    }
                })),
                    elsewhere: () => fetch('http://localhost:9/'),
    socket: () => new Promise((open, fail) => Object.assign(new WebSocket('ws://localhost:9/'), { onopen: open, onerror: fail })),
                };
                const refused = [];
                for (const [name, attempt] of Object.entries(tries)) {
                    try {
                        await attempt();
                    } catch {
                        refused.push(name);
                    }
                }
                return refused;
            });
            assert.deepEqual(refused, ['innerHTML', 'script', 'eval', 'elsewhere', 'socket']);
        });
    });
});
