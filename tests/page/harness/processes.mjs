// Which processes belong to a folder: whatever is started by a test has one of its folders in its environment or arguments,
// and hands it on, whatever becomes of its parent.
import { readFileSync, readdirSync } from 'node:fs';
import { until } from './until.mjs';

function read(path) {
    try {
        return readFileSync(path, 'latin1');
    } catch {
        return '';
    }
}

/** Lists the living processes that have to do with `folder`, but for this one. */
export function processesOf(folder) {
    const found = [];
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
        const command = read(`/proc/${pid}/cmdline`);
        // Dead ones that nobody has waited for yet have no command line.
        if (command && (command.includes(folder) || read(`/proc/${pid}/environ`).includes(folder))) {
            found.push({ pid: Number(pid), command: command.replaceAll('\0', ' ').trim() });
        }
    }
    return found;
}

/** Kills all of them, also those that are being started meanwhile. */
export async function endProcessesOf(folder) {
    await until(`end of the processes of ${folder}`, () => {
        const left = processesOf(folder);
        for (const { pid } of left) {
            try {
                process.kill(pid, 'SIGKILL');
            } catch {
                // It has just gone.
            }
        }
        return left.length === 0;
    });
}
