// The official TypeScript client does the main job:  node client.mjs MODE SERVER [ARGUMENT...]
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { mainJob, structureOf } from '../javascript/main-job.mjs';

const [mode, command, ...args] = process.argv.slice(2);
const modern = mode !== 'legacy';
const negotiation = mode === 'legacy' || mode === 'auto' ? mode : { pin: mode };

async function connect() {
    const client = new Client({ name: 'typescript', version: '2' }, { versionNegotiation: { mode: negotiation } });
    const heard = new Set();
    client.setNotificationHandler('notifications/resources/updated', ({ params }) => heard.forEach((tell) => tell(params.uri)));
    await client.connect(new StdioClientTransport({ command, args, env: process.env }));
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

    return {
        tools: async () => (await client.listTools({}, { cacheMode: 'refresh' })).tools,
        call: async (name, given, options) => structureOf(await client.callTool({ name, arguments: given }, options)),
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
