// Homes that several cases look at.
import { mkdirSync } from 'node:fs';
import { asking, Home, PROMPTS } from './home.mjs';

const DAY = 86_400;
const now = () => Math.floor(Date.now() / 1000);

/** A home with one run of each kind: succeeded with a report, failed twice, with unsaved work, and one that hangs. */
export async function everyday(settings) {
    const home = new Home(settings);
    await home.create('Check links', PROMPTS.succeeds, '--schedule', '30 5 * * *', '--tag', 'docs');
    await home.create('Hunt flaky tests', PROMPTS.fails, '--schedule', '0 */6 * * *');
    await home.create('Write notes', PROMPTS.works);
    await home.create('Wait for review', PROMPTS.hangs, '--max-runtime', '2h');
    await home.runToEnd('check-links', 'succeeded');
    await home.runToEnd('hunt-flaky-tests', 'failed');
    await home.runToEnd('write-notes', 'succeeded');
    await home.runToEnd('hunt-flaky-tests', 'failed');
    home.hanging = await home.trigger('wait-for-review');
    await home.runIs(home.hanging, 'running');
    return home;
}

/** What an attacker would put into a text; `boom` is called if any of it is taken for anything but text. */
export const HOSTILE = {
    script: '<script>boom("script")</script>',
    image: '<img src=x onerror=boom("img")>',
    svg: '</title></style></textarea><svg onload=boom("svg")>',
    link: 'javascript:boom("link")',
    anchor: '[click](javascript:boom(1)) <a href="javascript:boom(2)" onclick=boom(3)>click</a>',
    template: '${boom("template")} {{constructor.constructor("boom(4)")()}}',
    bidi: '\u202egnp.exe\u202c\u2066hidden\u2069\u200f',
    terminal: '\x1b]8;;javascript:boom(5)\x07link\x1b]8;;\x07 \x1b[31mred\x1b[0m\x1b[2J\x1b]0;title\x07',
    word: 'W'.repeat(64 * 1024),
};
const everything = (...names) => names.map((name) => HOSTILE[name]).join(' ');

/** A home in which every text that an agent or a web page can choose is hostile. */
export async function hostile() {
    const home = new Home();
    const { script, image, svg, bidi } = HOSTILE;
    const title = `${script}${image} ${bidi}`;
    const logs = ['terminal', 'bidi', 'script', 'image', 'svg', 'anchor', 'template', 'link', 'word'].map((name) => HOSTILE[name]);
    // As a file, which the prompt prints: a prompt is a script here.
    mkdirSync(home.path('..', 'texts'));
    home.write('../texts/log', `${logs.join('\n')}\n`);
    home.write('../texts/report.md', `# ${everything('script', 'image', 'bidi')}\n\n${logs.join('\n\n')}\n`);
    const texts = home.path('..', 'texts');
    const branch = `x/<img/src=x/onerror=boom()>`;
    const prompt = (end) => [
        `cat ${texts}/log; cp ${texts}/report.md .`,
        `git init -q -b '${branch}' '<script>boom(6)<'`,
        `cd '<script>boom(6)<'; git -c user.name=n -c user.email=n@x.org commit -q --allow-empty -m first; echo draft > '<b onmouseover=boom()>'`,
        `# ${everything('image', 'anchor')}`,
        end,
    ].join('\n');
    // A slug is made by the product; everything else is as hostile as it takes.
    const flags = ['--tag', '<i/onload=boom(7)>', '--tag', 'javascript:boom(8)'];
    await home.create(title, prompt('exit 0'), '--slug', 'good', ...flags);
    await home.create(`${svg} bad`, prompt(`exit 3`), '--slug', 'bad', '--max-consecutive-failures', '2');
    await home.create(`${image} ${'Wide'.repeat(40)}`, prompt('exec sleep 600'), '--slug', 'live');
    // Its agent asks like that, too: at length, and with options that are no words.
    const options = [image, `</script><script>boom(9)</script> ${bidi}`, 'W'.repeat(300)];
    const question = [`# ${everything('script', 'image', 'bidi')}`, HOSTILE.terminal, svg, 'W'.repeat(900), ...options.map((option) => `- ${option}`)];
    await home.create(`${script} asks`, asking(question.join('\n')), '--slug', 'asks');
    home.asked = await home.runToEnd('asks', 'asked');
    home.ended = await home.runToEnd('good', 'succeeded');
    await home.runToEnd('bad', 'failed');
    home.live = await home.trigger('live');
    await home.runIs(home.live, 'running');
    const reasons = [everything('script', 'image'), everything('svg', 'link'), everything('anchor', 'template'), 'W'.repeat(1900)];
    home.addHistory(40, (n) => ({
        routine: ['good', 'bad', 'gone'][n % 3],
        at: now() - 3600 - n * 4000,
        status: ['failed', 'timed_out', 'lost', 'stopped'][n % 4],
        reason: reasons[n % 4],
        ended_by: HOSTILE.image,
        tail: everything('terminal', 'script', 'image'),
        report: { headline: everything('script', 'bidi').slice(0, 200), text: everything('svg', 'terminal', 'anchor') },
        work: [{ path: HOSTILE.image, branch: HOSTILE.script, unpushed_commits: 1, untracked_files: 1 }],
        output: { result: HOSTILE.svg, model: HOSTILE.image, session_id: HOSTILE.link },
        resume_command: `sh -c '${HOSTILE.link}'`,
    }));
    return home;
}

/** A home with `count` ended runs of twenty routines, over some more than four weeks. */
export async function longHistory(count) {
    const home = new Home();
    for (let n = 0; n < 20; n += 1) await home.create(`Routine ${n}`, PROMPTS.succeeds, '--slug', `routine-${n}`, '--schedule', `${n} * * * *`);
    const newest = now() - 120;
    const step = Math.floor((30 * DAY) / count);
    home.addHistory(count, (n) => ({
        routine: `routine-${n % 20}`,
        at: newest - n * step,
        secs: 20 + ((n * 37) % 600),
        ...(n % 9 === 4 && { status: 'failed', exit_code: 1, reason: 'its agent exited with status 1' }),
        ...(n % 31 === 7 && { status: 'timed_out', reason: 'it ran for longer than its bound' }),
        report: { headline: `Run ${n}: nothing to do` },
    }));
    return home;
}
