// A moadim home that the real program fills: routines whose agent is `sh`, and what becomes of their runs.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { endProcessesOf } from './processes.mjs';
import { until } from './until.mjs';

const PROGRAM = process.env.MOADIM_MCP;
const run = promisify(execFile);

/** What routines of the tests do. */
export const PROMPTS = {
    succeeds: 'echo "nothing to do"; printf "# All is well\\n\\nTwo links were checked, and both answer.\\n" > report.md',
    fails: 'echo "error: no route to example.org" >&2; exit 3',
    hangs: 'echo "waiting for an answer"; exec sleep 600',
    floods: 'i=0; while :; do i=$((i+1)); printf "line %d\\n" $i; [ $((i % 100)) -ne 0 ] || sleep 0.1; done',
    works: [
        'git init -q -b feature notes && cd notes',
        'git -c user.name=n -c user.email=n@example.org commit -q --allow-empty -m first',
        'echo draft > draft.txt',
    ].join('\n'),
};

/** A prompt that asks once, and goes on with whatever the answer is. */
export const asking = (question) =>
    ['[ ! -e asked ] || { echo "# Done" > report.md; exit 0; }', 'touch asked', "cat > question.md <<'END'", question.trimEnd(), 'END', 'exit 0'].join('\n');

export class Home {
    /** `settings` are lines of config.toml. */
    constructor(settings = '') {
        this.folder = mkdtempSync(join(tmpdir(), 'page-'));
        this.root = join(this.folder, 'home');
        for (const name of ['user', 'tmp']) mkdirSync(join(this.folder, name));
        for (const name of ['home', 'home/agents']) mkdirSync(join(this.folder, name), { mode: 0o700 });
        this.write('config.toml', `session_host = "detached"\nkill_grace_secs = 1\n${settings}`);
        // The prompt is a script. Without the login shell: its start-up files are not what this is about.
        this.write('agents/shell.toml', 'command = "sh"\nlogin_shell = false\n');
        this.environment = {
            PATH: process.env.PATH,
            LANG: 'C.UTF-8',
            SHELL: '/bin/sh',
            HOME: join(this.folder, 'user'),
            TMPDIR: join(this.folder, 'tmp'),
            MOADIM_HOME: this.root,
        };
    }

    path(...names) {
        return join(this.root, ...names);
    }

    write(name, text) {
        writeFileSync(this.path(name), text);
    }

    read(name) {
        return readFileSync(this.path(name), 'utf8');
    }

    /** Starts the program, as a process that goes on. */
    start(...words) {
        return spawn(PROGRAM, words, { env: this.environment, cwd: this.environment.HOME });
    }

    /** What it takes to start a server for an MCP client. */
    server(...flags) {
        return { command: PROGRAM, args: flags, env: this.environment, cwd: this.environment.HOME };
    }

    /** Runs a command, and gives the JSON document that it prints. */
    async ask(...words) {
        const options = { env: this.environment, cwd: this.environment.HOME, maxBuffer: 1 << 26 };
        const { stdout } = await run(PROGRAM, [...words, '--json'], options).catch((error) => {
            // Some say with their status that there is something to see.
            if (error.stdout?.startsWith('{')) return error;
            throw new Error(`moadim-mcp ${words.join(' ')}: ${error.stderr || error}`);
        });
        return JSON.parse(stdout);
    }

    async create(title, prompt, ...flags) {
        const { routine } = await this.ask('create', title, '--agent', 'shell', '--prompt', prompt, ...flags);
        return routine.slug;
    }

    async trigger(routine, ...flags) {
        return (await this.ask('trigger', routine, ...flags)).run.id;
    }

    /** Triggers a routine and waits for how its run ends. */
    async runToEnd(routine, status) {
        const id = await this.trigger(routine);
        await this.runIs(id, status);
        return id;
    }

    async run(id) {
        return (await this.ask('show', id)).run;
    }

    runIs(id, status) {
        return until(`run ${id} that is ${status}`, async () => {
            const run = await this.run(id);
            assert.ok(run.status === status || !run.finished_at, `${id} is ${run.status}: ${run.status_reason}`);
            return run.status === status && run;
        });
    }

    async runs(...flags) {
        return (await this.ask('runs', '--limit', '200', ...flags)).runs;
    }

    async routine(slug) {
        return (await this.ask('routines')).routines.find((routine) => routine.slug === slug);
    }

    /** Adds ended runs, whose workbenches are gone, to the history: `each(n)` gives what is special about the n-th. */
    addHistory(count, each) {
        const lines = [];
        for (let n = 0; n < count; n += 1) {
            const { routine, at, secs = 60, ...more } = each(n);
            const time = (seconds) => new Date(seconds * 1000).toISOString().replace('.000', '');
            const line = {
                kind: 'run', routine, version: 1, id: `${routine}-${at}`, status: 'succeeded', agent: 'shell', session_host: 'detached',
                triggered_at: time(at), started_at: time(at), finished_at: time(at + secs), retain_from: time(at + secs),
                cookie: '0'.repeat(32), duration_secs: secs, ...more,
            };
            if (line.status === 'succeeded') line.exit_code ??= 0;
            lines.push(line);
        }
        lines.sort((a, b) => (a.finished_at < b.finished_at ? -1 : 1));
        writeFileSync(this.path('history.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''), { flag: 'a', mode: 0o600 });
    }

    /** Ends whatever runs here, and removes it. */
    async remove() {
        await endProcessesOf(this.folder);
        rmSync(this.folder, { recursive: true, force: true });
    }
}
