// What a client does that can show a person a question: it is asked before something is done that cannot be undone.
import assert from 'node:assert/strict';
import { LONG, create, statusOf, trigger, withHost } from './routines.mjs';

/** Deletes a routine that has a live run: the person says no in every way, and then yes. */
export async function askingJob(connect) {
    const questions = [];
    let answer;
    const wishes = { answer: (question) => (questions.push(question), answer) };
    await withHost(connect, wishes, async (host) => {
        await create(host, 'Long', LONG);
        const { id } = await trigger(host, 'long');
        const refusals = [{ action: 'decline' }, { action: 'cancel' }, { action: 'accept', content: { confirm: 'No, leave it' } }];
        for (answer of refusals) {
            await assert.rejects(host.call('delete_routine', { routine: 'long' }), /not done/);
            assert.equal(await statusOf(host, id), 'running');
        }
        answer = { action: 'accept', content: { confirm: 'Yes, do it' } };
        const done = await host.call('delete_routine', { routine: 'long' });
        assert.deepEqual([done.deleted, done.stopped], ['long', [id]]);
        assert.equal(await statusOf(host, id), 'stopped');
        assert.deepEqual((await host.call('list_routines', {})).routines, []);

        assert.equal(questions.length, 4);
        for (const { message, requestedSchema } of questions) {
            assert.ok(message.includes('long') && message.includes(id), message);
            assert.deepEqual(requestedSchema.required, ['confirm']);
            assert.deepEqual(requestedSchema.properties.confirm.enum, ['No, leave it', 'Yes, do it']);
        }
    });
}
