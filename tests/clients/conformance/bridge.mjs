// Lets a client of the HTTP transport talk with a server that has only stdin and stdout. It listens on the loopback address
// alone, and adds nothing of its own: what a server says is what comes out.
//
// A session of the legacy era has a server of its own, for as long as it lasts. A request of the modern era has one for
// itself, which is gone after the answer: that era keeps no state in connections, and this shows that we do not either.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

const VERSION = 'io.modelcontextprotocol/protocolVersion';
const isModern = (message) => message.method === 'server/discover' || message.params?._meta?.[VERSION] !== undefined;

/** Starts one; gives its address, and how to end it with every server behind it. */
export async function openBridge(command, args) {
    const servers = new Set();
    const sessions = new Map();

    function start(hear) {
        const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
        const gone = new Promise((resolve) => child.on('close', resolve));
        const server = {
            say: (message) => child.stdin.write(JSON.stringify(message) + '\n'),
            end: () => child.stdin.end(),
            gone,
        };
        child.stdin.on('error', () => {});
        createInterface({ input: child.stdout }).on('line', (line) => hear(JSON.parse(line)));
        servers.add(server);
        gone.then(() => servers.delete(server));
        return server;
    }

    function answerOnce(message, response) {
        const stream = streamOf(response, message.id);
        const server = start((said) => {
            stream.say(said);
            if (said.id === message.id && !said.method) server.end();
        });
        server.gone.then(() => stream.end());
        response.on('close', server.end);
        server.say(message);
    }

    function openSession(message, response) {
        const id = randomUUID();
        const session = { id, streams: new Set(), listener: undefined };
        session.server = start((said) => {
            const asked = [...session.streams].find((stream) => !said.method && stream.answers === said.id);
            // What belongs to no answer goes where somebody listens: to the request under way, which it is likely about, or to
            // the stream for everything else.
            const stream = asked ?? [...session.streams].at(-1) ?? session.listener;
            stream?.say(said);
            if (!asked) return;
            session.streams.delete(asked);
            asked.end();
        });
        sessions.set(id, session);
        response.setHeader('mcp-session-id', id);
        ask(session, message, response);
    }

    function ask(session, message, response) {
        session.streams.add(streamOf(response, message.id));
        session.server.say(message);
    }

    async function handle(request, response) {
        const refuse = (status) => response.writeHead(status).end();
        const session = sessions.get(request.headers['mcp-session-id']);
        if (request.method === 'DELETE') {
            if (!session) return refuse(404);
            sessions.delete(session.id);
            session.server.end();
            return refuse(200);
        }
        if (request.method === 'GET') {
            if (!session) return refuse(405);
            session.listener = streamOf(response);
            return response.flushHeaders();
        }
        if (request.method !== 'POST') return refuse(405);
        const message = JSON.parse(await textOf(request));
        if (message.id !== undefined && isModern(message)) return answerOnce(message, response);
        if (message.method === 'initialize') return openSession(message, response);
        if (!session) return refuse(request.headers['mcp-session-id'] ? 404 : 400);
        if (message.method && message.id !== undefined) return ask(session, message, response);
        session.server.say(message);
        return refuse(202);
    }

    const http = createServer((request, response) => {
        // A page in somebody's browser that was led here asks for another host.
        if (!/^127\.0\.0\.1:\d+$/.test(request.headers.host ?? '')) return response.writeHead(403).end();
        handle(request, response).catch((error) => response.writeHead(400).end(String(error)));
    });
    await new Promise((resolve) => http.listen(0, '127.0.0.1', resolve));
    const close = async () => {
        http.closeAllConnections();
        http.close();
        const gone = [...servers].map((server) => server.gone);
        servers.forEach((server) => server.end());
        await Promise.all(gone);
    };
    return { url: `http://127.0.0.1:${http.address().port}/mcp`, close };
}

/** One stream of events; the transport gives an error that is all there is to say a status of its own. */
function streamOf(response, answers) {
    const isAllError = (said) => said.error && said.id === answers && !response.headersSent;
    const head = { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' };
    response.statusCode = 200;
    for (const [name, value] of Object.entries(head)) response.setHeader(name, value);
    return {
        answers,
        say(said) {
            if (response.writableEnded) return;
            if (isAllError(said)) {
                response.setHeader('content-type', 'application/json');
                response.writeHead(said.error.code === -32601 ? 404 : 400).end(JSON.stringify(said));
            } else {
                response.write(`event: message\ndata: ${JSON.stringify(said)}\n\n`);
            }
        },
        end: () => response.end(),
    };
}

async function textOf(request) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    return Buffer.concat(chunks).toString('utf8');
}
