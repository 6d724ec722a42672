// A home as it is after some weeks of use, for a picture.
import { Home } from './home.mjs';

const HOUR = 3600;
const DAY = 24 * HOUR;

const ROUTINES = [
    { slug: 'dependency-updates', title: 'Dependency updates', schedule: '0 3 * * 1-5', agent: 'claude', secs: 1270, cost: 0.61, good: 0.92, says: ['2 updates, all tests pass', 'Nothing to update', '1 update; 1 held back: it needs a newer compiler'] },
    { slug: 'flaky-test-hunt', title: 'Hunt flaky tests', schedule: '0 */6 * * *', agent: 'codex', secs: 610, good: 0.72, says: ['900 runs without a failure', 'timing::sweep_is_quick fails 1 time in 300', 'Two suspects, a fix for one'] },
    { slug: 'issue-triage', title: 'Triage new issues', schedule: '0 */2 * * *', agent: 'claude', secs: 185, cost: 0.08, good: 0.96, says: ['3 new issues labelled, 1 answered', 'No new issue', '1 duplicate found'] },
    { slug: 'docs-links', title: 'Docs: check links', schedule: '30 5 * * *', agent: 'gemini', secs: 256, good: 0.84, says: ['All 412 links answer', '2 links are dead', 'All 409 links answer'] },
    { slug: 'morning-briefing', title: 'Morning briefing', schedule: '0 7 * * *', agent: 'claude', secs: 421, cost: 0.22, good: 0.97, says: ['4 things want you today', 'A quiet night', '2 reviews wait for you'] },
    { slug: 'parser-refactoring', title: 'Refactoring spike: parser', agent: 'claude', secs: 3900, cost: 1.9, good: 1, bad: 2, says: ['The lexer is split; 3 tests are left', 'It compiles, and is slower'] },
    { slug: 'release-notes', title: 'Translate release notes', schedule: '0 12 * * 5', agent: 'opencode', secs: 1690, cost: 0.31, good: 1, says: ['4 languages are up to date'], flags: ['--disabled'] },
    { slug: 'security-audit', title: 'Weekly security audit', schedule: '0 2 * * 0', agent: 'claude', secs: 4020, cost: 1.2, good: 0.75, says: ['No advisory concerns us', '1 advisory, not reachable'] },
];
const BAD = [
    { status: 'failed', exit_code: 1, reason: 'its agent exited with status 1' },
    { status: 'timed_out', reason: 'it ran for longer than 2 h' },
    { status: 'failed', exit_code: 0, verified: false, reason: 'the agent reports success, verification failed: npm exited with status 1: 2 tests failed' },
    { status: 'silent', reason: 'it printed nothing for 15 min' },
];

/** Numbers that look random, and are the same each time. */
function numbers(seed) {
    let state = seed;
    return () => {
        state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
        return state / 2_147_483_648;
    };
}

const WORKING = [
    'i=0; while :; do i=$((i+1)); printf "[%s] run %d of 900: ok, 412 tests\\n" "$(date +%H:%M:%S)" "$i"; sleep 0.05; done',
    'head -c 24000000 /dev/urandom > build; git init -q -b fix-lexer src; echo draft > src/lexer.rs; echo "reading src/lexer.rs"; exec sleep 600',
];

export async function livedIn() {
    const home = new Home();
    const now = Math.floor(Date.now() / 1000);
    for (const [place, { slug, title, schedule, agent, secs, cost, good, says, bad = 0, flags = [] }] of ROUTINES.entries()) {
        const when = schedule ? ['--schedule', schedule, '--timezone', 'UTC'] : [];
        const prompt = { 'flaky-test-hunt': WORKING[0], 'parser-refactoring': WORKING[1] }[slug] ?? report(says[0]);
        await home.create(title, prompt, '--slug', slug, '--max-runtime', '2h', ...when, ...flags);
        const random = numbers(17 + place * 101);
        const fires = schedule ? past(schedule, now, 27) : [9, 6, 3, 2].map((days) => now - days * DAY - place * 611);
        home.addHistory(fires.length, (n) => ({
            routine: slug,
            agent,
            at: fires[n],
            secs: Math.round(secs * (0.6 + random() * 0.8)),
            ...((random() > good || n >= fires.length - bad) && BAD[Math.floor(random() * BAD.length)]),
            report: { headline: says[n % says.length] },
            ...(cost && { output: { usage: { input_tokens: 41_000, output_tokens: 3_100, cost_usd: Number((cost * (0.7 + random() * 0.6)).toFixed(4)) } } }),
        }));
    }
    await home.runToEnd('issue-triage', 'succeeded');
    await home.runToEnd('morning-briefing', 'succeeded');
    for (const slug of ['flaky-test-hunt', 'parser-refactoring']) await home.runIs(await home.trigger(slug), 'running');
    return home;
}

const report = (says) => `printf "# ${says}\\n" > report.md; head -c 9000000 /dev/urandom > checkout; echo done`;

/** When a schedule of hours and weekdays has fired, as far as these need it. */
function past(schedule, now, days) {
    const [minute, hour, , , weekday] = schedule.split(' ');
    const matches = (field, value) => {
        if (field === '*') return true;
        if (field.startsWith('*/')) return value % Number(field.slice(2)) === 0;
        const [first, last = first] = field.split('-').map(Number);
        return first <= value && value <= last;
    };
    const fires = [];
    for (let at = Math.floor((now - days * DAY) / HOUR) * HOUR; at < now - 7000; at += HOUR) {
        const time = new Date(at * 1000);
        if (matches(hour, time.getUTCHours()) && matches(weekday, time.getUTCDay())) fires.push(at + Number(minute) * 60 + 2);
    }
    return fires;
}
