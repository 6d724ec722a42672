// The official TypeScript client does every job:  node client.mjs MODE SERVER [ARGUMENT...]
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { createTaskSessionFromClient } from '@modelcontextprotocol/ext-tasks/client';
import { askingJob } from '../javascript/asking-job.mjs';
import { structureOf } from '../javascript/routines.mjs';
import { mainJob } from '../javascript/main-job.mjs';
import { taskJob } from '../javascript/task-job.mjs';

const [mode, command, ...args] = process.argv.slice(2);
const modern = mode !== 'legacy';
const negotiation = mode === 'legacy' || mode === 'auto' ? mode : { pin: mode };
const clientInfo = { name: 'typescript', version: '2' };

async function connect(wishes) {
    const capabilities = {
        ...(wishes.answer && { elicitation: { form: {} } }),
        ...(wishes.tasks && { extensions: { 'io.modelcontextprotocol/tasks': {} } }),
    };
    const client = new Client(clientInfo, { capabilities, versionNegotiation: { mode: negotiation } });
    const heard = new Set();
    client.setNotificationHandler('notifications/resources/updated', ({ params }) => heard.forEach((tell) => tell(params.uri)));
    if (wishes.answer) client.setRequestHandler('elicitation/create', ({ params }) => wishes.answer(params));
    const transport = new StdioClientTransport({ command, args, env: process.env });
    await client.connect(transport);
    if ((client.getProtocolEra() === 'modern') !== modern) throw new Error(`it speaks ${client.getNegotiatedProtocolVersion()}`);

    // One `listen` for all of them in the modern era, a request for each in the one before.
    async function subscribe(uris, tell) {
        heard.add(tell);
        if (modern) {
            const listening = await client.listen({ resourceSubscriptions: uris });
            const { resourceSubscriptions: honored } = listening.honoredFilter;
            if (String(honored) !== String(uris)) throw new Error(`asked to hear of ${uris}, will hear of ${honored}`);
            return { close: () => (heard.delete(tell), listening.close()) };
        }
        for (const uri of uris) await client.subscribeResource({ uri });
        const close = async () => {
            heard.delete(tell);
            for (const uri of uris) await client.unsubscribeResource({ uri });
        };
        return { close };
    }

    let session;
    async function callAsTask(name, given) {
        session ??= createTaskSessionFromClient(client, {
            endpointId: 'server',
            rawDispatch: rawDispatch(transport),
            v2RequestFraming: { protocolVersion: client.getNegotiatedProtocolVersion(), clientInfo, clientCapabilities: capabilities },
        });
        const execution = await session.callTool(name, given);
        if (execution.kind !== 'task') throw new Error(`${name} was answered without a task`);
        const outcome = async () => (await execution.settle()).outcome;
        return { id: execution.handle.taskId, outcome, cancel: () => session.task(execution.handle.taskId).cancel() };
    }

    return {
        tools: async () => (await client.listTools({}, { cacheMode: 'refresh' })).tools,
        call: async (name, given, options) => structureOf(await client.callTool({ name, arguments: given }, options)),
        callAsTask,
        subscribe,
        read: async (uri) => (await client.readResource({ uri })).contents[0],
        resources: async () => (await client.listResources()).resources,
        templates: async () => (await client.listResourceTemplates()).resourceTemplates,
        complete: async (ref, name, value) => (await client.complete({ ref, argument: { name, value } })).completion.values,
        prompts: async () => (await client.listPrompts()).prompts,
        prompt: async (name, given) => (await client.getPrompt({ name, arguments: given })).messages,
        close: () => client.close(),
    };
}

/** The client itself takes no task for an answer; its companion sends such calls past it, over the same connection. */
function rawDispatch(transport) {
    const waiting = new Map();
    const deliver = transport.onmessage;
    transport.onmessage = (message, extra) => {
        const answer = waiting.get(message.id);
        if (!answer) return deliver(message, extra);
        waiting.delete(message.id);
        answer(message.error ? { kind: 'error', error: message.error } : { kind: 'result', result: message.result });
    };
    return (request) =>
        new Promise((resolve, reject) => {
            const id = `task-${crypto.randomUUID()}`;
            waiting.set(id, resolve);
            transport.send({ ...request, jsonrpc: '2.0', id }).catch(reject);
        });
}

await mainJob(connect);
await askingJob(connect);
// Tasks are of the modern era here: what its forerunner had under that name is another thing.
if (modern) await taskJob(connect);
