// Waiting for a state: asking again until a deadline, never for a fixed time.
import { setTimeout as pause } from 'node:timers/promises';

/** How long a state may take on a busy machine. */
export const PATIENCE_MS = 20_000;

/** Asks until the answer is neither false nor nothing, and gives it. An error counts as no answer, and is told at the end. */
export async function until(what, ask, { within = PATIENCE_MS, every = 40 } = {}) {
    const deadline = performance.now() + within;
    let last;
    for (;;) {
        try {
            const answer = await ask();
            if (answer) return answer;
            last = undefined;
        } catch (error) {
            last = error;
        }
        if (performance.now() > deadline) throw new Error(`in ${within} ms there was no ${what}`, { cause: last });
        await pause(every);
    }
}
