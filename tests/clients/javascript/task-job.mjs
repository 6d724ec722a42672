// What a client does that takes tasks: a run is a task of the same id, to be looked at until it is over.
import assert from 'node:assert/strict';
import { COUNTING, LONG, create, letGo, statusOf, trigger, until, withHost } from './routines.mjs';

/** Waits for a run as for a task, and cancels a task. */
export const taskJob = (connect) =>
    withHost(connect, { tasks: true }, async (host) => {
        await create(host, 'Counting', COUNTING);
        await create(host, 'Long', LONG);

        const triggered = await trigger(host, 'counting');
        const { id } = triggered;
        const waiting = await host.callAsTask('wait_run', { run: id });
        assert.equal(waiting.id, id);
        letGo(triggered);
        const ended = await waiting.outcome();
        assert.equal(ended.status, 'completed');
        const { finished, run } = ended.result.structuredContent;
        assert.equal(finished, true);
        assert.deepEqual([run.id, run.status, run.exit_code], [id, 'succeeded', 0]);

        const long = await host.callAsTask('trigger_routine', { routine: 'long', wait: true });
        assert.match(long.id, /^long-\d+$/);
        assert.equal(await statusOf(host, long.id), 'running');
        await long.cancel();
        await until('the end of its run', async () => (await statusOf(host, long.id)) === 'stopped');
        assert.equal((await long.outcome()).status, 'cancelled');
        for (const routine of ['counting', 'long']) await host.call('delete_routine', { routine });
    });
