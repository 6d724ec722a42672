// Stands between a client and the server, and writes down every line that passes, in both directions:
//
//     node record.mjs FOLDER SERVER [ARGUMENT...]
//
// Each start makes a file of its own in FOLDER: a client may start a server more than once. What passes is handed on byte
// for byte; how the server ended is the file's last line.
import { spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

const [folder, program, ...args] = process.argv.slice(2);
const file = join(folder, `${Date.now()}-${process.pid}.jsonl`);
const began = performance.now();
const now = () => Math.round(performance.now() - began);
const note = (entry) => appendFileSync(file, JSON.stringify({ at: now(), ...entry }) + '\n');

// Notes the lines of one direction, however they were cut into chunks.
function lines(from) {
    let rest = Buffer.alloc(0);
    const add = (chunk) => {
        rest = Buffer.concat([rest, chunk]);
        for (let end; (end = rest.indexOf(10)) >= 0; rest = rest.subarray(end + 1)) {
            note({ from, line: rest.subarray(0, end).toString('utf8') });
        }
    };
    const finish = () => rest.length && note({ from, unfinished: rest.toString('utf8') });
    return { add, finish };
}

const server = spawn(program, args, { stdio: 'pipe' });
const said = { client: lines('client'), server: lines('server'), stderr: lines('stderr') };
let closed;

process.stdin.on('data', (chunk) => {
    said.client.add(chunk);
    server.stdin.write(chunk);
});
process.stdin.on('end', () => {
    closed ??= now();
    said.client.finish();
    server.stdin.end();
});
// A server that is gone is told by its end; a client that is gone, by its silence.
server.stdin.on('error', () => {});
process.stdout.on('error', () => {});

server.stdout.on('data', (chunk) => {
    said.server.add(chunk);
    process.stdout.write(chunk);
});
server.stderr.on('data', (chunk) => {
    said.stderr.add(chunk);
    process.stderr.write(chunk);
});

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) {
    process.on(signal, () => {
        note({ signal });
        server.kill(signal);
    });
}
server.on('error', (error) => {
    note({ failed: String(error) });
    process.exit(1);
});
server.on('close', (code, signal) => {
    said.server.finish();
    said.stderr.finish();
    note({ exit: { code, signal, after: closed === undefined ? null : now() - closed } });
    process.exit(code ?? 1);
});
