// Stand-ins for Slurm's programs, with one job at a time, which starts when a case says so.
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Home } from './home.mjs';

/** The folder with the job is the first word of each. */
const PROGRAMS = {
    sbatch: `
for word; do
    case $word in
        --job-name=*) name=\${word#*=} ;;
        --comment=*) token=\${word#*=} ;;
    esac
    script=$word
done
echo "$name|$token" >"$job/name"
printf 'export MOADIM_COOKIE=%s\\nexec sh %s\\n' "$MOADIM_COOKIE" "$script" >"$job/start"
echo 'PENDING||gpu|N/A|Resources' >"$job/state"
echo 17`,
    squeue: `[ ! -e "$job/state" ] || echo "$(cat "$job/name")|17|$(cat "$job/state")"`,
    scancel: `[ "$1" = --batch ] || echo 'CANCELLED||gpu|1|None' >"$job/state"`,
    sinfo: 'echo "node7|idle"',
    scontrol: 'echo "ProctrackType = proctrack/cgroup"',
};

export class ClusterHome extends Home {
    constructor() {
        super('engine = "slurm"\nslurm_partitions = ["gpu"]\n');
        this.job = join(this.folder, 'job');
        const bin = join(this.folder, 'bin');
        for (const folder of [this.job, bin]) mkdirSync(folder);
        for (const [name, text] of Object.entries(PROGRAMS)) {
            writeFileSync(join(bin, name), `#!/bin/sh\njob=${this.job}\n${text}\n`);
            chmodSync(join(bin, name), 0o755);
        }
        this.environment.PATH = `${bin}:${this.environment.PATH}`;
    }

    /** Starts the job on its node. */
    startJob() {
        writeFileSync(join(this.job, 'state'), 'RUNNING|node7|gpu|N/A|None\n');
        const env = { ...this.environment, SLURM_JOB_ID: '17', SLURM_JOB_PARTITION: 'gpu', SLURMD_NODENAME: 'node7' };
        spawn('sh', ['-c', readFileSync(join(this.job, 'start'), 'utf8')], { env, cwd: this.folder, stdio: 'ignore' });
    }
}
