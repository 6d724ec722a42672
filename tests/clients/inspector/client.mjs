// The Inspector does the main job:  node client.mjs ERA SERVER [ARGUMENT...]
//
// It comes as two commands. `--cli` starts a server for each thing it does, and looks hard at what the server says of itself.
// `mcpdo` keeps a connection in a process of its own, so that word of changes, questions and tasks can be seen.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { COUNTED, COUNTING, LONG, letGo, until } from '../javascript/routines.mjs';

const [era, ...server] = process.argv.slice(2);
const CLIENTS = '../inspector/node_modules/@modelcontextprotocol/inspector/clients/';
const program = (path) => fileURLToPath(new URL(CLIENTS + path, import.meta.url));
const CLI = program('launcher/build/index.js');
const MCPDO = program('mcpdo/build/mcp-bin.js');
const HOME = `MOADIM_HOME=${process.env.MOADIM_HOME}`;
// It has no secrets to keep, and a keychain is not there.
const options = { timeout: 30_000, killSignal: 'SIGKILL', maxBuffer: 1 << 26, env: { ...process.env, MCP_INSPECTOR_SECRET_STORE: 'file' } };
const execute = promisify(execFile);

/** Gives what `--cli` prints; on stderr it must have nothing to say. */
async function cli(...args) {
    const all = [CLI, '--cli', ...server, '-e', HOME, '--protocol-era', era, '--format', 'json', ...args];
    const { stdout, stderr } = await execute(process.execPath, all, options);
    assert.equal(stderr, '', args.join(' '));
    return JSON.parse(stdout).result;
}

/** Gives what `mcpdo` prints about our connection, also when it exits with an error. */
async function mcpdo(...args) {
    const all = [MCPDO, '--format', 'json', '--connection', 'server', ...args];
    const { stdout, stderr } = await execute(process.execPath, all, options).catch((error) => error);
    assert.ok(stdout, `${args.join(' ')}: ${stderr}`);
    return JSON.parse(stdout);
}

async function call(tool, given) {
    const answer = await mcpdo('tools/call', tool, JSON.stringify(given));
    assert.ok(answer.structuredContent && !answer.isError, JSON.stringify(answer));
    return answer.structuredContent;
}

async function theServerDescribesItselfWell() {
    const { tools } = await cli('--method', 'tools/list', '--strict');
    assert.ok(tools.some((tool) => tool.name === 'create_routine'));
    assert.deepEqual((await cli('--method', 'tools/list', '--strict')).tools, tools);
    const { resources } = await cli('--method', 'resources/list');
    assert.deepEqual(resources.map((resource) => resource.uri), ['moadim://health', 'moadim://usage']);
    const { prompts } = await cli('--method', 'prompts/list');
    assert.deepEqual(prompts.map((prompt) => prompt.name).sort(), ['diagnose_run', 'morning_report', 'new_routine']);
}

async function itHoldsUpUnderLoad() {
    const load = await cli('--method', 'tools/call', '--tool-name', 'list_routines', '--load', '--load-requests', '500');
    assert.deepEqual([load.requests, load.ok, load.toolErrors, load.errors], [500, 500, 0, 0], JSON.stringify(load));
    return `${Math.round(load.throughput)} calls a second`;
}

/** Hears of a resource until it is told to stop. */
function follow(uri) {
    const all = [MCPDO, '--format', 'json', '--connection', 'server', 'resources/subscribe', uri];
    const following = spawn(process.execPath, all, { env: options.env, stdio: ['ignore', 'pipe', 'inherit'] });
    const gone = new Promise((resolve) => following.on('close', resolve));
    let heard = '';
    createInterface({ input: following.stdout }).on('line', (line) => (heard += line));
    const count = (type) => heard.split(`"type": "${type}"`).length - 1;
    const close = () => (following.kill('SIGINT'), gone);
    return { count, close };
}

async function aRunIsFollowedToItsEnd() {
    await call('create_routine', { title: 'Counting', prompt: COUNTING, agent: 'shell', ttl_secs: 1 });
    const { run } = await call('trigger_routine', { routine: 'counting' });
    const log = follow(`moadim://runs/${run.id}/log`);
    try {
        await until('the subscription', () => log.count('subscribed') === 1);
        letGo(run);
        await until('word of its lines', () => log.count('resources/updated') >= 2);
    } finally {
        await log.close();
    }
    const waited = await call('wait_run', { run: run.id });
    assert.deepEqual([waited.finished, waited.run.status], [true, 'succeeded']);
    assert.equal((await call('read_log', { run: run.id })).text, COUNTED);
    const { contents } = await mcpdo('resources/read', `moadim://runs/${run.id}/log`);
    assert.equal(contents[0].text, COUNTED);
    const { messages } = await mcpdo('prompts/get', 'diagnose_run', '--prompt-args', `run=${run.id}`);
    assert.ok(messages[0].content.text.includes(run.id));
    if (era === 'modern') {
        const { task } = await mcpdo('tasks/get', run.id);
        assert.deepEqual([task.taskId, task.status], [run.id, 'completed']);
    }
    return run;
}

async function aPersonIsAsked() {
    await call('create_routine', { title: 'Long', prompt: LONG, agent: 'shell' });
    const { run } = await call('trigger_routine', { routine: 'long' });
    const deletion = ['tools/call', 'delete_routine', JSON.stringify({ routine: 'long' })];
    const first = (await mcpdo(...deletion)).elicitationPending;
    assert.ok(first.message.includes(run.id), first.message);
    const refused = await mcpdo('elicitation/respond', first.elicitationId, '--decline');
    assert.match(JSON.stringify(refused), /not done/);
    assert.equal((await call('get_run', { run: run.id })).run.status, 'running');

    const second = (await mcpdo(...deletion)).elicitationPending;
    await mcpdo('elicitation/respond', second.elicitationId, JSON.stringify({ confirm: 'Yes, do it' }));
    assert.equal((await call('get_run', { run: run.id })).run.status, 'stopped');
    assert.deepEqual((await call('list_routines', { query: 'long' })).routines, []);
}

async function whatHasExpiredIsRemoved(run) {
    const plan = await until('its retention to pass', async () => {
        const plan = await call('cleanup_workbenches', { dry_run: true, routine: 'counting' });
        return plan.removed_total === 1 && plan;
    });
    assert.equal(plan.removed[0].run, run.id);
    const done = await call('cleanup_workbenches', { routine: 'counting' });
    assert.equal(done.removed[0].run, run.id);
    assert.equal((await call('get_run', { run: run.id })).run.status, 'reaped');
    await call('delete_routine', { routine: 'counting' });
    assert.deepEqual((await call('health', {})).problems, []);
}

await theServerDescribesItselfWell();
const speed = await itHoldsUpUnderLoad();
try {
    const connection = await mcpdo('connect', '--era', era, '-e', HOME, '--', ...server);
    assert.equal(connection.protocolEra, era);
    const run = await aRunIsFollowedToItsEnd();
    await aPersonIsAsked();
    await whatHasExpiredIsRemoved(run);
    await mcpdo('disconnect');
} finally {
    await execute(process.execPath, [MCPDO, 'daemon', 'stop'], options);
}
console.log(speed);
