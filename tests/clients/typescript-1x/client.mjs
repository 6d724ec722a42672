// The TypeScript SDK of the generation before does the jobs of its time:  node client.mjs SERVER [ARGUMENT...]
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { CallToolResultSchema, ElicitRequestSchema, ResourceUpdatedNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { askingJob } from '../javascript/asking-job.mjs';
import { structureOf } from '../javascript/routines.mjs';
import { mainJob } from '../javascript/main-job.mjs';

const [command, ...args] = process.argv.slice(2);

async function connect({ answer }) {
    const client = new Client({ name: 'typescript', version: '1' }, { capabilities: answer ? { elicitation: {} } : {} });
    const heard = new Set();
    client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => heard.forEach((tell) => tell(params.uri)));
    if (answer) client.setRequestHandler(ElicitRequestSchema, ({ params }) => answer(params));
    await client.connect(new StdioClientTransport({ command, args, env: process.env }));

    async function subscribe(uris, tell) {
        heard.add(tell);
        for (const uri of uris) await client.subscribeResource({ uri });
        const close = async () => {
            heard.delete(tell);
            for (const uri of uris) await client.unsubscribeResource({ uri });
        };
        return { close };
    }

    const call = (name, given, options) => client.callTool({ name, arguments: given }, CallToolResultSchema, options);
    return {
        tools: async () => (await client.listTools()).tools,
        call: async (name, given, options) => structureOf(await call(name, given, options)),
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

await mainJob(connect);
await askingJob(connect);
