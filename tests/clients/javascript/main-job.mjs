// What a client of this server does all day, told once for every client that is written in JavaScript.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { COUNTED, COUNTING, LONG, create, letGo, statusOf, trigger, until, withHost } from './routines.mjs';

const AT_ONCE = 1_500;

const runUri = (run) => `moadim://runs/${run}`;
const logUri = (run) => `moadim://runs/${run}/log`;
const routineUri = (routine) => `moadim://routines/${routine}`;

/** Creates, triggers, follows, waits, reads, cancels, stops, cleans up, deletes. */
export const mainJob = (connect) =>
    withHost(connect, {}, async (host) => {
        await toolsAreListedTheSameTwice(host);
        await create(host, 'Counting', COUNTING);
        await create(host, 'Long', LONG);
        const counted = await aRunIsFollowedToItsEnd(host, 'counting');
        const stopped = await aWaitIsCancelledAndARunStopped(host, 'long');
        await whatIsThereIsShownInOtherWays(host, counted.id);
        await whatHasExpiredIsRemoved(host, [counted, stopped]);
        for (const routine of ['counting', 'long']) {
            const { deleted } = await host.call('delete_routine', { routine });
            assert.equal(deleted, routine);
        }
        const health = await host.call('health', {});
        assert.deepEqual(health.problems, []);
        assert.equal(health.routines, 0);
    });

async function toolsAreListedTheSameTwice(host) {
    const tools = await host.tools();
    const names = tools.map((tool) => tool.name);
    for (const name of ['create_routine', 'trigger_routine', 'wait_run', 'read_log', 'stop_run', 'cleanup_workbenches']) {
        assert.ok(names.includes(name), `no tool ${name} among ${names}`);
    }
    for (const tool of tools) {
        assert.ok(tool.title && tool.description && tool.outputSchema, `${tool.name} is not described`);
    }
    assert.deepEqual(await host.tools(), tools, 'the tools are not the same at the second look');
}

async function aRunIsFollowedToItsEnd(host, routine) {
    const triggered = await trigger(host, routine);
    const { id } = triggered;
    const told = [];
    const subscription = await host.subscribe([runUri(id), logUri(id)], (uri) => told.push({ uri, at: performance.now() }));
    const tells = (uri) => () => told.some((update) => update.uri === uri);

    letGo(triggered);
    await until('word of its first line', tells(logUri(id)));
    await until('that line in its log', async () => (await host.read(logUri(id))).text.includes('line 1'));

    const { run, finished } = await host.call('wait_run', { run: id, timeout_secs: 30 });
    assert.equal(finished, true);
    assert.equal(run.status, 'succeeded');
    assert.equal(run.exit_code, 0);
    await until('word of its end', tells(runUri(id)));

    const log = await host.call('read_log', { run: id });
    assert.equal(log.text, COUNTED);
    assert.equal((await host.read(logUri(id))).text, COUNTED);
    const shown = JSON.parse((await host.read(runUri(id))).text);
    assert.equal((shown.run ?? shown).status, 'succeeded');

    await subscription.close();
    onlyWhatWasAskedForAndNotTooOften(told, [runUri(id), logUri(id)]);
    return run;
}

/** At most two a second for one resource; where a second begins is not for a client to know. */
function onlyWhatWasAskedForAndNotTooOften(told, asked) {
    for (const uri of new Set(told.map((update) => update.uri))) {
        assert.ok(asked.includes(uri), `nobody asked for ${uri}`);
        const times = told.filter((update) => update.uri === uri).map((update) => update.at);
        const seconds = (times.at(-1) - times[0]) / 1000;
        assert.ok(times.length <= 2 * (seconds + 1) + 1, `${times.length} updates of ${uri} in ${seconds} s`);
    }
}

async function aWaitIsCancelledAndARunStopped(host, routine) {
    const { id } = await trigger(host, routine);
    const cancel = new AbortController();
    const waiting = host.call('wait_run', { run: id, timeout_secs: 50 }, { signal: cancel.signal });
    const refused = assert.rejects(waiting, 'a cancelled call has no answer');
    // The server takes requests in their order: after this one it has begun to wait.
    await host.call('health', {});
    const began = performance.now();
    cancel.abort();
    await refused;
    assert.equal(await statusOf(host, id), 'running', 'a cancelled wait leaves its run alone');
    assert.ok(performance.now() - began < AT_ONCE, 'cancelling a call took long');

    // This client said of nobody that they can be asked.
    await assert.rejects(host.call('delete_routine', { routine }), /confirm = true/);
    assert.equal(await statusOf(host, id), 'running');

    const { run } = await host.call('stop_run', { run: id });
    assert.equal(run.status, 'stopped');
    return run;
}

async function whatIsThereIsShownInOtherWays(host, run) {
    const uris = (await host.resources()).map((resource) => resource.uri);
    assert.ok(uris.includes('moadim://health') && uris.includes('moadim://usage') && uris.includes(routineUri('counting')), `resources: ${uris}`);
    const templates = (await host.templates()).map((template) => template.uriTemplate).sort();
    assert.deepEqual(templates, [routineUri('{routine}'), runUri('{run}'), logUri('{run}')]);
    const routine = JSON.parse((await host.read(routineUri('counting'))).text);
    assert.equal(routine.prompt, COUNTING);
    await assert.rejects(host.read(runUri('no-such-run-1')), /no-such-run-1/);

    const ofTemplate = (uri) => ({ type: 'ref/resource', uri });
    assert.ok((await host.complete(ofTemplate(runUri('{run}')), 'run', 'counting-')).includes(run));
    assert.deepEqual(await host.complete(ofTemplate(routineUri('{routine}')), 'routine', 'cou'), ['counting']);

    const prompts = (await host.prompts()).map((prompt) => prompt.name).sort();
    assert.deepEqual(prompts, ['diagnose_run', 'morning_report', 'new_routine']);
    const ofPrompt = { type: 'ref/prompt', name: 'diagnose_run' };
    assert.ok((await host.complete(ofPrompt, 'run', 'counting-')).includes(run));
    const [message] = await host.prompt('diagnose_run', { run });
    assert.match(message.content.text, new RegExp(run));
}

async function whatHasExpiredIsRemoved(host, runs) {
    const ids = runs.map((run) => run.id).sort();
    const removed = (answer) => answer.removed.map((one) => one.run).sort();
    const told = [];
    const subscription = await host.subscribe(ids.map(runUri), (uri) => told.push(uri));
    const plan = await until('their retention to pass', async () => {
        const plan = await host.call('cleanup_workbenches', { dry_run: true });
        return plan.removed.length === ids.length && plan;
    });
    assert.equal(plan.dry_run, true);
    assert.deepEqual(removed(plan), ids);
    runs.forEach((run) => assert.ok(existsSync(run.workbench), `${run.workbench} is gone after a dry run`));

    const done = await host.call('cleanup_workbenches', { confirm: true });
    assert.deepEqual(removed(done), ids, 'the real run does what the dry run said');
    assert.deepEqual(done.failed, []);
    assert.ok(done.freed_bytes > 0);
    runs.forEach((run) => assert.ok(!existsSync(run.workbench), `${run.workbench} is still there`));
    await until('word of what was removed', () => ids.every((id) => told.includes(runUri(id))));
    await subscription.close();

    const { runs: listed } = await host.call('list_runs', {});
    assert.deepEqual(listed.map((run) => [run.id, run.status]).sort(), ids.map((id) => [id, 'reaped']));
}
