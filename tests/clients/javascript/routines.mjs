// What the jobs have in common. A host is a client with a server of its own: `connect(wishes)` in the client's folder.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const PATIENCE = 20_000;

/** Prints nothing before it is let go, so that whoever wants to hear of it is there in time. */
export const COUNTING = 'while [ ! -e go ]; do sleep 0.05; done; for n in 1 2 3 4; do echo "line $n"; sleep 0.4; done';
export const COUNTED = 'line 1\nline 2\nline 3\nline 4\n';
export const LONG = 'echo started; sleep 60';

/** Creates a routine, whose slug is its title's. */
export async function create(host, title, prompt) {
    const wanted = { title, prompt, agent: 'shell', ttl_secs: 1, failed_ttl_secs: 1, tags: ['client'] };
    const { routine } = await host.call('create_routine', wanted);
    assert.equal(routine.slug, title.toLowerCase());
    assert.equal(routine.title, title);
    assert.equal(routine.ttl_secs, 1);
}

/** Starts a run. */
export async function trigger(host, routine) {
    const { run } = await host.call('trigger_routine', { routine });
    assert.equal(run.routine, routine);
    assert.equal(run.status, 'running');
    return run;
}

/** Lets a run go that counts. */
export function letGo(run) {
    writeFileSync(join(run.workbench, 'go'), '');
}

/** Tells how a run is. */
export async function statusOf(host, run) {
    return (await host.call('get_run', { run })).run.status;
}

/** Does something with a host of its own. */
export async function withHost(connect, wishes, act) {
    const host = await connect(wishes);
    try {
        await act(host);
    } finally {
        await host.close();
    }
}

/** Asks `look` again and again until it gives something. */
export async function until(what, look) {
    const deadline = performance.now() + PATIENCE;
    for (;;) {
        const seen = await look();
        if (seen) return seen;
        assert.ok(performance.now() < deadline, `waited in vain for ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
}

/** Gives the structure of a tool's answer, which its text must hold too: hosts show one or the other. */
export function structureOf(answer) {
    const text = answer.content.map((block) => block.text).join('\n');
    if (answer.isError) throw new Error(text);
    assert.deepEqual(JSON.parse(text), answer.structuredContent);
    return answer.structuredContent;
}
