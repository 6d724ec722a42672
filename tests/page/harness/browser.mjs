// One Chromium for all cases, and a tab of its own for each part of a case. Whatever a page may not do is written down, and is a
// failure when the tab is closed.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import puppeteer from 'puppeteer-core';
import { processesOf } from './processes.mjs';
import { until } from './until.mjs';

const AXE = readFileSync(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8');
const FLAGS = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-breakpad', '--disable-crash-reporter', '--disable-extensions',
    // Tabs that another one covers go on, as on a second screen.
    '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding', '--disable-background-timer-throttling',
    '--js-flags=--expose-gc', '--enable-precise-memory-info',
];

const folder = mkdtempSync(join(tmpdir(), 'chromium-'));
let starting;

function startBrowser() {
    return puppeteer.launch({
        executablePath: process.env.CHROMIUM,
        args: FLAGS,
        pipe: true,
        userDataDir: join(folder, 'profile'),
        env: { PATH: process.env.PATH, LANG: 'C.UTF-8', TZ: 'UTC', HOME: folder, TMPDIR: folder },
        handleSIGINT: false,
        handleSIGTERM: false,
        handleSIGHUP: false,
    });
}

export async function stopBrowser() {
    await (await starting)?.close();
    await until('end of Chromium', () => processesOf(folder).length === 0);
    rmSync(folder, { recursive: true, force: true });
}

/** How wide a window is, and what its person prefers. */
const PLAIN = { width: 1360, height: 900, theme: 'light', motion: 'no-preference' };

/**
 * Does something with a tab, or what else is closed, and closes it. What a page did that it may not is told there, and beside
 * whatever else went wrong.
 */
export async function closing(one, what) {
    try {
        await what(one);
    } catch (error) {
        const faults = await one.close().then(() => '', (fault) => `\n${fault.message}`);
        error.message += faults;
        throw error;
    }
    await one.close();
}

/** Whether an element stays where it is from one frame to the next: what moves away is not hit. */
const isAtRest = (element) =>
    element.evaluate((one) => {
        const place = () => JSON.stringify(one.getBoundingClientRect());
        const before = place();
        return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(one.isConnected && place() === before))));
    });

/** Opens an empty tab, without anything that another one has stored. */
export async function openTab(view = {}) {
    starting ??= startBrowser();
    const context = await (await starting).createBrowserContext();
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    const tab = new Tab(context, page);
    await tab.show(view);
    return tab;
}

export class Tab {
    /** The frame that has the dashboard. */
    root;
    /** What the page did that it may not. */
    faults = [];
    /** All requests: method and address. */
    requests = [];
    /** Which addresses it may ask. */
    origins = new Set();
    #excused = [];
    #wasAsked = false;
    #view = PLAIN;

