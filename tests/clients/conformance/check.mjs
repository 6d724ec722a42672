// Runs the conformance suite's scenarios that fit:  node check.mjs FOLDER SERVER [ARGUMENT...]
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openBridge } from './bridge.mjs';
import { DOES_NOT_FIT, FITS } from './scenarios.mjs';

const SUITE = fileURLToPath(new URL('node_modules/@modelcontextprotocol/conformance/dist/index.js', import.meta.url));
const VERSIONS = ['2025-06-18', '2025-11-25', '2026-07-28'];
const AT_ONCE = 2;

const [folder, command, ...args] = process.argv.slice(2);
const execute = promisify(execFile);
const suite = (...words) => execute(process.execPath, [SUITE, ...words], { timeout: 60_000, killSignal: 'SIGKILL', maxBuffer: 1 << 26 });

/** Gives the versions of each scenario; those of extensions have none. */
async function scenarios() {
    const { stdout } = await suite('list', '--server');
    const lines = [...stdout.matchAll(/^ {2}- (\S+) \[(.*)\]$/gm)];
    return new Map(lines.map(([, name, versions]) => [name, versions.split(',').filter((one) => VERSIONS.includes(one))]));
}

/** Gives what each check of a scenario found. */
async function run(url, name, version) {
    const results = join(folder, `${name}-${version ?? 'extension'}`);
    const words = ['server', '--url', url, '--scenario', name, '-o', results];
    // It exits with an error where a check that does not fit has failed; what it found is in a file.
    const { stdout, stderr } = await suite(...words, ...(version ? ['--spec-version', version] : [])).catch((error) => error);
    let files = [];
    try {
        files = readdirSync(results, { recursive: true }).filter((file) => file.endsWith('.json'));
    } finally {
        assert.ok(files.length, `${name} came to nothing: ${stdout}${stderr}`);
    }
    return files.flatMap((file) => JSON.parse(readFileSync(join(results, file), 'utf8')));
}

const known = await scenarios();
const listed = [...Object.keys(FITS), ...Object.keys(DOES_NOT_FIT)].sort();
assert.deepEqual([...known.keys()].sort(), listed, 'the suite has other scenarios than scenarios.mjs');

const jobs = [...known].filter(([name]) => FITS[name]).flatMap(([name, versions]) => (versions.length ? versions : [undefined]).map((version) => [name, version]));
const faults = [];
let succeeded = 0;
const count = jobs.length;
const bridge = await openBridge(command, args);
async function work() {
    for (let job; (job = jobs.shift()); ) {
        const [name, version] = job;
        for (const { id, status, errorMessage } of await run(bridge.url, name, version)) {
            if (status === 'SUCCESS') succeeded += 1;
            else if (status !== 'INFO' && !FITS[name][id]) faults.push(`${name} (${version}): ${status} of ${id}: ${errorMessage}`);
        }
    }
}
try {
    await Promise.all(Array.from({ length: AT_ONCE }, work));
} finally {
    await bridge.close();
}
assert.ok(!faults.length, faults.join('\n'));
console.log(`${succeeded} checks of ${count} scenarios`);