    constructor(context, page) {
        this.context = context;
        this.page = page;
        this.root = page.mainFrame();
        page.on('console', (message) => this.#fault(`console.${message.type()}: ${message.text()} (${message.location().url ?? ''})`));
        page.on('pageerror', (error) => this.#fault(`error: ${error.stack ?? error}`));
        page.on('error', (error) => this.#fault(`crash: ${error}`));
        page.on('request', (request) => {
            // A fragment stays in the browser.
            this.requests.push(`${request.method()} ${request.url().split('#')[0]}`);
            const { protocol, origin } = new URL(request.url());
            const allowed = protocol === 'data:' || request.url() === 'about:srcdoc' || this.origins.has(origin);
            if (!allowed) this.#fault(`request: ${request.method()} ${request.url()}`);
        });
        page.on('dialog', async (dialog) => {
            this.#fault(`dialog: ${dialog.message()}`);
            await dialog.dismiss();
        });
        context.on('targetcreated', (target) => {
            if (target.type() === 'page' && target !== page.target()) this.#fault(`window: ${target.url()}`);
        });
    }

    #fault(text) {
        this.faults.push(text);
    }

    /** Lets messages pass that a case provokes, such as Chromium's own about a server that is gone. */
    excuse(pattern) {
        this.#excused.push(pattern);
    }

    async show(view) {
        this.#view = { ...this.#view, ...view };
        const { width, height, theme, motion } = this.#view;
        await this.page.setViewport({ width, height });
        await this.page.emulateMediaFeatures([
            { name: 'prefers-color-scheme', value: theme },
            { name: 'prefers-reduced-motion', value: motion },
        ]);
    }

    async goto(url) {
        this.origins.add(new URL(url).origin);
        await this.page.goto(url);
    }

    evaluate(script, ...values) {
        return this.root.evaluate(script, ...values);
    }

    /** All text that a person sees. */
    text(selector = 'body') {
        return this.root.$eval(selector, (element) => element.innerText);
    }

    sees(text, selector = 'body') {
        const matches = (all) => (typeof text === 'string' ? all.includes(text) : text.test(all));
        return until(`'${text}' in ${selector}`, async () => matches(await this.text(selector)));
    }

    seesNot(text, selector = 'body') {
        const matches = (all) => (typeof text === 'string' ? all.includes(text) : text.test(all));
        return until(`${selector} without '${text}'`, async () => !matches(await this.text(selector)));
    }

    /** Finds elements as a screen reader tells them: by role and name, in what `within` selects. */
    async all(role, name, within = 'body') {
        const found = [];
        for (const scope of await this.root.$$(within)) {
            found.push(...(await scope.$$(`::-p-aria([role="${role}"]${name === undefined ? '' : `[name="${name}"]`})`)));
        }
        return found;
    }

    find(role, name, within) {
        return until(`${role} '${name}' in ${within ?? 'the page'}`, async () => (await this.all(role, name, within))[0]);
    }

    async has(role, name, within) {
        return (await this.all(role, name, within)).length > 0;
    }

    /** Clicks with the mouse, again if a redraw took the element away just then. */
    async click(role, name, within) {
        await until(`click on ${role} '${name}' in ${within ?? 'the page'}`, async () => {
            const [element] = await this.all(role, name, within);
            if (!element) return false;
            await element.scrollIntoView();
            if (!(await isAtRest(element))) return false;
            await element.click();
            return true;
        });
    }

    press(name, within) {
        return this.click('button', name, within);
    }

    /** Answers a question that the page asks first. It takes no answer right after it has asked. */
    agree(name, within) {
        return until(`question that goes with '${name}'`, async () => {
            const [element] = await this.all('button', name, within);
            if (!element) return this.#wasAsked;
            this.#wasAsked = true;
            await element.click();
            return false;
        }).finally(() => {
            this.#wasAsked = false;
        });
    }

    /** The names of all buttons that would change something. */
    async offers() {
        const verbs = ['Run', 'Stop', 'Pin', 'Unpin', 'Snooze', 'Skip', 'Disable', 'Enable', 'Clean up', 'Remove', 'End'];
        const names = await this.root.$$eval('button', (all) => all.map((one) => one.getAttribute('aria-label') ?? one.textContent));
        return names.filter((name) => verbs.some((verb) => name === verb || name.startsWith(`${verb} `) || name.startsWith(`${verb}…`)));
    }

    /** What axe finds, in words. */
    async axe() {
        // In the frame by way of the debugger: a script element would be against the page's own policy.
        await this.evaluate(`${AXE}; undefined`);
        const violations = await this.evaluate(async () => {
            const result = await globalThis.axe.run(document, { resultTypes: ['violations'] });
            return result.violations.map(({ id, help, nodes }) => ({ id, help, nodes: nodes.slice(0, 5).map((node) => `${node.target}: ${node.failureSummary}`) }));
        });
        return violations.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.join('\n    ')}`);
    }

    /** By how many pixels the page is wider than its window. */
    overflow() {
        return this.evaluate(() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth);
    }

    /** Closes the tab. Whatever the page did that it may not is told here. */
    async close() {
        await this.context.close();
        const faults = this.faults.filter((fault) => !this.#excused.some((pattern) => pattern.test(fault)));
        assert.deepEqual(faults, [], 'the page did what it may not');
    }
}
